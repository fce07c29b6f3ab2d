"""What a person sees while work goes on: bars on a terminal, plain lines elsewhere; stderr alone.

The only module that knows rich, which is imported where a terminal is drawn on. Knows nothing of the
work: it draws events (``reprobuild.events``).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, Protocol

from reprobuild import events
from reprobuild.cli.text import count_text, rate_text, seconds_text, size_text, visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PAUSE = 5.0
"""Seconds between two plain lines that say how far something is."""
LARGE = 20_000_000
"""Bytes from which on a download has a plain line of its own."""

EVER_SO_OFTEN = (events.ItemsProgressed, events.Checked, events.PackProgressed)
"""Events that come often, and of which now and then one has a plain line."""


class Screen(Protocol):
    """Where events are drawn while a ``with`` block lasts."""

    def __enter__(self) -> Screen: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def tell(self, event: events.Event) -> None:
        """Draw an event; may be called from any thread."""


def screen_for(stream: IO[str], environment: Mapping[str, str], *, quiet: bool) -> Screen:
    """Choose how to draw: nothing where quiet, bars on a terminal that can, lines elsewhere."""
    if quiet:
        return QuietScreen(stream)
    if stream.isatty() and environment.get("TERM", "dumb") not in ("", "dumb"):
        return LiveScreen(stream, colour=not environment.get("NO_COLOR"))
    return PlainScreen(stream)


def line_of(event: events.Event) -> str:
    """Give the plain line of an event, control characters made visible; ``""`` where it has none."""
    match event:
        case events.FetchFinished(name, size):
            return visible(f"fetched {name} ({size_text(size)})")
        case events.PushFinished(name, size, sent):
            return visible(f"sent {name} ({size_text(size)})") if sent else ""
        case events.PackProgressed(done, size):
            return f"compressed {size_text(done)} of {size_text(size)}"
        case events.StepFinished(recipe, index, count, title, status, seconds):
            took = f" in {seconds_text(seconds)}" if status != "reused" else ""
            return visible(f"{recipe} [{index}/{count}] {title}: {status}{took}")
        case events.OutputLine(text):
            return "  | " + visible(text.rstrip("\r\n"))
        case events.Note(text):
            return visible(f"note: {text}")
        case events.Warned(text, hint):
            return visible(f"warning: {text}" + (f"\nhint: {hint}" if hint else ""))
        case events.ItemsProgressed(_, count, cached, is_reading=True):
            return f"{count_text(count, 'item')} read, {cached:,} from the cache"
        case events.ItemsProgressed(done, count, cached, rate, left):
            pace = f", {rate_text(rate)}, {seconds_text(left)} left" if rate and left else ""
            return f"{done:,} of {count_text(count, 'item')} done, {cached:,} from the cache{pace}"
        case events.Checked(what, done, count):
            return visible(f"checked {done:,} of {count:,} {what}")
        case _:
            return ""


class QuietScreen:
    """Draws warnings alone."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __enter__(self) -> QuietScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def tell(self, event: events.Event) -> None:
        """Draw a warning; drop all else."""
        if isinstance(event, events.Warned):
            print(line_of(event), file=self._stream, flush=True)


class PlainScreen:
    """Draws a line for what has been done; reads well in a log.

    Small downloads share a line, and so do small blobs that are sent: it is written when something else
    happens or some time has passed.
    """

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()
        self._last = clock()
        self._small: list[events.FetchFinished | events.PushFinished] = []

    def __enter__(self) -> PlainScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._say_small()

    def tell(self, event: events.Event) -> None:
        """Write the event's line, if it has one."""
        with self._lock:
            if isinstance(event, events.FetchFinished | events.PushFinished) and event.size < LARGE:
                if self._small and type(self._small[0]) is not type(event):
                    self._say_small()
                if line_of(event):
                    self._small.append(event)
                if self._is_time():
                    self._say_small()
            elif isinstance(event, EVER_SO_OFTEN) and not self._is_time():
                return
            elif line := line_of(event):
                self._say_small()
                print(line, file=self._stream, flush=True)

    def _is_time(self) -> bool:
        now = self._clock()
        if now - self._last < PAUSE:
            return False
        self._last = now
        return True

    def _say_small(self) -> None:
        if len(self._small) == 1:
            print(line_of(self._small[0]), file=self._stream, flush=True)
        elif self._small:
            size = size_text(sum(event.size for event in self._small))
            is_fetched = isinstance(self._small[0], events.FetchFinished)
            what = f"fetched {len(self._small)} files" if is_fetched else f"sent {len(self._small)} blobs"
            print(f"{what} ({size})", file=self._stream, flush=True)
        self._small.clear()


class LiveScreen:
    """Draws bars for what is going on, and a lasting line for what has been done.

    Nothing is drawn, and rich not imported, before the first event: most calls have nothing to tell.
    """

    def __init__(self, stream: IO[str], *, colour: bool) -> None:
        self._stream = stream
        self._colour = colour
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._sizes: dict[str, int | None] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> LiveScreen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def tell(self, event: events.Event) -> None:
        """Move a bar, or write a lasting line."""
        with self._lock:
            if self._progress is None:
                if isinstance(event, events.ItemsProgressed) and event.done == event.count:
                    return
                self._progress = self._make()
                self._progress.start()
            self._draw(self._progress, event)

    def _make(self) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        class Amount(DownloadColumn):
            """Bytes of a download, records of a prediction, nothing for a step."""

            def render(self, task):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
                from rich.text import Text

                if task.fields.get("unit") == "bytes":
                    return super().render(task)
                return Text(str(task.fields.get("amount", "")), style="progress.download")

        class Bar(BarColumn):
            """A bar where the end is known; nothing for a step."""

            def render(self, task):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
                return super().render(task) if task.fields.get("unit") else ""

        console = Console(file=self._stream, no_color=not self._colour, highlight=False, soft_wrap=True)
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            Bar(bar_width=24),
            Amount(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            refresh_per_second=8,
        )

    def _draw(self, progress: Progress, event: events.Event) -> None:
        match event:
            case events.FetchStarted(name, size):
                self._sizes[name] = size
                self._start(progress, "fetch " + name, f"fetch {name}", total=size, unit="bytes")
            case events.FetchProgressed(name, received):
                if (task := self._tasks.get("fetch " + name)) is not None:
                    progress.update(task, completed=received)
                    # What has arrived is not finished before its whole group is: its bar makes room.
                    if received == self._sizes.get(name):
                        self._end(progress, "fetch " + name)
            case events.FetchFinished(name, _):
                self._end(progress, "fetch " + name)
            case events.PushStarted(name, size):
                self._start(progress, "send " + name, f"send {name}", total=size, unit="bytes")
            case events.PushProgressed(name, sent):
                if (task := self._tasks.get("send " + name)) is not None:
                    progress.update(task, completed=sent)
            case events.PushFinished(name):
                self._end(progress, "send " + name)
            case events.PackProgressed(done, size):
                self._start(progress, "pack", "compress", total=size, unit="bytes", completed=done)
                if done >= size:
                    self._end(progress, "pack")
            case events.StepStarted(recipe, index, count, title):
                self._start(progress, f"{recipe} {index}", f"{recipe} [{index}/{count}] {title}", total=None)
            case events.StepFinished(recipe, index):
                self._end(progress, f"{recipe} {index}")
                self._end(progress, "output")
                self._line(progress, line_of(event), "dim" if event.status == "reused" else "green")
            case events.OutputLine(text):
                self._start(progress, "output", "| " + text.rstrip("\r\n")[:200], total=None)
            case events.ItemsProgressed(done, count, cached, rate):
                shown = f"{count:,} read" if event.is_reading else f"{done:,}/{count:,}"
                shown += f" ({cached:,} cached)" if cached else ""
                shown += f", {rate_text(rate)}" if rate else ""
                self._start(
                    progress,
                    "items",
                    "predict",
                    total=None if event.is_reading else count,
                    unit="items",
                    amount=shown,
                    completed=done,
                )
            case events.Checked(what, done, count):
                shown = f"{done:,}/{count:,}"
                self._start(
                    progress,
                    "check",
                    f"check {what}",
                    total=count,
                    unit="items",
                    amount=shown,
                    completed=done,
                )
            case events.Warned():
                self._line(progress, line_of(event), "yellow")
            case events.Note():
                self._line(progress, line_of(event), "")

    def _line(self, progress: Progress, line: str, style: str) -> None:
        from rich.text import Text

        progress.console.print(Text(line, style=style))

    def _start(
        self,
        progress: Progress,
        key: str,
        description: str,
        *,
        total: int | None,
        unit: str = "",
        amount: str = "",
        completed: int = 0,
    ) -> None:
        shown = visible(description).replace("\n", " ")
        task = self._tasks.get(key)
        if task is None:
            self._tasks[key] = progress.add_task(
                shown, total=total, completed=completed, unit=unit, amount=amount
            )
        else:
            progress.update(task, description=shown, total=total, completed=completed, amount=amount)

    def _end(self, progress: Progress, key: str) -> None:
        if (task := self._tasks.pop(key, None)) is not None:
            progress.remove_task(task)


def say(text: str) -> None:
    """Write a line for people to stderr, control characters made visible."""
    print(visible(text), file=sys.stderr, flush=True)
