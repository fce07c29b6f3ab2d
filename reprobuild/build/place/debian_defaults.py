"""Files that maintainer scripts copy or link in every new system, as a table.

Knows nothing of accounts, alternatives or certificates. Sources: the postinst scripts of base-files,
libc-bin, debianutils, login, tzdata and python3 in Debian 11 to 13.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reprobuild.build.place.debian_archive import Deb
from reprobuild.build.place.debian_merge import Merge
from reprobuild.tree import directory, file, link

if TYPE_CHECKING:
    from reprobuild.store.transaction import Transaction

LINKS: Mapping[str, Mapping[str, str]] = {
    "base-files": {
        "etc/dpkg/origins/default": "debian",
        "var/lock": "/run/lock",
        "var/run": "/run",
        "var/spool/mail": "../mail",
        "usr/local/man": "share/man",
    },
    "fontconfig-config": {
        f"etc/fonts/conf.d/{name}": f"/usr/share/fontconfig/conf.avail/{name}"
        for name in ("10-hinting-slight.conf", "70-no-bitmaps.conf")
    },
    "tzdata": {"etc/localtime": "/usr/share/zoneinfo/Etc/UTC"},
}
"""Links by package; they stand before packages' own paths, which go through them."""

FOLDERS: Mapping[str, Mapping[str, int]] = {
    "base-files": {
        **dict.fromkeys(("etc/opt", "media", "mnt", "opt", "srv", "var/mail", "var/opt"), 0o755),
        **{
            f"usr/local/{name}": 0o755
            for name in ("bin", "etc", "games", "include", "lib", "sbin", "share", "share/man", "src")
        },
        "run/lock": 0o1777,
    },
    "dbus-daemon": {"var/lib/dbus": 0o755},
    "r-base-core": {"usr/local/lib/R/site-library": 0o755},
    "redis-tools": {"etc/redis": 0o770, "var/lib/redis": 0o750, "var/log/redis": 0o750},
    **{
        f"python3.{minor}-minimal": {f"usr/local/lib/python3.{minor}/dist-packages": 0o755}
        for minor in range(7, 16)
    },
}
"""Directories by package, with their modes."""

COPIES: Mapping[str, Mapping[str, str]] = {
    "base-files": {
        "root/.bashrc": "usr/share/base-files/dot.bashrc",
        "root/.profile": "usr/share/base-files/dot.profile",
        "etc/profile": "usr/share/base-files/profile",
        "etc/motd": "usr/share/base-files/motd",
        "usr/share/info/dir": "usr/share/base-files/info.dir",
    },
    "libc-bin": {"etc/nsswitch.conf": "usr/share/libc-bin/nsswitch.conf"},
    "r-base-core": {"etc/R/Renviron": "usr/lib/R/etc/Renviron.ucf"},
    "readline-common": {"etc/inputrc": "usr/share/readline/inputrc"},
}
"""Copies by package: path → where its bytes come from, in the same package."""

_SESSION = (
    b"session [default=1] pam_permit.so\nsession requisite pam_deny.so\n"
    b"session required pam_permit.so\nsession required pam_unix.so\n"
)

TEXTS: Mapping[str, Mapping[str, bytes]] = {
    "libpam-modules": {"etc/environment": b"", "etc/security/opasswd": b""},
    "libpam-runtime": {
        "etc/pam.d/common-account": b"account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so\n"
        b"account requisite pam_deny.so\naccount required pam_permit.so\n",
        "etc/pam.d/common-auth": b"auth [success=1 default=ignore] pam_unix.so nullok\n"
        b"auth requisite pam_deny.so\nauth required pam_permit.so\n",
        "etc/pam.d/common-password": b"password [success=1 default=ignore] pam_unix.so obscure yescrypt\n"
        b"password requisite pam_deny.so\npassword required pam_permit.so\n",
        "etc/pam.d/common-session": _SESSION,
        "etc/pam.d/common-session-noninteractive": _SESSION,
    },
    "login": {"etc/subgid": b"", "etc/subuid": b""},
    "netbase": {"etc/networks": b"default 0.0.0.0\nloopback 127.0.0.0\nlink-local 169.254.0.0\n"},
    "python3": {
        "etc/python3/debian_config": b"[DEFAULT]\n"
        b"# how to byte-compile (comma separated: standard, optimize)\nbyte-compile = standard\n",
    },
    "tzdata": {"etc/timezone": b"Etc/UTC\n"},
    "unixodbc-common": {"etc/odbcinst.ini": b""},
}
"""Small files by package."""


def link_first(debs: Sequence[Deb], merge: Merge) -> None:
    """Make the table's links, before the packages are added."""
    for deb in debs:
        for path, target in LINKS.get(deb.name, {}).items():
            merge.add(link(path, target))


def configure(debs: Sequence[Deb], merge: Merge, group: Transaction) -> None:
    """Make the rest of the table, where no package has something of that path."""
    for deb in debs:
        for path, mode in FOLDERS.get(deb.name, {}).items():
            if not merge.has(path):
                merge.add(directory(path, mode))
        texts = dict(TEXTS.get(deb.name, {}))
        texts.update(
            (path, deb.bodies[origin])
            for path, origin in COPIES.get(deb.name, {}).items()
            if origin in deb.bodies
        )
        if deb.name == "debianutils":
            texts["etc/shells"] = _shells(debs)
        for path, data in sorted(texts.items()):
            if not merge.has(path):
                merge.add(file(path, group.add_bytes(data), len(data)))


def _shells(debs: Sequence[Deb]) -> bytes:
    """Give the list of login shells, each also below ``/usr``, as ``update-shells`` writes it."""
    folder = "usr/share/debianutils/shells"
    bodies = {path: data for deb in debs for path, data in deb.bodies.items() if path.startswith(folder)}
    lines = bodies.pop(folder, b"").decode("utf-8", "replace").splitlines()
    for _, data in sorted(bodies.items()):
        for shell in data.decode("utf-8", "replace").split():
            twin = shell if shell.startswith("/usr/") else "/usr" + shell
            lines.extend(name for name in dict.fromkeys((shell, twin)) if name not in lines)
    return "".join(line + "\n" for line in lines).encode()
