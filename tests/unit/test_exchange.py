from __future__ import annotations

from typing import Any

import pytest

from reprobuild.derivation.exchange import NO_BODY, Exchange, key, ordered, read
from reprobuild.derivation.pins import Pin
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError


def exchange(url: str, body: bytes = b"", method: str = "GET", **more: Any) -> Exchange:
    fields = {"method": method, "url": url, "status": 200, "size": len(body), "sha256": Digest.of(body)}
    return Exchange(**{**fields, **more})


def test_an_exchange_and_its_pin_say_the_same() -> None:
    one = exchange(
        "https://a.test/", b"x", headers={"vary": "X-Kind"}, request={"x-kind": "1", "cookie": True}
    )
    assert one.pin.hashed == {
        "status": 200,
        "headers": {"vary": "X-Kind"},
        "request": {"x-kind": "1", "cookie": True},
    }
    assert read(one.pin) == one
    assert "request" not in exchange("https://a.test/").pin.hashed


def test_they_are_ordered_by_address_and_turn_and_equal_ones_in_a_row_kept_once() -> None:
    a1, a2 = exchange("https://a.test/", b"1"), exchange("https://a.test/", b"2")
    head, b = exchange("https://a.test/", method="HEAD"), exchange("https://b.test/")
    assert ordered([b, a1, a1, head, a2, a2, a1, b]) == (a1, a2, a1, head, b)
    packed = exchange("https://a.test/", b"z", request={"accept-encoding": "gzip"})
    assert ordered([a1, packed, a1, packed]) == (a1, packed)
    assert ordered([packed, a2, a1]) == ordered([a2, packed, a1]) == (a2, a1, packed)


def test_what_was_added_on_the_way_tells_no_requests_apart() -> None:
    plain, signed = exchange("https://a.test/"), exchange("https://a.test/", request={"signed": True})
    assert key(plain) == key(signed)
    assert plain.is_repeatable and not signed.is_repeatable


@pytest.mark.parametrize(
    "more",
    [
        {"method": "POST"},
        {"status": 404},
        {"request": {"authorization": True}},
        {"request": {"credentials": True}},
        {"request": {"range": "bytes=0-1"}},
        {"headers": {"cache-control": "private, No-Store"}},
        {"url": "https://a.test/?token=***"},
    ],
    ids=str,
)
def test_what_upstream_would_not_give_again(more: dict[str, Any]) -> None:
    assert not exchange(**{"url": "https://a.test/", **more}).is_repeatable


@pytest.mark.parametrize(
    ("name", "hashed"),
    [
        ("https://a.test/", {"status": 200}),
        ("GET ftp://a.test/", {"status": 200}),
        ("G\tT https://a.test/", {"status": 200}),
        ("GET https://a.test/", {}),
        ("GET https://a.test/", {"status": 100}),
        ("GET https://a.test/", {"status": 200, "headers": {"x": "a\r\nSet-Cookie: b"}}),
        ("GET https://a.test/", {"status": 200, "headers": {"x": 1}}),
        ("GET https://a.test/", {"status": 200, "request": []}),
    ],
    ids=str,
)
def test_a_pin_that_is_no_exchange_is_refused(name: str, hashed: dict[str, Any]) -> None:
    with pytest.raises(CheckFailedError, match="makes no sense"):
        read(Pin(name, 0, NO_BODY, hashed))
