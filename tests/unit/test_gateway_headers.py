from __future__ import annotations

import pytest

from reprobuild.gateway.headers import LONGEST, kept, shown_name, to_upstream
from reprobuild.gateway.ranges import UNSATISFIABLE, Range, part


def test_what_is_not_on_the_list_is_not_kept() -> None:
    answer = [
        ("Content-Type", "text/plain"),
        ("Set-Cookie", "a=b"),
        ("Date", "today"),
        ("X-Request-Id", "1"),
        ("Vary", "Accept"),
        ("Vary", "X-Kind"),
        ("ETag", '"x"\x1b[31m'),
        ("Link", '<https://x/a,b>; rel="xet-auth", </n>; rel="next"; title="a,b"'),
        ("Location", "x" * (LONGEST + 1)),
    ]
    assert kept(answer) == {
        "content-type": "text/plain",
        "etag": '"x"[31m',
        "link": '</n>; rel="next"; title="a,b"',
        "vary": "Accept, X-Kind",
    }


def test_what_is_between_neighbours_or_a_condition_goes_no_further() -> None:
    request = [
        ("Host", "a"),
        ("Connection", "close, X-Mine"),
        ("X-Mine", "1"),
        ("If-None-Match", "*"),
        ("Range", "bytes=0-1"),
        ("Expect", "100-continue"),
        ("Upgrade", "h2c"),
        ("Accept", "a"),
        ("Authorization", "Basic x"),
        ("Accept", "b"),
    ]
    assert to_upstream(request) == [("Accept", "a"), ("Authorization", "Basic x"), ("Accept", "b")]


def test_names_are_written_as_servers_write_them() -> None:
    names = ("etag", "content-type", "www-authenticate", "x-linked-etag")
    assert [*map(shown_name, names)] == ["ETag", "Content-Type", "WWW-Authenticate", "X-Linked-Etag"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("bytes=0-9", Range(0, 10)),
        ("bytes=90-200", Range(90, 100)),
        ("bytes=5-", Range(5, 100)),
        ("bytes=-5", Range(95, 100)),
        ("bytes=-500", Range(0, 100)),
        ("BYTES = 1 - 2", Range(1, 3)),
        ("bytes=100-", UNSATISFIABLE),
        ("bytes=-0", UNSATISFIABLE),
        ("bytes=9-5", None),
        ("bytes=0-1,3-4", None),
        ("lines=1-2", None),
        ("bytes=-", None),
        ("", None),
    ],
)
def test_which_part_of_a_body_is_meant(asked: str, found: Range | None) -> None:
    assert part({"range": asked}, 100) == found


@pytest.mark.parametrize(
    ("condition", "holds"),
    [('"a"', True), ("yesterday", True), ('"b"', False), ('W/"a"', False), ("today", False)],
)
def test_a_range_holds_for_the_version_that_is_meant(condition: str, holds: bool) -> None:
    request = {"range": "bytes=0-9", "if-range": condition}
    assert (part(request, 100, etag='"a"', modified="yesterday") is not None) is holds
