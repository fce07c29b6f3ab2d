"""A blob that is to be pushed: its digest, its size, and where its bytes are had.

Knows nothing of registries, nor of where the bytes lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from reprobuild.digest import Digest
from reprobuild.value import Value


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
