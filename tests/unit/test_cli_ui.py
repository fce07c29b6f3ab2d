"""What events look like: plain lines in a log, bars on a terminal, warnings alone where quiet."""

from __future__ import annotations

import io
from typing import Any

import pytest

from reprobuild.cli.ui import LiveScreen, PlainScreen, QuietScreen, line_of, screen_for
from reprobuild.events import (
    Checked,
    Event,
    FetchFinished,
    FetchProgressed,
    FetchStarted,
    ItemsProgressed,
    Note,
    OutputLine,
    StepFinished,
    StepStarted,
    Warned,
)

STORY: list[Event] = [
    FetchStarted("libc6.deb", 2_000_000),
    FetchProgressed("libc6.deb", 1_000_000),
    FetchFinished("libc6.deb", 2_000_000),
    StepStarted("tutorial", 1, 2, "apt bookworm python3"),
    StepFinished("tutorial", 1, 2, "apt bookworm python3", "built", 3.21),
    StepStarted("tutorial", 2, 2, "run make"),
    OutputLine("cc \x1b[31m-O2\r\n"),
    StepFinished("tutorial", 2, 2, "run make", "built", 12.0),
    Note("nothing of it matters"),
    Warned("it reached for the network", "url(…)"),
]

PLAIN = """\
fetched libc6.deb (2.0 MB)
tutorial [1/2] apt bookworm python3: built in 3.2 s
  | cc \\x1b[31m-O2
tutorial [2/2] run make: built in 12 s
note: nothing of it matters
warning: it reached for the network
hint: url(…)
"""


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_for_what_was_done() -> None:
    stream = io.StringIO()
    with screen_for(stream, {"TERM": "xterm"}, quiet=False) as screen:
        for event in STORY:
            screen.tell(event)
    assert stream.getvalue() == PLAIN


def test_quiet_is_warnings_alone() -> None:
    stream = io.StringIO()
    with screen_for(stream, {}, quiet=True) as screen:
        for event in STORY:
            screen.tell(event)
    assert stream.getvalue() == "warning: it reached for the network\nhint: url(…)\n"


def test_a_terminal_gets_lasting_lines_and_no_control_character_of_a_command() -> None:
    stream = Terminal()
    with screen_for(stream, {"TERM": "xterm", "NO_COLOR": "1"}, quiet=False) as screen:
        assert isinstance(screen, LiveScreen)
        for event in STORY:
            screen.tell(event)
    text = stream.getvalue()
    for line in (
        "tutorial [1/2] apt bookworm python3: built in 3.2 s",
        "warning: it reached for the network",
    ):
        assert line in text
    assert "\x1b[31m-O2" not in text


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": ""}, {}], ids=["dumb", "empty", "unset"])
def test_a_dumb_terminal_gets_plain_lines(environment: dict[str, str]) -> None:
    assert isinstance(screen_for(Terminal(), environment, quiet=False), PlainScreen)


def test_reused_steps_say_no_time() -> None:
    event = StepFinished("tutorial", 1, 2, "apt bookworm python3", "reused", 0.1)
    assert line_of(event) == "tutorial [1/2] apt bookworm python3: reused"


def test_how_far_predictions_are_is_said_now_and_then() -> None:
    stream, times = io.StringIO(), iter([0.0, 1.0, 6.0, 7.0])
    screen = PlainScreen(stream, clock=lambda: next(times))
    for done in (10, 20, 30):
        screen.tell(ItemsProgressed(done, 1000, 5))
    assert stream.getvalue() == "20 of 1,000 items done, 5 from the cache\n"


def test_while_records_are_read_nothing_is_said_of_all() -> None:
    event = ItemsProgressed(5, 1000, 5, is_reading=True)
    assert line_of(event) == "1,000 items read, 5 from the cache"
    with LiveScreen(io.StringIO(), colour=False) as screen:
        screen.tell(event)
        assert screen._progress is not None
        (task,) = screen._progress.tasks
        assert (task.total, task.fields["amount"]) == (None, "1,000 read (5 cached)")
        screen.tell(ItemsProgressed(500, 2000, 5))
        assert (task.total, task.completed) == (2000, 500)


PACES = {
    "fast": ((20, 1000, 5, 1234.6, 0.8), "20 of 1,000 items done, 5 from the cache, 1,235/s, 0.8 s left"),
    "slow": ((20, 1000, 5, 3.21, 200.0), "20 of 1,000 items done, 5 from the cache, 3.2/s, 3 min 20 s left"),
    "very slow": ((2, 4, 0, 0.05, 40.0), "2 of 4 items done, 0 from the cache, 20 s each, 40 s left"),
}


@pytest.mark.parametrize("fields, line", PACES.values(), ids=PACES)
def test_how_fast_predictions_go_and_for_how_long(fields: Any, line: str) -> None:
    assert line_of(ItemsProgressed(*fields)) == line


def test_small_downloads_share_a_line_and_large_ones_have_their_own() -> None:
    stream = io.StringIO()
    with PlainScreen(stream, clock=lambda: 0.0) as screen:
        for number in range(3):
            screen.tell(FetchFinished(f"{number}.deb", 500_000))
        screen.tell(FetchFinished("model.bin", 1_300_000_000))
        screen.tell(FetchFinished("4.deb", 1000))
    assert stream.getvalue() == (
        "fetched 3 files (1.5 MB)\nfetched model.bin (1.3 GB)\nfetched 4.deb (1.0 kB)\n"
    )


def test_how_far_an_audit_is_is_said_now_and_then() -> None:
    stream, times = io.StringIO(), iter([0.0, 1.0, 6.0])
    screen = PlainScreen(stream, clock=lambda: next(times))
    screen.tell(Checked("blobs", 1000, 5000))
    screen.tell(Checked("blobs", 2000, 5000))
    assert stream.getvalue() == "checked 2,000 of 5,000 blobs\n"


def test_a_quiet_screen_is_chosen_on_a_terminal_too() -> None:
    assert isinstance(screen_for(Terminal(), {"TERM": "xterm"}, quiet=True), QuietScreen)
