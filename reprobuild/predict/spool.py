"""Bytes that are written and then read again: in memory while they are few, else in a file without a name.

What ``tempfile.SpooledTemporaryFile`` does, importing ``tempfile`` (and with it ``random`` and ``shutil``)
only where a file is needed. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

import io
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

LIMIT = 16 << 20
"""Bytes kept in memory."""


class Spool:
    """A file to write to from its beginning on, then to read; close it, or use it in a ``with`` block."""

    def __init__(self, folder: str | None, limit: int = LIMIT) -> None:
        """``folder``: where a file is made if need be; None: where the system keeps such files."""
        self._folder = folder
        self._room = limit
        self._file: IO[bytes] = io.BytesIO()
        self._is_in_memory = True

    def write(self, data: bytes) -> int:
        """Add bytes."""
        if self._is_in_memory and self._file.tell() + len(data) > self._room:
            self._move_to_disk()
        return self._file.write(data)

    def seek(self, position: int) -> int:
        """Go to a byte."""
        return self._file.seek(position)

    def read(self, count: int = -1) -> bytes:
        """Give so many bytes, or all that are left."""
        return self._file.read(count)

    def read_at(self, position: int, count: int) -> bytes:
        """Give so many bytes from a byte on, moving nothing: once all is written, for any thread."""
        if isinstance(self._file, io.BytesIO):
            with self._file.getbuffer() as held:
                return bytes(held[position : position + count])
        self._file.flush()
        return os.pread(self._file.fileno(), count, position)

    def readlines(self, hint: int = -1) -> list[bytes]:
        """Give whole lines of about so many bytes, or all that are left."""
        return self._file.readlines(hint)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *reason: object) -> None:
        self._file.close()

    def _move_to_disk(self) -> None:
        from tempfile import TemporaryFile

        memory, self._file = self._file, TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._is_in_memory = False
        memory.seek(0)
        while block := memory.read(1 << 20):
            self._file.write(block)
