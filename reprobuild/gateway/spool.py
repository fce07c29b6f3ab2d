"""A request's body while it arrives: small ones in memory, others in a file without a name, digested.

Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
import tempfile
from typing import IO, BinaryIO, cast

from reprobuild.digest import Digest

IN_MEMORY = 1024 * 1024


class Spool:
    """Takes a body; ``done`` gives it."""

    def __init__(self, folder: str) -> None:
        """``folder``: where a file may lie; nothing of it outlives the request."""
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._hasher = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | bytearray) -> None:
        """Add bytes."""
        if self._file is None:
            self._file = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=self._folder)  # noqa: SIM115
        self._hasher.update(data)
        self._file.write(data)
        self.size += len(data)

    def done(self) -> tuple[BinaryIO | None, int, Digest]:
        """Give the file at its beginning (None for no body), size and digest."""
        if self._file is not None:
            self._file.seek(0)
        return cast("BinaryIO | None", self._file), self.size, Digest(self._hasher.hexdigest())

    def close(self) -> None:
        """Forget the body."""
        if self._file is not None:
            self._file.close()
