"""Words for people: sizes, durations, control characters, the nearest name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.cli.text import count_text, did_you_mean, seconds_text, size_text, visible


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (999_960, "1.0 MB"),
        (1_340_000_000, "1.3 GB"),
        (5_000_000_000_000, "5.0 TB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (12.4, "12 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7260, "2 h 1 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_counts() -> None:
    assert (count_text(1, "step"), count_text(2000, "step")) == ("1 step", "2,000 steps")
    assert count_text(0, "entry", "entries") == "0 entries"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain, ümlaut, 漢字\ta\n", "plain, ümlaut, 漢字\ta\n", id="text stays"),
        pytest.param("\x1b]0;title\x07", "\\x1b]0;title\\x07", id="escape sequence"),
        pytest.param("a\rb\x08\x7f\x9b", "a\\x0db\\x08\\x7f\\x9b", id="C0, DEL, C1"),
        pytest.param("\u202eevil\u2066", "\\u202eevil\\u2066", id="directions"),
        pytest.param("\udcff", "\\udcff", id="byte that is no UTF-8"),
    ],
)
def test_control_characters_are_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_what_is_visible_can_be_written_and_stays(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert visible(shown) == shown


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        pytest.param("tutorail", "did you mean tutorial?", id="typo"),
        pytest.param("post", "did you mean post2018?", id="beginning"),
        pytest.param("zzz", "known: hutto2014, post2018, tutorial", id="nothing like it"),
    ],
)
def test_the_nearest_name(word: str, hint: str) -> None:
    assert did_you_mean(word, ["tutorial", "post2018", "hutto2014"]) == hint
