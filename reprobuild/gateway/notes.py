"""What a person should hear of a record: what may not come again, and what one name stands for twice.

Knows nothing of how exchanges are recorded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from reprobuild.derivation.exchange import MASK, Exchange, key
from reprobuild.gateway.message import Request

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that ask for something and change nothing (RFC 9110, 9.2.1)."""

Answer = tuple[int, str]
"""Status, and digest of the body."""


class Addresses:
    """What addresses were answered whose secrets a record masks; for many threads.

    A record names an exchange without secrets: where two secrets were answered differently, a replay tells
    them apart by their order alone. Secrets stay in memory, for as long as is recorded.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[object, ...], dict[str, set[Answer]]] = {}

    def add(self, request: Request, exchange: Exchange) -> None:
        """Take note of what a request was answered."""
        with self._lock:
            by_address = self._found.setdefault(key(exchange), {})
            by_address.setdefault(request.url, set()).add(_answer(exchange))

    def is_of(self, request: Request, exchange: Exchange) -> bool:
        """Tell whether an exchange came from the very address that is asked for."""
        with self._lock:
            return _answer(exchange) in self._found.get(key(exchange), {}).get(request.url, ())

    @property
    def notes(self) -> Iterator[str]:
        """Say, in a line for each, which requests were answered differently for another secret."""
        with self._lock:
            found = list(self._found.items())
        for (method, url, *_), by_address in found:
            if len({frozenset(answers) for answers in by_address.values()}) > 1:
                yield (
                    f"{method} {url} is ambiguous: {len(by_address)} different secrets in it were answered "
                    "differently, and a replay tells them apart by their order alone"
                )


def _answer(exchange: Exchange) -> Answer:
    return exchange.status, exchange.sha256.hex


def notes(exchanges: Iterable[Exchange]) -> list[str]:
    """Say which bodies upstream would not give again, each in a line."""
    reasons = {
        "signed": "its address carried a signature",
        "authorization": "it was asked for with credentials",
        "credentials": "it was asked for with credentials",
        "cookie": "it was asked for with a cookie",
    }
    found = []
    for exchange in exchanges:
        if exchange.is_repeatable or not exchange.size or exchange.status >= 300:
            continue
        flag = next((flag for flag in reasons if exchange.request.get(flag)), "")
        if exchange.method not in SAFE:
            why = f"it is an answer to a {exchange.method}"
        elif flag:
            why = reasons[flag]
        elif "range" in exchange.request:
            why = "it is a part of a larger body"
        elif f"={MASK}" in exchange.url:
            why = "its address carried what looks like a secret"
        else:
            why = "the server says that it must not be kept (no-store)"
        found.append(f"{exchange.name} ({exchange.size:,} bytes) may not come again: {why}")
    return found
