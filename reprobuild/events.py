"""What happens while work is done, as values: told to a sink, drawn by ``cli`` alone.

Knows nothing of terminals. Whoever works calls ``tell(event)``; ``ignore`` drops them all.
"""

from __future__ import annotations

from collections.abc import Callable

from reprobuild.value import Value


class FetchStarted(Value):
    """A download begins."""

    name: str
    """What a person calls it: ``libc6_2.36-9_amd64.deb``."""
    size: int | None
    """Bytes that will come, where known."""


class FetchProgressed(Value):
    """More bytes of a download have arrived."""

    name: str
    received: int
    """Bytes so far."""


class FetchFinished(Value):
    """A download has arrived and fits its pin."""

    name: str
    size: int


class PushStarted(Value):
    """A blob begins to go to a registry, or an image to a daemon."""

    name: str
    """What a person calls it: ``layer 2``, ``reprobuild/tutorial:1.0-fbec5211b245``."""
    size: int


class PushProgressed(Value):
    """More bytes have gone out."""

    name: str
    sent: int
    """Bytes so far that are there, or on the way; fewer than before where a registry lost some."""


class PushFinished(Value):
    """A registry has a blob, a daemon an image."""

    name: str
    size: int
    sent: int
    """Bytes that travelled for it now: 0 where it was there."""


class PackProgressed(Value):
    """Layers are compressed: how many of how many bytes have been read."""

    done: int
    size: int


class StepStarted(Value):
    """Work on a step of an image begins."""

    recipe: str
    index: int
    """Counted from 1."""
    count: int
    title: str


class StepFinished(Value):
    """A step of an image is done."""

    recipe: str
    index: int
    count: int
    title: str
    status: str
    """``reused``, ``built`` or ``pulled``."""
    seconds: float


class OutputLine(Value):
    """A command inside the sandbox printed a line (control characters not yet taken out)."""

    text: str


class Note(Value):
    """Something worth a line that is no warning."""

    text: str


class Warned(Value):
    """Something that a person should see although the work goes on."""

    text: str
    hint: str = ""


class ItemsProgressed(Value):
    """Predictions go on: how many of how many records are done."""

    done: int
    count: int
    cached: int
    rate: float = 0.0
    """Records computed a second; 0 where none is yet."""
    left: float = 0.0
    """Seconds that the rest will take at this rate."""
    is_reading: bool = False
    """Whether records are still read, so that ``count`` is not that of all."""


class Checked(Value):
    """An audit goes on: how many of how many things of a kind have been looked at."""

    what: str
    """In the plural: ``blobs``, ``checkouts``."""
    done: int
    count: int


Event = (
    FetchStarted
    | FetchProgressed
    | FetchFinished
    | PushStarted
    | PushProgressed
    | PushFinished
    | PackProgressed
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
