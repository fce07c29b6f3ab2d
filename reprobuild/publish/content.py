"""Blobs on their way out with what a manifest says of each: bytes at hand, files of the store, streams.

Knows nothing of what they mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from reprobuild.digest import BUFFER_SIZE, Digest
from reprobuild.images.manifest import Descriptor
from reprobuild.registry.blob import BlobSource
from reprobuild.store.blobs import damaged
from reprobuild.store.disk import trouble
from reprobuild.store.store import Store
from reprobuild.value import NOTHING, Value


class Content(Value):
    """A blob and its entry in a manifest."""

    blob: BlobSource
    descriptor: Descriptor


def content(blob: BlobSource, media_type: str, annotations: Mapping[str, str] = NOTHING) -> Content:
    """Give a blob with its entry."""
    return Content(blob, Descriptor(media_type, blob.digest, blob.size, annotations=annotations))


def held(data: bytes, name: str) -> BlobSource:
    """Give bytes that are in memory."""
    return BlobSource(Digest.of(data), len(data), lambda offset: iter([data[offset:]]), name)


def stored(store: Store, digest: Digest, size: int, name: str) -> BlobSource:
    """Give a blob of the store; who reads it from its beginning on learns of damage (CheckFailedError)."""

    def chunks(offset: int) -> Iterator[bytes]:
        hasher = hashlib.sha256()
        with store.blobs.open(digest) as file:
            try:
                file.seek(offset)
                while piece := file.read(BUFFER_SIZE):
                    hasher.update(piece)
                    yield piece
            except OSError as error:
                raise trouble(error, f"reading {digest}") from error
        if not offset and hasher.hexdigest() != digest.hex:
            raise damaged(digest)

    return BlobSource(digest, size, chunks, name)


def from_offset(pieces: Iterable[bytes], offset: int) -> Iterator[bytes]:
    """Leave out the first bytes of a stream that can only be made from its beginning on."""
    position = 0
    for piece in pieces:
        before, position = position, position + len(piece)
        if position > offset:
            yield piece[max(0, offset - before) :]


def streamed(stream: Callable[[], Iterator[bytes]], digest: Digest, size: int, name: str) -> BlobSource:
    """Give a stream that is made anew each time."""
    return BlobSource(digest, size, lambda offset: from_offset(stream(), offset), name)
