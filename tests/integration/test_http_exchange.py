"""One request as it is given: to stand-ins by ``connect_to``, with the name that they are known by."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reprobuild import settings
from reprobuild.errors import UpstreamError
from reprobuild.fetch.http import Http
from reprobuild.fetch.reach import NotPublicError
from tests.misbehaving import Answer, Misbehaving, certificate

pytestmark = pytest.mark.once


@contextmanager
def listener(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Answer each connection with some bytes, once a whole request came; give what was asked."""
    server = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                data = b""
                while not data.endswith(b"END" if b"Content-Length" in data else b"\r\n\r\n"):
                    more = connection.recv(65536)
                    if not more:
                        break
                    data += more
                asked.append(data)
                connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], asked
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def http(folder: Path, **flags: object) -> Http:
    return Http({"HOME": str(folder)}, settings=settings.load(flags, {"HOME": str(folder)}, str(folder)))


MOVED = b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.test/\r\nContent-Length: 0\r\n\r\n"


def test_a_request_goes_out_as_it_is_given_and_comes_back_as_it_is(tmp_path: Path) -> None:
    with listener(MOVED) as (port, asked), http(tmp_path, connect_to=(f"a.test:80:127.0.0.1:{port}",)) as one:
        headers = [("Accept", "x/y"), ("X-Two", "1"), ("X-Two", "2"), ("Content-Length", "7")]
        url = "http://a.test/a/../b//c%2fd?q=%20x&r"
        with one.exchange("POST", url, headers, io.BytesIO(b"bodyEND")) as response:
            assert (response.status, response.headers["location"]) == (302, "https://elsewhere.test/")
    (request,) = asked
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a/../b//c%2Fd?q=%20x&r HTTP/1.1"
    assert sorted(lines[1:]) == sorted(
        ["Host: a.test", "Accept: x/y", "X-Two: 1", "X-Two: 2", "Content-Length: 7"]
    )
    assert body == b"bodyEND"


def test_the_name_is_what_a_stand_in_is_verified_by(tmp_path: Path) -> None:
    with certificate(tmp_path, "DNS:files.test") as pem, Misbehaving(pem) as server:
        server.answers["/f"] = [Answer(b"bytes")]
        port = int(server.url.rpartition(":")[2])
        for name, right in (("files.test", True), ("other.test", False)):
            environment = {"HOME": str(tmp_path), "REQUESTS_CA_BUNDLE": str(pem)}
            flags = {"connect_to": (f"{name}:443:127.0.0.1:{port}",)}
            chosen = settings.load(flags, environment, str(tmp_path))
            with Http(environment, settings=chosen) as one:
                if right:
                    with one.exchange("GET", f"https://{name}/f", []) as response:
                        assert (response.status, response.read(100)) == (200, b"bytes")
                else:
                    with (
                        pytest.raises(UpstreamError, match="no secure connection"),
                        one.exchange("GET", f"https://{name}/f", []),
                    ):
                        pass
    assert server.requests[0].headers["host"] == "files.test"


def test_a_private_address_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with listener(MOVED) as (port, asked), http(tmp_path) as one:
        with pytest.raises(NotPublicError, match="is not public"), one.open(f"http://127.0.0.1:{port}/f"):
            pass
        assert asked == []


def test_a_redirect_to_a_private_address_is_refused(tmp_path: Path) -> None:
    moved = MOVED.replace(b"https://elsewhere.test/", b"http://[::1]:9/")
    with (
        listener(moved) as (port, _),
        http(tmp_path, connect_to=(f"a.test:80:127.0.0.1:{port}",)) as one,
        pytest.raises(NotPublicError, match="::1, which is not public"),
        one.open("http://a.test/"),
    ):
        pass


def test_a_proxy_is_not_asked_for_a_private_address(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "http_proxy": "http://127.0.0.1:9"}
    chosen = settings.load({}, environment, str(tmp_path))
    with (
        Http(environment, settings=chosen) as one,
        pytest.raises(NotPublicError),
        one.open("http://169.254.169.254/latest"),
    ):
        pass
