"""Bytes by their sha256: ``blobs/sha256/ab/abcdef…``, immutable once there.

Reads only; what writes is ``transaction``. Knows nothing of what the bytes mean.

Every blob has mode 0644 and the normal time. 0644, because that is the mode of nearly all large
files of a tree, and a checkout can link to a blob only where the modes agree; nobody but the owner
gets that far, since the store's own folder is 0700.
"""

from __future__ import annotations

import os

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, MissingBlobError
from reprobuild.store.disk import trouble
from reprobuild.tree import NORMAL_TIME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

BLOB_MODE = 0o644
TIMES = (NORMAL_TIME * 10**9, NORMAL_TIME * 10**9)
"""Access and modification time of every blob and checkout, in nanoseconds."""


class Blobs:
    """The blobs of a store."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def locate(self, digest: Digest) -> str:
        """Give where a blob is, or would be."""
        name = digest.hex
        return f"{self.folder}/{name[:2]}/{name}"

    def path(self, digest: Digest) -> Path:
        """Give where a blob is, or would be, as a Path."""
        from pathlib import Path

        return Path(self.locate(digest))

    def has(self, digest: Digest) -> bool:
        """Tell whether a blob is there (a writer asks ``Transaction.has``, which keeps it from ``gc``)."""
        try:
            os.stat(self.locate(digest))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise trouble(error, f"looking for {digest}") from error
        return True

    def size(self, digest: Digest) -> int:
        """Give a blob's size in bytes; raises MissingBlobError."""
        try:
            return os.stat(self.locate(digest)).st_size
        except FileNotFoundError:
            raise missing(digest) from None
        except OSError as error:
            raise trouble(error, f"looking for {digest}") from error

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob, unbuffered; raises MissingBlobError."""
        try:
            return open(self.locate(digest), "rb", buffering=0)
        except FileNotFoundError:
            raise missing(digest) from None
        except OSError as error:
            raise trouble(error, f"opening {digest}") from error

    def read(self, digest: Digest) -> bytes:
        """Give a small blob's bytes, checked against its name.

        Raises MissingBlobError, and CheckFailedError if the bytes are not what they were.
        """
        with self.open(digest) as file:
            try:
                data = file.read()
            except OSError as error:
                raise trouble(error, f"reading {digest}") from error
        if Digest.of(data) != digest:
            raise damaged(digest)
        return data

    def __iter__(self) -> Iterator[Digest]:
        """Give the digests of all blobs, in no order."""
        for inner in _names(self.folder):
            for name in _names(f"{self.folder}/{inner}"):
                try:
                    yield Digest(name)
                except ValueError:
                    continue


def missing(digest: Digest, needed: str = "") -> MissingBlobError:
    """Say that a blob is not there; ``needed``: what needs it."""
    what = f"{digest} is not in the store" + (f"; {needed} needs it" if needed else "")
    return MissingBlobError(
        what, "`reprobuild audit` lists all that is missing; `reprobuild realize NAME` makes it again"
    )


def damaged(digest: Digest) -> CheckFailedError:
    """Say that a blob's bytes are not those of its name."""
    return CheckFailedError(
        f"the blob {digest} was damaged after it came into the store",
        "`reprobuild audit --repair` moves it aside; `reprobuild realize NAME` then brings it back",
    )


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
