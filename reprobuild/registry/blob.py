"""A blob that is to be pushed: its digest, its size, and where its bytes are had.

Knows nothing of registries, nor of where the bytes lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.value import Value

PIECE = 64 * 1024
"""Bytes handed to a socket at once."""


class BlobSource(Value):
    """Bytes with a known digest that can be read from anywhere in them, as often as is needed."""

    digest: Digest
    size: int
    chunks: Callable[[int], Iterator[bytes]]
    """Gives the bytes from an offset on, in pieces."""
    name: str = ""
    """What a person calls it: ``layer 2``; empty: the beginning of its digest."""

    @property
    def shown(self) -> str:
        """How progress and errors call it."""
        return self.name or self.digest.short


class BlobReader:
    """A blob's bytes, read on where the last read ended."""

    def __init__(self, blob: BlobSource) -> None:
        self._blob = blob
        self._pieces: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        self._position = -1

    def read(self, offset: int, count: int) -> Iterator[memoryview]:
        """Give bytes in pieces. Raises CheckFailedError where there are fewer."""
        if self._pieces is None or offset != self._position:
            self.close()
            self._pieces, self._rest, self._position = self._blob.chunks(offset), memoryview(b""), offset
        while count:
            while not self._rest:
                chunk = next(self._pieces, None)
                if chunk is None:
                    raise CheckFailedError(
                        f"{self._blob.shown} ({self._blob.digest}) ends after {self._position:,} of "
                        f"{self._blob.size:,} bytes",
                        "reprobuild audit --repair",
                    )
                self._rest = memoryview(chunk)
            piece = self._rest[: min(count, PIECE)]
            self._rest = self._rest[len(piece) :]
            self._position += len(piece)
            count -= len(piece)
            yield piece

    def close(self) -> None:
        """Let go of what the bytes come from."""
        if self._pieces is not None and hasattr(self._pieces, "close"):
            self._pieces.close()
        self._pieces = None
