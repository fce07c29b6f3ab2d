from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.engine.lines import LONGEST_KEPT, LONGEST_PIECE, TAIL_LINES, Lines

CASES = {
    "nothing": ([], [], ()),
    "lines": ([b"a\nb\n"], [b"a\n", b"b\n"], ("a", "b")),
    "no line end": ([b"a\nb"], [b"a\n", b"b"], ("a", "b")),
    "in pieces": ([b"a", b"b\nc", b"\n"], [b"ab\n", b"c\n"], ("ab", "c")),
    "empty lines": ([b"\n\n"], [b"\n", b"\n"], ("", "")),
    "no text": ([b"\xff\x00\n"], [b"\xff\x00\n"], ("\ufffd\x00",)),
}


@pytest.mark.parametrize(("fed", "given_on", "tail"), CASES.values(), ids=CASES)
def test_lines_are_given_on_and_kept(fed: list[bytes], given_on: list[bytes], tail: tuple[str, ...]) -> None:
    got: list[bytes] = []
    lines = Lines(got.append)
    for data in fed:
        lines.feed(data)
    lines.close()
    assert got == given_on
    assert lines.tail == tail


def test_a_long_line_comes_in_pieces_and_is_kept_in_part() -> None:
    got: list[bytes] = []
    lines = Lines(got.append)
    lines.feed(b"x" * 1_000_000 + b"\nlast\n")
    lines.close()
    assert max(map(len, got)) <= LONGEST_PIECE
    assert b"".join(got) == b"x" * 1_000_000 + b"\nlast\n"
    assert lines.tail == ("x" * LONGEST_KEPT, "last")


def test_the_tail_has_a_length() -> None:
    lines = Lines()
    lines.feed(b"".join(b"%d\n" % number for number in range(1000)))
    assert lines.tail == tuple(str(number) for number in range(1000 - TAIL_LINES, 1000))


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_nothing_is_lost_however_it_comes(pieces: list[bytes]) -> None:
    got: list[bytes] = []
    lines = Lines(got.append)
    for piece in pieces:
        lines.feed(piece)
    lines.close()
    assert b"".join(got) == b"".join(pieces)
    assert all(b"\n" not in line[:-1] for line in got)
