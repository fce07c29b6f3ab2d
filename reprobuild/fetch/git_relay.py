"""A door on the loopback address through which git reaches one repository, and nothing else.

So git needs neither credentials, authorities, proxies nor redirects of its own: all requests go through
``http``, which looks at the address behind each name and sends credentials to their host alone. Knows
nothing of what git asks; packs stream through it.
"""

from __future__ import annotations

import io
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from reprobuild.errors import ReprobuildError, UpstreamError
from reprobuild.fetch.http import REDIRECTS, plain
from reprobuild.fetch.transfer import refusal

if TYPE_CHECKING:
    from reprobuild.fetch.http import Http, Response

CHUNK = 256 * 1024
MOST_ASKED = 64 * 1024 * 1024
"""Bytes of a request's body: git names the commits that it wants and has."""
MOST_REDIRECTS = 10
FORWARDED = ("accept", "accept-encoding", "content-encoding", "content-type", "git-protocol", "user-agent")
RETURNED = ("content-type", "content-encoding")


class Relay:
    """What passed through an open door."""

    def __init__(self, http: Http, url: str) -> None:
        self.http = http
        self.base = url.rstrip("/")
        """The repository's address: where redirects led, once something was asked."""
        self.received = 0
        """Bytes of bodies that came so far."""
        self.failure: ReprobuildError | None = None
        """The last request that was not answered with what was asked for."""
        self.secret = secrets.token_hex(16)
        self.door = ""
        """The address that git is given."""


@contextmanager
def relay(http: Http, url: str) -> Iterator[Relay]:
    """Open a door to a repository, as long as the context lasts."""
    made = Relay(http, url)
    with _Server(("127.0.0.1", 0), _handler(made)) as server:
        made.door = f"http://127.0.0.1:{server.server_address[1]}/{made.secret}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: git went away in the middle of an answer."""


def _handler(relay: Relay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(has_body=False)

        def do_POST(self) -> None:
            self._answer(has_body=True)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding", "").lower() != "chunked":
                return self.rfile.read(min(int(self.headers.get("content-length") or 0), MOST_ASKED))
            found = io.BytesIO()
            while size := int(self.rfile.readline(64).partition(b";")[0], 16):
                if found.tell() + size > MOST_ASKED:
                    raise ValueError("a request without end")
                found.write(self.rfile.read(size))
                self.rfile.readline(3)
            self.rfile.readline(3)
            return found.getvalue()

        def _answer(self, *, has_body: bool) -> None:
            self.close_connection = True
            start, _, rest = self.path.lstrip("/").partition("/")
            if not secrets.compare_digest(start.encode(), relay.secret.encode()):
                self.send_error(404)
                return
            # Whoever does not know the secret is not listened to any further.
            body = self._body() if has_body else None
            try:
                with _asked(relay, rest, self._fields(body), body) as response:
                    self._pass_on(response)
            except ReprobuildError as error:
                relay.failure = error
                self.send_error(502)

        def _fields(self, body: bytes | None) -> list[tuple[str, str]]:
            found = [(name, value) for name, value in self.headers.items() if name.lower() in FORWARDED]
            return found + ([("Content-Length", str(len(body)))] if body is not None else [])

        def _pass_on(self, response: Response) -> None:
            if response.status >= 400:
                relay.failure = refusal(response, relay.base)
            self.send_response(response.status)
            for name in RETURNED:
                if value := response.headers.get(name):
                    self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                while chunk := response.read(CHUNK):
                    relay.received += len(chunk)
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            except ReprobuildError as error:
                relay.failure = error
                return  # without an end: git sees that it was cut off
            self.wfile.write(b"0\r\n\r\n")

    return Handler


@contextmanager
def _asked(relay: Relay, rest: str, fields: list[tuple[str, str]], body: bytes | None) -> Iterator[Response]:
    """Ask the repository; redirects of what git asks first move all that follows."""
    url = f"{relay.base}/{rest}"
    first = plain(relay.base)
    for _ in range(MOST_REDIRECTS + 1):
        authorization = relay.http.authorization(url)
        sent = [*fields, *([("Authorization", authorization)] if authorization else [])]
        method = "GET" if body is None else "POST"
        with relay.http.exchange(method, url, sent, None if body is None else io.BytesIO(body)) as response:
            location = response.headers.get("location") if response.status in REDIRECTS else None
            if location is None:
                yield response
                return
        url = _moved(relay, url, location, rest, is_first=body is None)
    raise UpstreamError(f"{first} redirects more than {MOST_REDIRECTS} times")


def _moved(relay: Relay, url: str, location: str, rest: str, *, is_first: bool) -> str:
    """Take up where a redirect leads: the same file of a repository at another address."""
    first = plain(relay.base)
    try:
        target = urlsplit(plain(urljoin(url, location)))
        _ = target.port
    except ValueError as error:
        raise UpstreamError(f"{first} redirects to what is no address: {error}") from None
    asked = urlsplit(url)
    path = rest.partition("?")[0]
    base = urlunsplit(target._replace(path=target.path.removesuffix("/" + path), query=""))
    if not is_first or not target.path.endswith("/" + path):
        raise UpstreamError(
            f"{first} redirects to {base}, which is no repository",
            "a page to log in, perhaps: put the host's user name and password into ~/.netrc",
        )
    if target.scheme not in ("http", "https") or (asked.scheme == "https" and target.scheme == "http"):
        raise UpstreamError(
            f"{first} redirects to {base}", "what travels in the clear can be changed on the way"
        )
    relay.base = base
    return urlunsplit(target._replace(query=target.query or asked.query))
