"""Which headers travel: to upstream, back to the client, into the record (``docs/gateway.md`` lists them).

Pure functions; knows nothing of sockets or stores. What is not on a list goes nowhere, so that no cookie,
date, trace or credential reaches a client or a lock, when recording too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

ALLOWED = frozenset({
    "accept-ranges", "cache-control", "content-disposition", "content-encoding", "content-language",
    "content-location", "content-md5", "content-range", "content-type", "digest",
    "docker-content-digest", "docker-distribution-api-version", "etag", "last-modified", "link",
    "location", "repr-digest", "retry-after", "vary", "www-authenticate", "x-checksum-md5",
    "x-checksum-sha1", "x-checksum-sha256", "x-goog-hash", "x-goog-stored-content-encoding",
    "x-goog-stored-content-length", "x-error-code", "x-error-message", "x-linked-etag", "x-linked-size",
    "x-pypi-last-serial", "x-repo-commit", "x-total-count",
})  # fmt: skip
"""Headers of an answer that a client gets and a record keeps; ``content-length`` is made anew."""

HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade", "http2-settings",
})  # fmt: skip
CONDITIONAL = frozenset(["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"])
"""What a client says because it has something already: a record must hold the whole."""
_OURS = frozenset({"host", "content-length", "expect", "range"})

LONGEST = 8192
"""Characters of a header's value that are kept."""

_SECRET = re.compile(r"auth|cookie|credential|jwt|key|pass|secret|session|signature|token")
"""In names of headers whose values prove who asks."""

_XET = re.compile(r"""rel\s*=\s*"?\s*xet-""", re.IGNORECASE)
_TARGET = re.compile(r"<([^>]*)>")
_LINK = re.compile(r"""<[^>]*>(?:[^",<]|"[^"]*")*""")
_SHOWN = {"etag": "ETag", "content-md5": "Content-MD5", "www-authenticate": "WWW-Authenticate"}


def kept(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Give what of an answer's headers is kept: names in lower case, sorted; repeated ones joined."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        name = name.lower()
        if name in ALLOWED:
            found.setdefault(name, []).append(_clean(value))
    joined = {name: ", ".join(values) for name, values in found.items()}
    if "link" in joined:
        joined["link"] = ", ".join(
            part.strip().rstrip(",").strip()
            for part in _LINK.findall(joined["link"])
            if not _XET.search(part)
        )
    return {name: value for name, value in sorted(joined.items()) if value and len(value) <= LONGEST}


def to_upstream(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give what of a request's headers goes to upstream, as the client wrote it and in its order."""
    headers = list(headers)
    named = {
        name.strip().lower()
        for header, value in headers
        if header.lower() == "connection"
        for name in value.split(",")
    }
    return [
        (name, value)
        for name, value in headers
        if (low := name.lower()) not in HOP_BY_HOP | CONDITIONAL | _OURS and low not in named
    ]


def shown_name(name: str) -> str:
    """Give a header's name as servers mostly write it: some old clients look at case."""
    return _SHOWN.get(name) or name.title()


def asked_for(request: Mapping[str, str], name: str) -> str:
    """Give a request's header with its blanks in one form; ``""`` where it says nothing."""
    value = " ".join(_clean(request.get(name, "")).split())
    trivial = {"accept": "*/*", "accept-encoding": "identity"}
    return "" if value == trivial.get(name) else value


def is_secret(name: str) -> bool:
    """Whether a request's header may prove who asks: noted as having been there, never as what it was."""
    return _SECRET.search(name) is not None


def linked(value: str, told: Callable[[str], str]) -> str:
    """Give a ``Link`` header with each of its addresses as ``told`` says that it is told on."""
    return _TARGET.sub(lambda match: f"<{told(match[1])}>", value)


def _clean(value: str) -> str:
    return "".join(character for character in value if character.isprintable()).strip()
