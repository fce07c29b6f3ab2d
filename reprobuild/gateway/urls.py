"""Addresses of requests: one written form for each, and none with a secret in it.

Pure functions; knows nothing of exchanges or sockets. ``shown`` is the form that names an exchange;
``unsigned`` is what a client is told to follow, where a redirect carries a signature.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote_plus, urlsplit, urlunsplit

from reprobuild.derivation.exchange import MASK

DEFAULT_PORTS = {"http": 80, "https": 443}

SECRET = frozenset({
    "token", "access_token", "auth_token", "id_token", "refresh_token", "api_token", "private_token",
    "apikey", "api_key", "api-key", "x-api-key", "key", "password", "passwd", "pwd", "pass", "secret",
    "client_secret", "auth", "authorization", "credential", "credentials", "session", "sessionid",
    "session_id", "jwt", "bearer", "oauth_token", "code_verifier",
})  # fmt: skip
"""Names of query parameters whose values are not shown."""

_SIGNED = re.compile(r"x-(?:amz|goog)-.*|signature|key-pair-id|awsaccesskeyid|googleaccessid|sig|hdnea|hdnts")
"""Names (lower case) that only signed addresses have."""
_OF_SIGNATURE = frozenset({
    "expires", "policy", "se", "sp", "sr", "sv", "st", "spr", "skoid", "sktid", "skt", "ske", "sks",
    "skv", "ss", "srt", "sip", "token", "hash-algorithm",
})  # fmt: skip
"""Names that belong to a signature where there is one."""

_ESCAPED = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_OUTSIDE = re.compile(r"[^!-~]")
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})|\[[0-9A-Fa-f:.]+\])\.?")


def join(scheme: str, authority: str, target: str) -> str:
    """Give the address that a request means: its ``Host``, its path and query as they were sent.

    Raises ValueError for a host or a port that is none.
    """
    host, port = split_host(authority)
    shown_port = f":{port}" if port and port != DEFAULT_PORTS[scheme] else ""
    path = target if target.startswith("/") else "/" + target
    return f"{scheme}://{host}{shown_port}{_one_form(path.partition('#')[0])}"


def split_host(authority: str) -> tuple[str, int]:
    """Give host (lower case) and port (0 where none is named). Raises ValueError."""
    authority = authority.rpartition("@")[2].strip()
    match = re.fullmatch(r"(.+?|\[.+\])(?::([0-9]{0,5}))?", authority)
    if match is None or not _HOST.fullmatch(match[1]) or int(match[2] or 0) > 65535:
        raise ValueError(f"no host: {authority[:100]!r}")
    host = match[1].lower().rstrip(".")
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError(f"no host: {host[:100]!r}") from None
    return host, int(match[2] or 0)


def shown(url: str) -> str:
    """Give an address as it names an exchange: signatures left out, values of secrets masked."""
    return _without(url, masked=True)


def unsigned(url: str) -> str:
    """Give the address that a redirect is passed on as: without signature and tokens."""
    return _without(url, masked=False)


def is_signed(url: str) -> bool:
    """Whether an address carries a signature, and so will be another one next time."""
    return any(_SIGNED.fullmatch(_name(part)) for part in urlsplit(url).query.split("&"))


def without_user(url: str) -> str:
    """Give an address without what is before its ``@``, and without its fragment."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def _without(url: str, *, masked: bool) -> str:
    parts = urlsplit(without_user(url))
    if not parts.query:
        return urlunsplit(parts)
    signed = is_signed(url)
    kept = []
    for part in parts.query.split("&"):
        name = _name(part)
        if _SIGNED.fullmatch(name) or (signed and name in _OF_SIGNATURE):
            continue
        if name in SECRET and "=" in part:
            if masked:
                kept.append(f"{part.partition('=')[0]}={MASK}")
            continue
        kept.append(part)
    return urlunsplit(parts._replace(query="&".join(kept)))


def _name(part: str) -> str:
    return unquote_plus(part.partition("=")[0]).lower()


def _one_form(target: str) -> str:
    """Write escapes in one way (RFC 3986, 6.2.2): clients differ, servers may not care."""

    def escape(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character in _UNRESERVED else "%" + match[1].upper()

    target = _ESCAPED.sub(escape, target)
    return _OUTSIDE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), target)
