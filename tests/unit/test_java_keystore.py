"""Lists of authorities as Java writes them, made here by the format's description."""

from __future__ import annotations

import hashlib
import struct

import pytest

from reprobuild.images.java_keystore import is_keystore, normal_keystore
from reprobuild.tree import NORMAL_TIME


def sealed(body: bytes, password: str = "changeit") -> bytes:
    return body + hashlib.sha1(password.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()


def entry(alias: str, time: int, certificate: bytes, tag: int = 2) -> bytes:
    kind = b"X.509"
    head = struct.pack(">IH", tag, len(alias)) + alias.encode() + struct.pack(">Q", time)
    return head + struct.pack(">H", len(kind)) + kind + struct.pack(">I", len(certificate)) + certificate


def keystore(*entries: bytes, count: int | None = None) -> bytes:
    head = struct.pack(">III", 0xFEEDFEED, 2, len(entries) if count is None else count)
    return head + b"".join(entries)


def test_two_moments_give_one_keystore() -> None:
    one, other = (
        sealed(keystore(entry("a", time, b"first"), entry("debian:b.pem", time + 5, b"second" * 100)))
        for time in (1_700_000_000_000, 1_800_000_000_000)
    )
    normal = normal_keystore(one, NORMAL_TIME)
    assert normal == normal_keystore(other, NORMAL_TIME)
    moment = NORMAL_TIME * 1000
    assert normal == sealed(
        keystore(entry("a", moment, b"first"), entry("debian:b.pem", moment, b"second" * 100))
    )
    assert normal_keystore(normal, NORMAL_TIME) == normal


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x03\x04", id="something-else"),
        pytest.param(sealed(b"short"), id="too-short"),
        pytest.param(sealed(keystore(entry("a", 1, b"x")), "secret"), id="another-password"),
        pytest.param(sealed(keystore(entry("a", 1, b"key", tag=1))), id="a-private-key"),
        pytest.param(sealed(keystore(entry("a", 1, b"x"), count=2)), id="too-few"),
        pytest.param(sealed(keystore(entry("a", 1, b"x")) + b"more"), id="too-much"),
        pytest.param(sealed(keystore(entry("a", 1, b"x"))[:-1]), id="cut-off"),
    ],
)
def test_anything_else_stays(data: bytes) -> None:
    assert normal_keystore(data, NORMAL_TIME) == data


def test_names() -> None:
    assert is_keystore("etc/ssl/certs/java/cacerts")
    assert is_keystore("opt/trust.jks")
    assert not is_keystore("opt/cacerts/readme")
