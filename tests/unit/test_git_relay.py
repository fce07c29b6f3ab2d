"""The door through which git reaches a repository: who does not know its secret gets nowhere."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from reprobuild.fetch.git_relay import Relay, relay
from reprobuild.fetch.http import Http

SECONDS = 5.0


@pytest.fixture
def door() -> Iterator[Relay]:
    with Http({}) as http, relay(http, "https://git.test/x.git") as made:
        yield made


@pytest.mark.parametrize("length", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("path", ["/guess/git-upload-pack", "/", "/\xe9/git-upload-pack"])
def test_a_stranger_is_turned_away_before_anything_of_the_body_is_read(
    door: Relay, path: str, length: str
) -> None:
    port = urlsplit(door.door).port
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}\r\n\r\n"
        client.sendall(head.encode("latin-1"))
        assert client.recv(65536).startswith(b"HTTP/1.1 404 ")
    assert door.failure is None
