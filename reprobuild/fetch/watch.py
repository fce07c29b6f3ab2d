"""What the threads of downloads share: messages to the caller's thread, and the word to stop.

Knows nothing of where bytes go, nor of what they should be.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reprobuild.events import Event, FetchProgressed, FetchStarted
from reprobuild.fetch.partial import Partial, Stopped

if TYPE_CHECKING:
    from reprobuild.fetch.download import Fetched
    from reprobuild.fetch.http import Response

PROGRESS_SECONDS = 0.1


@dataclass(slots=True)
class Finished:
    """A thread's last word on a download: bytes to be committed, and what they mean."""

    index: int
    partial: Partial | None
    fetched: Fetched | None = None
    failure: BaseException | None = None


@dataclass(slots=True)
class Shared:
    """What the threads of one call share."""

    stop: threading.Event = field(default_factory=threading.Event)
    messages: queue.SimpleQueue[Event | Finished] = field(default_factory=queue.SimpleQueue)
    responses: set[Response] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def end(self) -> None:
        """Ask all threads to stop, those in the middle of a read too."""
        self.stop.set()
        with self.lock:
            for response in self.responses:
                response.stop()


class Watch:
    """Tells of one download's bytes, not too often; ends it when all are to stop."""

    def __init__(self, shared: Shared, name: str, grown: Callable[[], None] | None = None) -> None:
        """``name``: of the download; ``grown``: told of every bit that has arrived."""
        self._shared = shared
        self._name = name
        self._grown = grown
        self._has_begun = False
        self._told = 0.0

    def begin(self, size: int | None) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._shared.messages.put(FetchStarted(self._name, size))

    def progress(self, received: int) -> None:
        if self._shared.stop.is_set():
            raise Stopped
        if self._grown is not None:
            self._grown()
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            self._shared.messages.put(FetchProgressed(self._name, received))

    def wait(self, seconds: float) -> None:
        if self._shared.stop.wait(seconds):
            raise Stopped

    @contextmanager
    def reading(self, response: Response) -> Iterator[None]:
        with self._shared.lock:
            self._shared.responses.add(response)
        try:
            if self._shared.stop.is_set():
                raise Stopped
            yield
        finally:
            with self._shared.lock:
                self._shared.responses.discard(response)
