"""One client's connection, spoken as HTTP/1.1 by h11: requests in, answers out, until either side ends it.

Knows nothing of what is recorded: ``Desk`` says what a request gets, and hears what was refused.
"""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import closing, suppress
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlsplit

import h11

from reprobuild.gateway import refusal, urls
from reprobuild.gateway.headers import shown_name
from reprobuild.gateway.message import Answer, FilePart, Request, Stream, text
from reprobuild.gateway.spool import Spool

BLOCK = 256 * 1024
LONGEST_HEAD = 128 * 1024
"""Bytes of a request's line and headers."""
MOST_DRAINED = 4 * 1024 * 1024
"""Bytes of a body that are read and dropped after a refusal, so that the client gets to read it."""
DRAIN_SECONDS = 2.0
LARGE = 1024 * 1024 * 1024
"""Bytes from which on a body that its client has left is not taken to its end."""
HARMLESS_UPGRADES = frozenset({"h2c"})
"""Changes of protocol that a client offers and can do without (RFC 9110, 7.8)."""


class Desk(Protocol):
    """Where requests are answered."""

    scratch: str
    """A folder for bodies of requests."""
    resets: bool
    """Whether what is refused is cut off instead of told so."""
    refuses_all: bool
    """Whether nothing is ever answered, so that no body need be read."""

    def answer(self, request: Request) -> Answer | None:
        """Give what a request gets; None: it is refused."""

    def refuse(self, *, url: str = "", method: str = "", why: str = "") -> str:
        """Hear of a refused attempt on this connection; give the sentence that the client is told."""

    def fetched(self, url: str) -> None:
        """Hear that an address was answered."""


class ResetError(Exception):
    """The connection is to be cut off."""


class Conversation:
    """Serves one connection."""

    def __init__(self, connection: socket.socket, scheme: str, wanted: tuple[str, int], desk: Desk) -> None:
        """``wanted``: the host (or address) and port that the client meant, for one that names none."""
        self._connection = connection
        self._scheme = scheme
        self._wanted = wanted
        self._desk = desk
        self.requests = 0
        """How many were read so far."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)

    def run(self) -> None:
        """Answer until the connection ends. Raises OSError, ResetError."""
        while True:
            try:
                event = self._next()
            except h11.RemoteProtocolError as error:
                self._refuse_nonsense(error)
                break
            if not isinstance(event, h11.Request):
                break
            self.requests += 1
            self._serve(event)
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                break
            self._http.start_next_cycle()

    def _next(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                assert not isinstance(event, type) or event is h11.PAUSED
                return event
            if self._http.they_are_waiting_for_100_continue:
                self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
            self._http.receive_data(self._connection.recv(65536))

    def _serve(self, event: h11.Request) -> None:
        method = event.method.decode("ascii")
        fields = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers.raw_items()
        ]
        low = {name.lower(): value for name, value in fields}
        if method == "CONNECT":
            shown = event.target.decode("latin-1")[:300]
            self._refuse(self._desk.refuse(url=shown, method=method, why=refusal.TUNNEL))
            return
        try:
            url = self._url(event.target.decode("latin-1"), low.get("host", ""))
        except ValueError:
            self._refuse(self._desk.refuse(method=method, why=refusal.BAD_HTTP), 400)
            return
        offered = {name.strip().lower().partition("/")[0] for name in low.get("upgrade", "").split(",")} - {
            ""
        }
        if offered - HARMLESS_UPGRADES:
            self._refuse(self._desk.refuse(url=urls.shown(url), method=method, why=refusal.UPGRADE))
            return
        if self._desk.refuses_all:
            self._refuse(self._desk.refuse(url=urls.shown(url), method=method))
            return
        with closing(Spool(self._desk.scratch)) as spool:
            self._read_body(spool)
            body, size, sha256 = spool.done()
            request = Request(method, url, fields, body, size, sha256)
            answer = self._desk.answer(request)
            if answer is None:
                self._refuse(self._desk.refuse(url=request.shown, method=method))
            else:
                self._desk.fetched(url)
                self._send(answer, is_head=method == "HEAD")

    def _url(self, target: str, host: str) -> str:
        """Give the address that a request means, however it names it. Raises ValueError."""
        if not target.startswith("/"):
            parts = urlsplit(target)
            if target == "*":
                target = "/*"
            elif parts.scheme in urls.DEFAULT_PORTS and parts.netloc:
                query = f"?{parts.query}" if parts.query else ""
                return urls.join(parts.scheme, parts.netloc, (parts.path or "/") + query)
            else:
                raise ValueError("neither a path nor an http address")
        if not host:
            name, port = self._wanted
            host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        return urls.join(self._scheme, host, target)

    def _read_body(self, spool: Spool) -> None:
        while True:
            try:
                event = self._next()
            except h11.RemoteProtocolError as error:
                if self._connection_has_spoken():
                    self._desk.refuse(why=refusal.BAD_HTTP)
                raise ResetError(str(error)) from None
            if isinstance(event, h11.Data):
                spool.write(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            else:
                raise ResetError("the client went away in the middle of a body")

    def _refuse(self, sentence: str, status: int = 403) -> None:
        if self._desk.resets:
            raise ResetError
        self._send(text(status, sentence))
        self._drop_body()

    def _refuse_nonsense(self, error: h11.RemoteProtocolError) -> None:
        if not self._connection_has_spoken():
            return
        sentence = self._desk.refuse(why=refusal.BAD_HTTP)
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(text(error.error_status_hint or 400, sentence))

    def _connection_has_spoken(self) -> bool:
        """Whether the client sent anything that could be a request: a connection that just ends is none."""
        data, closed = self._http.trailing_data
        return bool(data) or not closed

    def _send(self, answer: Answer, *, is_head: bool = False) -> None:
        fields = [(shown_name(name), value) for name, value in answer.headers.items()]
        length = _length(answer)
        if length is not None and not is_head and answer.status not in (204, 304):
            fields.append(("Content-Length", str(length)))
        encoded = [
            (name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in fields
        ]
        head = self._http.send(
            h11.Response(status_code=answer.status, headers=encoded, reason=_reason(answer.status))
        )
        has_body = not is_head and answer.status not in (204, 304)
        try:
            if isinstance(answer.body, bytes):
                body = answer.body if has_body else b""
                self._write(head + (self._http.send(h11.Data(data=body)) or b"" if body else b""))
            elif isinstance(answer.body, FilePart):
                self._write(head)
                if has_body:
                    self._send_file(answer.body)
            else:
                self._send_stream(head, answer, has_body)
        finally:
            if isinstance(answer.body, FilePart):
                answer.body.file.close()
            elif isinstance(answer.body, Stream):
                answer.body.close()
        self._write(self._http.send(h11.EndOfMessage()))

    def _send_stream(self, head: bytes, answer: Answer, has_body: bool) -> None:
        """Pass a body on while it comes; one that its client left is taken to its end unless it is large."""
        assert isinstance(answer.body, Stream)
        gone: OSError | None = None
        try:
            self._write(head)
        except OSError as error:
            gone = error
        for block in answer.body:
            if gone is not None and (answer.length or 0) >= LARGE:
                break
            if not block or not has_body or gone is not None:
                continue
            try:
                for piece in self._http.send_with_data_passthrough(h11.Data(data=block)) or ():
                    self._connection.sendall(piece)
            except OSError as error:
                gone = error
        if gone is not None:
            raise gone

    def _send_file(self, part: FilePart) -> None:
        if not part.size:
            return
        # What stands for the data has its length alone: the bytes go past h11.
        pieces = self._http.send_with_data_passthrough(h11.Data(data=_Stand(part.size))) or []  # type: ignore[arg-type]
        for piece in pieces:
            if not isinstance(piece, _Stand):
                self._connection.sendall(piece)
                continue
            if isinstance(self._connection, ssl.SSLSocket):
                self._send_blocks(part)
            else:
                self._connection.sendfile(part.file, part.start, part.size)

    def _send_blocks(self, part: FilePart) -> None:
        buffer = memoryview(bytearray(min(BLOCK, part.size)))
        at, end = part.start, part.start + part.size
        while at < end:
            count = os.preadv(part.file.fileno(), [buffer[: end - at]], at)
            if not count:
                raise OSError("a blob is shorter than its record says")
            self._connection.sendall(buffer[:count])
            at += count

    def _write(self, data: bytes | None) -> None:
        if data:
            self._connection.sendall(data)

    def _drop_body(self) -> None:
        """Read what is left of a refused request's body, up to a limit, so that the connection may go on."""
        dropped = 0
        with suppress(h11.RemoteProtocolError, OSError):
            while self._http.their_state is h11.SEND_BODY and dropped < MOST_DRAINED:
                if self._http.they_are_waiting_for_100_continue:
                    return
                event = self._next()
                if isinstance(event, h11.Data):
                    dropped += len(event.data)
                elif not isinstance(event, h11.EndOfMessage):
                    return

    def end(self) -> None:
        """Close so that the client can read all that was sent: say so first, read what still comes."""
        with suppress(OSError, ValueError):
            self._connection.settimeout(DRAIN_SECONDS)
            if isinstance(self._connection, ssl.SSLSocket):
                self._connection = self._connection.unwrap()
            self._connection.shutdown(socket.SHUT_WR)
            dropped = 0
            while dropped < MOST_DRAINED and (data := self._connection.recv(65536)):
                dropped += len(data)


class _Stand:
    """Stands for so many bytes."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def _length(answer: Answer) -> int | None:
    if isinstance(answer.body, bytes):
        return len(answer.body)
    if isinstance(answer.body, FilePart):
        return answer.body.size
    return answer.length
