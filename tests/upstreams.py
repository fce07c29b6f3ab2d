"""Stand-ins for servers that set-ups fetch from: any number of hosts, over TLS and in the clear, on loopback.

``with upstreams(folder) as net: net.add("files.test", FileSite())``; the tool reaches them as
``https://files.test/…`` with ``net.environment()`` in its own. Certificates are of an authority of the test's
own. Knows nothing of what a host answers: a site is a function from a request to an answer (``tests/sites``).
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.servers import free_port


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    scheme: str
    method: str
    host: str
    """As the client wrote it, without the port, in lower case."""
    target: str
    """Path and query as they were sent."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        """The last value of each parameter."""
        found = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        return {name: values[-1] for name, values in found.items()}

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}{self.target}"


@dataclass(frozen=True)
class Answer:
    """What it gets. A body in pieces is sent chunked, unless the headers give its length."""

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False
    """The connection ends without an answer; of one that is given before the body: right after it."""


Site = Callable[[Request], Answer]
"""One with a method ``begin(request)`` hears of a request before its body comes, and may say how much of it
is read before the connection is cut, or answer right away."""


def page(text: str, status: int = 200, **headers: str) -> Answer:
    """Give an HTML page."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return Answer(text.encode(), status, {"Content-Type": "text/html; charset=utf-8", **named})


def moved(location: str, status: int = 302, **headers: str) -> Answer:
    """Give a redirect."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return Answer(b"", status, {"Location": location, **named})


class Authority:
    """A certificate authority that nobody else trusts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Stand-in authority of a test")])
        self.certificate = self._sign(self._name, self._key.public_key(), authority=True)
        self.path = folder / "authority.pem"
        """What clients are to trust, as PEM."""
        self.path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        # An ordinary user reads it too.
        self.path.chmod(0o644)

    def issue(self, *names: str) -> Path:
        """Make a certificate for some host names or addresses; the file holds its key too."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        made = self._sign(subject, key.public_key(), names=names)
        path = self._folder / f"{names[0]}.pem"
        path.write_bytes(
            made.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return path

    def context(self, *names: str) -> ssl.SSLContext:
        """Give what a server for some host names answers TLS with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.issue(*names))
        return context

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        names: Iterable[str] = (),
        authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )
        if not authority:
            alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
            builder = builder.add_extension(alternatives, critical=False).add_extension(usage, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


class Upstreams:
    """Hosts that can be asked, each by one site; what was asked stands in ``log``."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.sites: dict[str, Site] = {}
        self.log: list[Request] = []
        self.ports = {"https": free_port(), "http": free_port()}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._default = self.authority.context("nobody.test")
        self._default.sni_callback = self._choose
        self._elsewhere: dict[str, str] = {}
        self._servers: list[tuple[_Server, threading.Thread]] = []

    def add(self, host: str, site: Site) -> None:
        """Let a site answer for a host, on 443 and 80; one that answered before is replaced."""
        self.sites[host] = site
        if host not in self._contexts:
            self._contexts[host] = self.authority.context(host)

    def add_elsewhere(self, host: str, address: str, *, port: int = 443) -> None:
        """Let a host's port be served by another server, ``127.0.0.1:8443``."""
        self._elsewhere[f"{host}:{port}"] = address

    def connect_to(self) -> list[str]:
        """Give ``host:port:address:port`` for each host and port."""
        found = [f"{host}:443:127.0.0.1:{self.ports['https']}" for host in self.sites]
        found += [f"{host}:80:127.0.0.1:{self.ports['http']}" for host in self.sites]
        found += [f"{name}:{address}" for name, address in self._elsewhere.items()]
        return found

    def environment(self) -> dict[str, str]:
        """Give what lets ``reprobuild`` reach the hosts."""
        hosts = {*self.sites, *(name.rpartition(":")[0] for name in self._elsewhere)}
        return {
            "REPROBUILD_CONNECT_TO": " ".join(self.connect_to()),
            "REPROBUILD_ALLOW_PRIVATE": " ".join(("127.0.0.1", "localhost", "::1", *sorted(hosts))),
            "REQUESTS_CA_BUNDLE": str(self.authority.path),
        }

    def asked(self, host: str = "") -> list[str]:
        """Give what was asked for so far, ``GET https://host/path``; of one host alone where it is named."""
        return [f"{one.method} {one.url}" for one in self.log if not host or one.host == host]

    def start(self) -> None:
        """Answer; on the same ports as before."""
        for scheme, port in self.ports.items():
            server = _Server(port, self, scheme)
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            self._servers.append((server, thread))

    def stop(self) -> None:
        """Be gone: connections that are open end, and none is taken."""
        for server, thread in self._servers:
            server.shutdown()
            server.server_close()
            server.hang_up()
            thread.join()
        self._servers.clear()

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """Shake hands as the host that the client names."""
        return self._default.wrap_socket(connection, server_side=True)

    def _choose(self, wrapped: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        wrapped.context = self._contexts.get(name or "", self._default)

    def answer(self, request: Request) -> Answer:
        """Give what the site of the request's host gives."""
        self.log.append(request)
        site = self.sites.get(request.host)
        return site(request) if site else Answer(b"no such host here\n", 421)


@contextmanager
def upstreams(folder: Path) -> Iterator[Upstreams]:
    """Run stand-ins until the context ends; ``folder`` gets their certificates."""
    made = Upstreams(folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, net: Upstreams, scheme: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.net = net
        self.scheme = scheme
        self.block_on_close = False
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients hang up when they please."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 60

    def setup(self) -> None:
        if self.server.scheme == "https":
            plain = self.request
            self.request = self.server.net.wrap(plain)
            # The object that was accepted has handed its descriptor over.
            self.server._open.discard(plain)
            self.server._open.add(self.request)
        super().setup()

    def finish(self) -> None:
        super().finish()
        if self.server.scheme == "https":
            self.server._open.discard(self.request)
            with suppress(OSError):
                self.request.close()

    def do_GET(self) -> None:
        head = self._read_head()
        begin = getattr(self.server.net.sites.get(head.host), "begin", None)
        early = begin(head) if begin is not None else None
        if isinstance(early, Answer):
            self.server.net.log.append(head)
            self.close_connection = True
            self._send(early)
            if not early.is_cut:
                self.wfile.flush()
                self._read_body(head, None)  # as servers do, so that what they said is not lost
            return
        answer = self.server.net.answer(replace(head, body=self._read_body(head, early)))
        if early is not None or answer.is_cut:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(answer)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815 - http.server's names

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def _read_head(self) -> Request:
        headers = {name.lower(): value for name, value in self.headers.items()}
        host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
        return Request(self.server.scheme, self.command, host.lower(), self.path, headers)

    def _read_body(self, head: Request, most: int | None) -> bytes:
        if "chunked" not in head.headers.get("transfer-encoding", "").lower():
            length = int(head.headers.get("content-length", 0))
            return self.rfile.read(length if most is None else min(length, most))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        has_length = any(name.lower() == "content-length" for name in answer.headers)
        has_body = self.command != "HEAD" and answer.status not in (204, 304)
        if isinstance(answer.body, bytes):
            if not has_length and answer.status not in (204, 304):
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if has_body:
                self.wfile.write(answer.body)
            return
        if not has_length:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in answer.body if has_body else ():
            self.wfile.write(piece if has_length else b"%x\r\n%s\r\n" % (len(piece), piece))
        if has_body and not has_length:
            self.wfile.write(b"0\r\n\r\n")
