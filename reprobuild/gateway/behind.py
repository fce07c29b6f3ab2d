"""Writes a body behind its reader's back: hash and disk in one thread, both ends of the network in another.

A download that is recorded does twice the work of one that is not; so it takes two cores where there are
two. Small bodies are written at once. Knows nothing of where blocks come from.
"""

from __future__ import annotations

import queue
import threading

from reprobuild.errors import OutsideError
from reprobuild.store.transaction import BlobWriter

WORTH_A_THREAD = 1024 * 1024
"""Bytes from which on a body has its own thread."""
AHEAD = 16
"""Blocks that may wait to be written: what bounds memory."""


class Behind:
    """Takes the blocks of one body; as a context manager it lets its thread end."""

    def __init__(self, writer: BlobWriter) -> None:
        self._writer = writer
        self.size = 0
        """Bytes that were taken so far."""
        self._queue: queue.Queue[bytes] = queue.Queue(AHEAD)
        self._thread: threading.Thread | None = None
        self._failure: OutsideError | None = None

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, *_: object) -> None:
        self._join()

    def write(self, block: bytes) -> None:
        """Take a block. Raises OutsideError where one before could not be written."""
        if self._thread is None and self.size < WORTH_A_THREAD:
            self._writer.write(block)
        else:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="gateway-write", daemon=True)
                self._thread.start()
            self._queue.put(block)
        self.size += len(block)
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Wait until all is written; raises OutsideError."""
        self._join()
        if self._failure is not None:
            raise self._failure

    def _join(self) -> None:
        if self._thread is not None:
            self._queue.put(b"")
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while block := self._queue.get():
            if self._failure is None:
                try:
                    self._writer.write(block)
                except OutsideError as error:
                    self._failure = error
