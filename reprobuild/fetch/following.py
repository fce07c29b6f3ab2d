"""A download that is read while it arrives, by a thread behind the one that writes it.

The reader gets the end of the bytes only when somebody has found them to be the right ones: what it makes
of them may count from then on, and not before. Knows nothing of where they come from, nor of what they are.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from reprobuild.fetch.partial import Partial, Stopped

Take = Callable[[Any], object]
"""Reads a binary file, which can go back by ``seek(-n, os.SEEK_CUR)``, to its end."""


class Follower:
    """Gives a partial's bytes to a reader as they come; begins anew where the partial does.

    All but the reading is for the thread that writes.
    """

    def __init__(self, partial: Partial, take: Take) -> None:
        self._partial = partial
        self._take = take
        self._restarts = partial.restarts
        self._reader: _Reader | None = None

    def grown(self) -> None:
        """Hear that there are more bytes. Raises what the reader raised."""
        self._current().grown(self._partial.size)

    def finish(self) -> None:
        """Say that all bytes are there, and right; come back when they are read. Raises as ``grown``."""
        self._current().finish(self._partial.size)

    def call_off(self) -> None:
        """End the reader in the middle, unless it has finished."""
        if self._reader is not None:
            self._reader.call_off()
            self._reader = None

    def _current(self) -> _Reader:
        """Give the reader of the bytes that the partial has now."""
        if self._restarts != self._partial.restarts:
            self._restarts = self._partial.restarts
            self.call_off()
        if self._reader is None:
            self._reader = _Reader(self._partial, self._take)
        return self._reader


class _Reader:
    """A thread that reads a growing file, and the file as it sees it."""

    def __init__(self, partial: Partial, take: Take) -> None:
        self._take = take
        self._descriptor = os.open(partial.path, os.O_RDONLY | os.O_CLOEXEC)
        self._changed = threading.Condition()
        self._size = 0
        self._position = 0
        self._is_whole = False
        self._is_off = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="follow", daemon=True)
        self._thread.start()

    def grown(self, size: int) -> None:
        self._tell(size, is_whole=False)
        if self._failure is not None:
            raise self._failure

    def finish(self, size: int) -> None:
        self._tell(size, is_whole=True)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def call_off(self) -> None:
        with self._changed:
            self._is_off = True
            self._changed.notify()
        self._thread.join()

    def _tell(self, size: int, *, is_whole: bool) -> None:
        with self._changed:
            self._size = size
            self._is_whole = is_whole
            self._changed.notify()

    def _work(self) -> None:
        try:
            self._take(self)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the thread that writes, which raises it
            self._failure = error
        finally:
            os.close(self._descriptor)

    # As a binary file.

    def read(self, size: int) -> bytes:
        """Give at most ``size`` bytes, as soon as there are any; ``b""`` at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_off or self._is_whole or self._size > self._position)
            if self._is_off:
                raise Stopped
            wanted = min(size, self._size - self._position)
        if not wanted:
            return b""
        data = os.pread(self._descriptor, wanted, self._position)
        if not data:  # the file has begun anew, and whoever writes it is about to say so
            with self._changed:
                self._changed.wait_for(lambda: self._is_off)
            raise Stopped
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int) -> int:
        """Go back in what has been read."""
        assert whence == os.SEEK_CUR
        assert -self._position <= offset <= 0
        self._position += offset
        return self._position
