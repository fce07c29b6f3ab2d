"""A web server that does what a test tells it to, wrong things too, and writes down what it was asked.

``with Misbehaving() as server: server.answers["/f"] = [Answer(body=b"…", cut_after=10), Answer(…)]``: each
path gives its answers in turn, the last one again and again.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.require import program
from tests.servers import run

CHUNK = 16 * 1024


@dataclass
class Answer:
    """What is sent for one request."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    ranges: bool = True
    """Whether ``Range`` is understood; with an ETag, ``If-Range`` too."""
    length: int | None = None
    """What Content-Length says, where it lies."""
    is_chunked: bool = False
    has_length: bool = True
    cut_after: int | None = None
    """Bytes of the body after which the connection is closed."""
    is_silent: bool = False
    """Close the connection without an answer."""
    gate: Callable[[int], None] | None = None
    """Called with the number of bytes sent so far, before each piece."""


@dataclass
class Request:
    """What a client asked for."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    sent: int = 0
    """Bytes of the body that were sent."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: Misbehaving

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that go away: some tests make them."""


class Misbehaving:
    """The server; ``url`` is where it is."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[Request] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{scheme}://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Misbehaving:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def sent(self) -> int:
        """Bytes of bodies that were sent so far."""
        return sum(request.sent for request in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep the terminal clean."""

    def do_GET(self) -> None:
        """Give the next answer of the path."""
        owner = self.server.owner
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()})
        owner.requests.append(request)
        planned = owner.answers.get(self.path)
        if planned is None:
            self._send(request, Answer(status=404, body=b"there is nothing"))
        else:
            self._send(request, planned.pop(0) if len(planned) > 1 else planned[0])

    def _send(self, request: Request, answer: Answer) -> None:
        if answer.is_silent:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body, status = answer.body, answer.status
        headers = dict(answer.headers)
        if answer.etag:
            headers["ETag"] = answer.etag
        start = self._start(request, answer)
        if start is not None and start >= len(body):
            status, headers["Content-Range"], body = 416, f"bytes */{len(body)}", b""
        elif start is not None:
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
            body = body[start:]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if answer.is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.has_length:
            self.send_header("Content-Length", str(len(body) if answer.length is None else answer.length))
        else:
            self.close_connection = True
        self.end_headers()
        self._send_body(request, answer, body)

    def _start(self, request: Request, answer: Answer) -> int | None:
        wanted = request.headers.get("range", "")
        condition = request.headers.get("if-range", answer.etag)
        if not wanted or not answer.ranges or answer.status != 200 or condition != answer.etag:
            return None
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def _send_body(self, request: Request, answer: Answer, body: bytes) -> None:
        end = len(body) if answer.cut_after is None else min(len(body), answer.cut_after)
        while request.sent < end:
            if answer.gate is not None:
                answer.gate(request.sent)
            piece = body[request.sent : min(end, request.sent + CHUNK)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if answer.is_chunked else piece)
            self.wfile.flush()
            request.sent += len(piece)
        if answer.cut_after is not None or (answer.length or 0) > len(body):
            self.close_connection = True
        elif answer.is_chunked:
            self.wfile.write(b"0\r\n\r\n")


@contextmanager
def certificate(folder: Path, names: str = "IP:127.0.0.1") -> Iterator[Path]:
    """Make a certificate, of 127.0.0.1 or of ``names`` (``DNS:files.test``).

    Its key is in the same file, which is also the authority to trust.
    """
    openssl = program("openssl")
    path = folder / "server.pem"
    key = folder / "server.key"
    run(
        [str(openssl), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=test", "-addext", f"subjectAltName={names}",
         "-keyout", str(key), "-out", str(path)]
    )  # fmt: skip
    path.write_text(path.read_text() + key.read_text())
    yield path
