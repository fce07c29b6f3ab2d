"""Who asks: user names and passwords of addresses and of ``netrc``, and addresses as they may be shown.

Knows nothing of connections; who may see a credential is decided where requests are made.
"""

from __future__ import annotations

import base64
import ipaddress
import netrc
import os
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from reprobuild.errors import UsageError


def plain(url: str) -> str:
    """Give an address without user name, password and fragment: what may be shown."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return url  # of a recipe's folder: a relative path has no other form
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def without_query(url: str) -> str:
    """Give an address that a redirect led to as it may be shown: queries carry signatures."""
    return urlunsplit(urlsplit(plain(url))._replace(query=""))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, where a secret may travel without TLS; no name but one is."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def basic(parts: SplitResult) -> str:
    """Give the header's value for what an address holds before its ``@``, or ``""``."""
    if not parts.username:
        return ""
    return basic_of(unquote(parts.username), unquote(parts.password or ""))


def basic_of(user: str, password: str) -> str:
    """Give the header's value for a user name and a password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def read_netrc(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Give user name and password by host; the ``default`` entry, which fits any host, is left out."""
    named = environment.get("NETRC")
    home = environment.get("HOME") or os.path.expanduser("~")
    for path in (named,) if named else (f"{home}/.netrc", f"{home}/_netrc"):
        if not path or not os.path.isfile(path):
            continue
        try:
            hosts = netrc.netrc(path).hosts
        except netrc.NetrcParseError as error:
            raise UsageError(f"{path}: {error.msg}, near line {error.lineno}", "mend that line") from None
        except (OSError, UnicodeError):
            continue
        return {host: (login, password or "") for host, (login, _, password) in hosts.items()
                if host != "default"}  # fmt: skip
    return {}
