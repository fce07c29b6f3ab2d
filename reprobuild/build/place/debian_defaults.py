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
    "debianutils": {"etc/shells": "usr/share/debianutils/shells"},
    "libc-bin": {"etc/nsswitch.conf": "usr/share/libc-bin/nsswitch.conf"},
}
"""Copies by package: path → where its bytes come from, in the same package."""

TEXTS: Mapping[str, Mapping[str, bytes]] = {
    "login": {"etc/subgid": b"", "etc/subuid": b""},
    "tzdata": {"etc/timezone": b"Etc/UTC\n"},
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
        for path, data in sorted(texts.items()):
            if not merge.has(path):
                merge.add(file(path, group.add_bytes(data), len(data)))
