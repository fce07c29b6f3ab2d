"""Where a connection really goes: to the address behind a name, checked to be public, or to one that is set.

Recipes and recorded commands name hosts; a stranger's must not make this machine talk to what only this
machine can reach (itself, its network, a cloud's metadata). So a name is resolved once, every address is
looked at, and the connection goes to one of these very addresses: a second answer of the name server
changes nothing. Knows nothing of HTTP.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from reprobuild.errors import UpstreamError, UsageError

if TYPE_CHECKING:
    from reprobuild.settings import Settings

EVERY = "*"
"""In ``allow_private``: all hosts."""

_PART = r"(\[[0-9A-Fa-f:.%]*\]|[^:\[\]]*)"
_CONNECT_TO = re.compile(rf"{_PART}:([0-9]*):{_PART}:([0-9]*)")

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SIX_TO_FOUR = ipaddress.ip_network("2002::/16")


class NotPublicError(UpstreamError):
    """A host of which an address is not public, and which nobody has allowed."""

    def __init__(self, message: str, hint: str = "", *, host: str = "") -> None:
        super().__init__(message, hint)
        self.host = host


class Reach:
    """What may be connected to, by the settings; for many threads."""

    def __init__(self, settings: Settings) -> None:
        """Raises UsageError for a ``connect_to`` that makes no sense."""
        self._settings = settings
        self._instead = dict(map(parse_connect_to, settings.connect_to))
        self._allowed = {_bare(host) for host in settings.allow_private}
        self._trusted: frozenset[str] | None = None
        self._asking = threading.Lock()
        self._given: set[str] = set()

    def trust(self, hosts: Iterable[str]) -> None:
        """Let more hosts have any address: those that mirrors and indexes of the settings led to."""
        self._given.update(map(_bare, hosts))

    def is_redirected(self, host: str, port: int) -> bool:
        """Whether the settings name another place for a host and port."""
        return self._place(host, port) is not None

    def addresses(self, host: str, port: int) -> list[tuple[str, int]]:
        """Give the addresses to try for a host, in turn, with the port.

        Raises NotPublicError, and OSError (socket.gaierror) where no address is known.
        """
        place = self._place(host, port)
        if place is not None:
            return [place]
        found = socket.getaddrinfo(_bare(host), port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        self._check(host, addresses)
        return [(address, port) for address in addresses]

    def check_literal(self, host: str) -> None:
        """Refuse a host that needs no name server to be known as private: for what a proxy will resolve."""
        name = _bare(host)
        if name == "localhost" or name.endswith(".localhost"):
            self._check(host, ["127.0.0.1"])
        elif _parsed(name) is not None:
            self._check(host, [name])
        elif address := _short_form(name):
            self._check(host, [address])

    def _place(self, host: str, port: int) -> tuple[str, int] | None:
        name = _bare(host)
        for key in ((name, port), (name, 0), ("", port), ("", 0)):
            if key in self._instead:
                address, other = self._instead[key]
                return address or name, other or port
        return None

    def _check(self, host: str, addresses: list[str]) -> None:
        private = next((address for address in addresses if not is_public(address)), None)
        if private is None or EVERY in self._allowed:
            return
        name = _bare(host)
        if name in self._allowed or name in self._given or name in self._hosts_of_settings():
            return
        where = f"the address {private}" if name == private else f"{name} has the address {private}"
        raise NotPublicError(
            f"{where}, which is not public: recipes and recorded commands may not reach it",
            f"if that is meant: reprobuild lock NAME --allow-private {name}, or the setting allow_private",
            host=name,
        )

    def _hosts_of_settings(self) -> frozenset[str]:
        """Give the hosts of mirrors and indexes that settings or this machine's configuration name."""
        with self._asking:  # Downloads ask from many threads, and uv is to be asked once.
            if self._trusted is None:
                self._trusted = self._find_hosts()
            return self._trusted

    def _find_hosts(self) -> frozenset[str]:
        from reprobuild.fetch.apt_sources import read_apt_sources
        from reprobuild.fetch.python_index import python_index

        index = python_index(self._settings.python_index, os.environ)
        urls = [
            *self._settings.debian_mirrors,
            *self._settings.hub_mirrors,
            *index.urls,
            *index.find_links,
        ]
        urls.extend(source.base for source in read_apt_sources())
        if index.uses_default:
            from reprobuild.fetch.uv import default_index

            urls.append(default_index())
        return frozenset(filter(None, map(host_of, urls)))


def host_of(url: str) -> str:
    """Give the host of an address, lower-case, without brackets; ``""`` where it has none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet, not of a machine, a link or a private network.

    An IPv6 address that carries an IPv4 one (mapped, 6to4, NAT64) is what that one is.
    """
    parsed = _parsed(address)
    if parsed is None:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = _carried(parsed)
        if inner is not None:
            return is_public(str(inner))
    return parsed.is_global and not (
        parsed.is_multicast
        or parsed.is_loopback
        or parsed.is_link_local
        or parsed.is_unspecified
        or parsed.is_reserved
        or (parsed.version == 6 and parsed.is_site_local)
    )


def parse_connect_to(text: str) -> tuple[tuple[str, int], tuple[str, int]]:
    """Read ``host:port:address:port`` (curl's ``--connect-to``); an empty part stands for any, or the same.

    Raises UsageError.
    """
    match = _CONNECT_TO.fullmatch(text)
    if match is None or any(int(port or 0) > 65535 for port in (match[2], match[4])):
        raise UsageError(
            f"connect_to: {text!r} is not host:port:address:port",
            "write files.example.org:443:127.0.0.1:8443, an IPv6 address in brackets",
        )
    return (_bare(match[1]), int(match[2] or 0)), (_bare(match[3]), int(match[4] or 0))


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return address.sixtofour
    if int(address) >> 32 == 0 and int(address) > 1:
        return ipaddress.IPv4Address(int(address))  # ::a.b.c.d, deprecated and still parsed
    return None


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None


def _short_form(name: str) -> str:
    """Give the address that resolvers take from ``127.1``, ``0x7f000001`` or ``2130706433``, else ``""``."""
    try:
        return socket.inet_ntoa(socket.inet_aton(name))
    except OSError:
        return ""


def _bare(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()
