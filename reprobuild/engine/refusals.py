"""Tells from what a command prints that it reached for the network, which does not exist for it.

Knows the words of common programs and libraries, no more: a program that keeps silent is not seen.
A connection to the sandbox's own loopback is no such attempt.
"""

from __future__ import annotations

import functools
import re

_SIGNS = (
    b"could not resolve",  # curl, git, ssh, R, apt
    b"couldn't resolve",
    b"unable to resolve host",
    b"name resolution",  # gai_strerror(3), this and the next two
    b"name or service not known",
    b"no address associated with hostname",
    b"nodename nor servname provided",
    b"network is unreachable",
    b"enetunreach",
    b"failed to resolve",  # urllib3
    b"failed to establish a new connection",
    b"max retries exceeded with url",
    b"failed to connect to",
    b"temporary failure resolving",  # apt
    b"getaddrinfo enotfound",  # node
    b"eai_again",
    b"unknownhostexception",
    b"java.net.connectexception",
    b"java.net.noroutetohostexception",
    b"dial tcp",  # Go
    b"dial udp",
    b"failed to lookup address information",  # Rust
    b"bad address '",  # busybox
    b"no servers could be reached",
    b"curl: (5)",
    b"curl: (6)",
    b"curl: (7)",
    b"curl: (28)",
)
"""In lower case: what a line must hold to be looked at closely."""

_HOST = rb"(?P<host>[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?|\[?[0-9a-f:]*:[0-9a-f:.]+\]?)"
_QUOTE = rb"[\"'\xe2\x80\x98\x99`]*"  # ASCII quotes and the curly ones in UTF-8

_NAMED = (
    rb"ConnectionPool\(host=\\*'HOST\\*', port=(?P<port>\d+)\).{0,40}with url: (?P<path>[^\s)]+)",
    rb"ConnectionPool\(host=\\*'HOST\\*', port=(?P<port>\d+)\)",
    rb"for url \((?P<url>https?://[^)\s]+)\)",
    rb"unable to access QUOTE(?P<url>[a-z]+://[^\s'\"]+)",
    rb"failed to fetch (?P<url>https?://\S+)",
    rb"\"(?P<url>https?://[^\"\s]+)\": dial ",
    rb"dial (?:tcp|udp): lookup HOST(?:\s|:|$)",
    rb"dial (?:tcp|udp) HOST:\d+",
    rb"resolve host address QUOTEHOST",
    rb"(?:resolve (?:host|proxy)(?: ?name)?:?|failed to resolve|failure resolving) QUOTEHOST",
    rb"could not resolve ['\"]HOST",
    rb"resolving (?!timed)HOST[ .(].*failed",
    rb"connecting to (?:[^\s(]+ \()?HOST[):|].*failed",
    rb"failed to connect to HOST port (?P<port>\d+)",
    rb"connect to host HOST(?::| port )\d+",
    rb"can't connect to HOST:\d+",
    rb"getaddrinfo (?:ENOTFOUND|EAI_AGAIN) HOST",
    rb"connect ENETUNREACH HOST:\d+",
    rb"UnknownHostException: HOST",
    rb"bad address 'HOST'",
    rb"(?:ping|ftp|telnet|nc|rsync): (?:connect to )?HOST: ",
    rb"HOST: (?:temporary failure in name resolution|name or service not known)",
)
_LOOPBACK = r"localhost|.*\.localhost|127\.[0-9.]+|\[?::1\]?|0\.0\.0\.0"
_NO_HOST = r"errno|getaddrinfo|.*(?:error|exception)|[0-9]+"

LONGEST = 300
"""Characters that are kept of an address or a line."""

MOST = 50
"""Addresses that are kept of one command."""


def find_refusal(line: bytes) -> tuple[str, bool] | None:
    """Tell what a line says could not be reached.

    Gives a URL or host and True; the line itself and False where it names none; None for a line about
    something else.
    """
    line = line[:4096]
    lowered = line.lower()
    if not any(sign in lowered for sign in _SIGNS):
        return None
    for pattern in _patterns():
        for match in pattern.finditer(line):
            found = match.groupdict()
            host = (found.get("host") or b"").decode()
            if host and re.fullmatch(_NO_HOST, host, re.IGNORECASE):
                continue
            if re.fullmatch(_LOOPBACK, host, re.IGNORECASE):
                return None
            if url := found.get("url"):
                return url.decode(errors="replace").rstrip("'\",.")[:LONGEST], True
            if path := found.get("path"):
                scheme, port = ("https", "443") if found["port"] == b"443" else ("http", "80")
                number = found["port"].decode()
                place = host if number == port else f"{host}:{number}"
                return f"{scheme}://{place}{path.decode(errors='replace')}"[:LONGEST], True
            return host[:LONGEST], True
    text = line.decode(errors="replace").strip()
    if "onnection refused" in text and ("dial " in text or "ConnectException" in text):
        return None
    return text[:LONGEST], False


@functools.cache
def _patterns() -> tuple[re.Pattern[bytes], ...]:
    """Compile them when the first sign is seen: most commands show none."""
    return tuple(
        re.compile(pattern.replace(b"HOST", _HOST).replace(b"QUOTE", _QUOTE), re.IGNORECASE)
        for pattern in _NAMED
    )


class Refusals:
    """Gathers the refusals that show in a command's output: each address once."""

    def __init__(self) -> None:
        self._addresses: dict[str, None] = {}
        self._lines: dict[str, None] = {}

    def look_at(self, line: bytes) -> None:
        """Take a line of the output."""
        found = find_refusal(line)
        if found is not None:
            text, is_address = found
            kept = self._addresses if is_address else self._lines
            if len(kept) < MOST:
                kept[text] = None

    def found(self) -> tuple[str, ...]:
        """Give the addresses, in the order in which they came; lines only where no address is known."""
        urls = [address for address in self._addresses if "://" in address]
        hosts = {url.split("://", 1)[1].split("/", 1)[0].rpartition("@")[2].split(":")[0] for url in urls}
        return tuple(address for address in self._addresses if address not in hosts) or tuple(self._lines)
