"""Requests and answers, as values between whoever speaks HTTP and whoever knows the answer.

Knows nothing of sockets, nor of how HTTP is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import urlsplit

from reprobuild.derivation.exchange import FLAGS, NO_BODY, NOTED, SELECTING, Exchange
from reprobuild.derivation.predictors import Json
from reprobuild.digest import Digest
from reprobuild.gateway import headers, ranges, urls

TEXT = {"content-type": "text/plain; charset=utf-8"}


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What a client asks for, its body read."""

    method: str
    url: str
    """In one form, secrets included: for upstream alone."""
    headers: Sequence[tuple[str, str]]
    """As the client wrote them, in its order."""
    body: BinaryIO | None = None
    """At its beginning; None where the request has none."""
    size: int = 0
    sha256: Digest = NO_BODY
    fields: Mapping[str, str] = field(init=False)
    """The headers by name in lower case, repeated ones joined."""

    def __post_init__(self) -> None:
        found: dict[str, str] = {}
        for name, value in self.headers:
            low = name.lower()
            found[low] = f"{found[low]}, {value}" if low in found else value
        object.__setattr__(self, "fields", found)

    @property
    def shown(self) -> str:
        """The address as it names an exchange, without secrets."""
        return urls.shown(self.url)

    def selection(self, varying: Iterable[str] = ()) -> dict[str, Json]:
        """Give what tells this request from others of the same method and address.

        ``varying``: names of headers that count beside those that always do. No range is in it.
        """
        found: dict[str, Json] = {}
        if self.sha256 != NO_BODY:
            found["body"] = self.sha256.hex
        for name in (*SELECTING, *varying):
            if value := headers.asked_for(self.fields, name):
                found[name] = True if headers.is_secret(name) else value
        for flag in FLAGS:
            if flag in self.fields:
                found[flag] = True
        return found

    def selects(self, exchange: Exchange) -> bool:
        """Whether an exchange of the same method and address answers this, ranges left aside."""
        recorded = {name: value for name, value in exchange.request.items() if name not in ("range", *NOTED)}
        return recorded == self.selection(exchange.varying)


@dataclass(frozen=True, slots=True)
class FilePart:
    """Some bytes of an open file, which whoever sends them closes."""

    file: BinaryIO
    start: int
    size: int


class Stream:
    """A body that still comes; whoever sends it closes it, also where it was never begun."""

    def __init__(self, blocks: Iterator[bytes], held: ExitStack) -> None:
        """``held``: what is open for as long as the blocks come."""
        self._blocks = blocks
        self._held = held

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def close(self) -> None:
        """Let everything go."""
        close = getattr(self._blocks, "close", None)
        if close is not None:
            close()
        self._held.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; no Content-Length but for HEAD."""
    body: bytes | FilePart | Stream = b""
    length: int | None = None
    """Bytes of a body that still comes, where known beforehand."""


def text(status: int, sentence: str) -> Answer:
    """Give an answer that says something in plain words."""
    return Answer(status, TEXT, (sentence.rstrip("\n") + "\n").encode())


def of_exchange(exchange: Exchange, request: Request, file: BinaryIO) -> Answer:
    """Give a recorded answer, whole or as much of it as the request's range means; the file becomes its."""
    found = dict(exchange.headers)
    if request.method != "HEAD":
        found.pop("content-length", None)  # made anew: of a range it is another one
    part = None
    if exchange.is_whole and request.method == "GET":
        part = ranges.part(
            request.fields,
            exchange.size,
            etag=found.get("etag", ""),
            modified=found.get("last-modified", ""),
        )
    if part is ranges.UNSATISFIABLE:
        file.close()
        return Answer(416, {**TEXT, "content-range": f"bytes */{exchange.size}"}, b"")
    if part is not None:
        found.setdefault("accept-ranges", "bytes")
        found["content-range"] = f"bytes {part.start}-{part.end - 1}/{exchange.size}"
        return Answer(206, found, FilePart(file, part.start, part.size))
    if request.method == "HEAD":
        file.close()
        if exchange.method == "GET":
            found["content-length"] = str(exchange.size)
        return Answer(exchange.status, found)
    return Answer(exchange.status, found, FilePart(file, 0, exchange.size))


def host_and_port(url: str) -> tuple[str, int]:
    """Give the host and port that an address means."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or urls.DEFAULT_PORTS[parts.scheme]
