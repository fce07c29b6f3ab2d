"""What happens while work is done, as values: told to a sink, drawn by ``cli`` alone.

Knows nothing of terminals. Whoever works calls ``tell(event)``; ``ignore`` drops them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FetchStarted:
    """A download begins."""

    name: str
    """What a person calls it: ``libc6_2.36-9_amd64.deb``."""
    size: int | None
    """Bytes that will come, where known."""


@dataclass(frozen=True, slots=True)
class FetchProgressed:
    """More bytes of a download have arrived."""

    name: str
    received: int
    """Bytes so far."""


@dataclass(frozen=True, slots=True)
class FetchFinished:
    """A download has arrived and fits its pin."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class StepStarted:
    """Work on a step of an image begins."""

    recipe: str
    index: int
    """Counted from 1."""
    count: int
    title: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step of an image is done."""

    recipe: str
    index: int
    count: int
    title: str
    status: str
    """``reused``, ``built`` or ``pulled``."""
    seconds: float


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A command inside the sandbox printed a line (control characters not yet taken out)."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth a line that is no warning."""

    text: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that a person should see although the work goes on."""

    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ItemsProgressed:
    """Predictions go on: how many of how many records are done."""

    done: int
    count: int
    cached: int


@dataclass(frozen=True, slots=True)
class Checked:
    """An audit goes on: how many of how many things of a kind have been looked at."""

    what: str
    """In the plural: ``blobs``, ``checkouts``."""
    done: int
    count: int


Event = (
    FetchStarted
    | FetchProgressed
    | FetchFinished
    | StepStarted
    | StepFinished
    | OutputLine
    | Note
    | Warned
    | ItemsProgressed
    | Checked
)
Tell = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Drop an event: the sink of whoever does not listen."""
