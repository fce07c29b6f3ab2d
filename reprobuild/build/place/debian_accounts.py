"""Accounts: ``etc/passwd`` and ``etc/group`` from base-passwd, and the users that packages would add.

Knows nothing of passwords: none of these accounts has one. Debian gives system users numbers in the
order of installation; here each has its own, so that no order matters. Sources: base-passwd's postinst,
the postinst or sysusers.d files of the packages named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprobuild.build.place.debian_archive import Deb
from reprobuild.build.place.debian_merge import Merge
from reprobuild.tree import directory, file

if TYPE_CHECKING:
    from reprobuild.store.transaction import Transaction

PASSWD = "etc/passwd"
GROUP = "etc/group"
SHADOW = "etc/shadow"
GSHADOW = "etc/gshadow"
NO_SHELL = "/usr/sbin/nologin"
DAY = 3653
"""1980-01-02 in days since 1970: when passwords were last changed."""

_MASTERS = {PASSWD: "usr/share/base-passwd/passwd.master", GROUP: "usr/share/base-passwd/group.master"}


@dataclass(frozen=True, slots=True)
class Account:
    """A system user with a group of its own name and number."""

    name: str
    number: int
    home: str = "/nonexistent"
    shell: str = NO_SHELL
    comment: str = ""
    has_user: bool = True
    """Else it is a group alone."""
    in_group: str = ""
    """An existing group that is its first one, instead of its own."""


ACCOUNTS: Mapping[str, tuple[Account, ...]] = {
    "apt": (Account("_apt", 42, in_group="nogroup"),),
    "avahi-daemon": (Account("avahi", 140, "/run/avahi-daemon", comment="Avahi mDNS daemon"),),
    "cron": (Account("crontab", 101, has_user=False),),
    "cron-daemon-common": (Account("crontab", 101, has_user=False),),
    "cups": (Account("lpadmin", 141, has_user=False),),
    "dbus-system-bus-common": (Account("messagebus", 100),),
    "libibverbs1": (Account("rdma", 130, has_user=False),),
    "mariadb-server": (Account("mysql", 120, comment="MariaDB Server", shell="/bin/false"),),
    "memcached": (Account("memcache", 121, comment="Memcached", shell="/bin/false"),),
    "openssh-client": (Account("_ssh", 102, has_user=False),),
    "openssh-server": (Account("sshd", 103, "/run/sshd", in_group="nogroup"),),
    "plocate": (Account("plocate", 104, has_user=False),),
    "polkitd": (Account("polkitd", 105, comment="polkit"),),
    "postgresql-common": (
        Account("postgres", 122, "/var/lib/postgresql", "/bin/bash", "PostgreSQL administrator"),
        Account("ssl-cert", 123, has_user=False),
    ),
    "postfix": (Account("postfix", 124, "/var/spool/postfix"), Account("postdrop", 125, has_user=False)),
    "rabbitmq-server": (Account("rabbitmq", 126, "/var/lib/rabbitmq", comment="RabbitMQ messaging server"),),
    "redis-tools": (Account("redis", 127, "/var/lib/redis"),),
    "ssl-cert": (Account("ssl-cert", 123, has_user=False),),
    "systemd": (
        Account("systemd-journal", 110, has_user=False),
        Account("systemd-network", 998, "/", comment="systemd Network Management"),
        Account("systemd-timesync", 997, "/", comment="systemd Time Synchronization"),
        Account("systemd-resolve", 996, "/", comment="systemd Resolver"),
    ),
    "tcpdump": (Account("tcpdump", 128),),
    "udev": (
        Account("input", 111, has_user=False),
        Account("sgx", 112, has_user=False),
        Account("kvm", 113, has_user=False),
        Account("render", 114, has_user=False),
    ),
    "uuid-runtime": (Account("uuidd", 129, "/run/uuidd"),),
}
"""What packages add, by the package whose script does it."""


def configure(debs: Sequence[Deb], merge: Merge, group: Transaction, read: Callable[[str], bytes]) -> None:
    """Make or extend the accounts; ``read`` gives files of the tree below."""
    wanted = [account for deb in debs for account in ACCOUNTS.get(deb.name, ())]
    masters = {path: body for deb in debs for path, body in deb.bodies.items() if path in _MASTERS.values()}
    before = {path: read(path) or masters.get(master, b"") for path, master in _MASTERS.items()}
    has_new = {path: not read(path) and bool(text) for path, text in before.items()}
    groups = before[GROUP] + _missing(before[GROUP], wanted, _group_line)
    numbers = _numbers(groups)
    users = before[PASSWD] + _missing(
        before[PASSWD], [a for a in wanted if a.has_user], lambda a: _user_line(a, numbers)
    )
    has_shadow = any(deb.name == "passwd" for deb in debs)
    if has_shadow:
        users = re.sub(rb"^([^:\n]*):\*:", rb"\1:x:", users, flags=re.MULTILINE)
        groups = re.sub(rb"^([^:\n]*):\*:", rb"\1:x:", groups, flags=re.MULTILINE)
    for path, text in ((GROUP, groups), (PASSWD, users)):
        if text and (has_new[path] or text != before[path]):
            merge.add(file(path, group.add_bytes(text), len(text)))
    for account in wanted:
        if account.has_user and account.home.startswith("/var/lib/") and not merge.has(account.home[1:]):
            merge.add(directory(account.home[1:]))
    if has_shadow:
        for path, text in ((SHADOW, _shadow(users)), (GSHADOW, _gshadow(groups))):
            merge.add(file(path, group.add_bytes(text), len(text), 0o640))


def _missing(text: bytes, wanted: Sequence[Account], line: Callable[[Account], str]) -> bytes:
    """Give the lines of accounts whose names a file does not have, each once."""
    names = {found.partition(b":")[0].decode("utf-8", "replace") for found in text.split(b"\n")}
    lines = []
    for account in sorted(wanted, key=lambda account: account.number):
        if account.name not in names:
            names.add(account.name)
            lines.append(line(account) + "\n")
    return "".join(lines).encode()


def _group_line(account: Account) -> str:
    return f"{account.name}:x:{account.number}:"


def _user_line(account: Account, groups: Mapping[str, int]) -> str:
    number = groups.get(account.in_group or account.name, account.number)
    return f"{account.name}:x:{account.number}:{number}:{account.comment}:{account.home}:{account.shell}"


def _numbers(groups: bytes) -> dict[str, int]:
    fields = (line.split(":") for line in groups.decode("utf-8", "replace").split("\n"))
    return {parts[0]: int(parts[2]) for parts in fields if len(parts) > 2 and parts[2].isdigit()}


def _shadow(users: bytes) -> bytes:
    names = (line.partition(b":")[0] for line in users.split(b"\n") if line)
    return b"".join(b"%s:*:%d:0:99999:7:::\n" % (name, DAY) for name in names)


def _gshadow(groups: bytes) -> bytes:
    return b"".join(b"%s:*::\n" % line.partition(b":")[0] for line in groups.split(b"\n") if line)
