"""Exchanges: one recorded HTTP request with its answer, as a value, and as the pin that a lock holds.

Knows nothing of sockets, of what a client gets to see, nor of where bodies are.

A pin's name is ``GET https://host/path?query``; ``hashed`` holds the status, the answer's headers, and what
of the request selects it. Requests match by ``key``; equal keys are answered in turn, the last stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.value import NOTHING, Value

SELECTING = ("accept", "accept-encoding")
"""Headers of a request that always tell requests apart, beside those that Vary names."""
FLAGS = ("authorization", "cookie")
"""What of a request is noted as having been there, never as what it was."""
NOTED = ("credentials", "signed")
"""What was added on the way, out of the client's sight: no request is told from another by it."""
NO_BODY = Digest.of(b"")
MASK = "***"
"""Stands for the value of a query parameter that looks like a secret."""

LARGEST_COMMITTED = 1024 * 1024
"""Bytes of a body that lies beside the lock in any case."""


class Exchange(Value):
    """One request and its answer; the body is in the store, under ``sha256``."""

    method: str
    url: str
    """As it may be shown: no credentials, no signatures, default ports left out."""
    status: int
    size: int
    """Bytes of the body as it travelled."""
    sha256: Digest
    headers: Mapping[str, str] = NOTHING
    """What the client gets, names in lower case."""
    request: Mapping[str, Json] = NOTHING
    """What selects this answer: ``body`` (sha256), ``range``, headers, the ``FLAGS`` and ``NOTED``."""

    @property
    def name(self) -> str:
        """How a person calls it: method and URL."""
        return f"{self.method} {self.url}"

    @property
    def pin(self) -> Pin:
        """The same as the lock holds it."""
        hashed: dict[str, Json] = {"status": self.status, "headers": dict(self.headers)}
        if self.request:
            hashed["request"] = dict(self.request)
        return Pin(self.name, self.size, self.sha256, hashed)

    @property
    def varying(self) -> tuple[str, ...]:
        """The names of headers that Vary says to look at, beside those that are looked at anyway."""
        named = (name.strip().lower() for name in self.headers.get("vary", "").split(","))
        return tuple(sorted({name for name in named if name and name not in (*SELECTING, *FLAGS, "*")}))

    @property
    def is_whole(self) -> bool:
        """Whether the body is all that the address has: an answer 200 to a GET, from which ranges are cut."""
        return self.method == "GET" and self.status == 200 and "range" not in self.request

    @property
    def is_repeatable(self) -> bool:
        """Whether upstream, asked again by anybody, would probably give the same body."""
        return (
            self.is_whole
            and not any(self.request.get(flag) for flag in (*FLAGS, *NOTED))
            and "body" not in self.request
            and f"={MASK}" not in self.url
            and "no-store" not in self.headers.get("cache-control", "").lower()
        )


def read(pin: Pin) -> Exchange:
    """Read a pin of a lock. Raises CheckFailedError for one that is no exchange."""
    method, _, url = pin.name.partition(" ")
    status, headers = pin.hashed.get("status"), pin.hashed.get("headers", {})
    request = pin.hashed.get("request", {})
    if (
        not (method.isascii() and method.isalpha())
        or not url.startswith(("http://", "https://"))
        or not isinstance(status, int)
        or not 200 <= status <= 599
        or not isinstance(headers, Mapping)
        or not all(isinstance(value, str) and _is_line(name + value) for name, value in headers.items())
        or not isinstance(request, Mapping)
    ):
        raise CheckFailedError(
            f"the lock holds an exchange that makes no sense: {pin.name[:200]!r}",
            "reprobuild lock NAME records it anew",
        )
    return Exchange(method, url, status, pin.size, pin.sha256, dict(headers), dict(request))


def _is_line(text: str) -> bool:
    return not any(character in text for character in "\r\n\0")


def ordered(exchanges: Iterable[Exchange]) -> tuple[Exchange, ...]:
    """Give exchanges as a lock holds them: by URL, method, request, and in turn; equal ones in a row once.

    Which of two different requests came first says nothing: clients ask for several things at a time.
    """
    kept: list[Exchange] = []
    last: dict[tuple[object, ...], Exchange] = {}
    for exchange in sorted(exchanges, key=lambda one: (one.url, one.method, key(one)[2])):
        if last.get(key(exchange)) != exchange:
            kept.append(exchange)
        last[key(exchange)] = exchange
    return tuple(kept)


def key(exchange: Exchange) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Give what requests have in common that are answered by the same exchanges, in turn."""
    request = {name: value for name, value in exchange.request.items() if name not in NOTED}
    return (
        exchange.method,
        exchange.url,
        tuple(sorted((name, str(value)) for name, value in request.items())),
    )
