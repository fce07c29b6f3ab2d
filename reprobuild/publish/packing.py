"""Layers as they travel: compressed, with digest and size known.

A layer is compressed once; what it came to is remembered in the store, and whoever needs its bytes later
makes the same ones again. Knows nothing of registries and manifests.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType

from reprobuild.canonical import canonical_digest
from reprobuild.digest import BUFFER_SIZE, Digest
from reprobuild.errors import CheckFailedError
from reprobuild.events import PackProgressed, Tell, ignore
from reprobuild.images.export import verified_chunks
from reprobuild.images.image import LayerReference
from reprobuild.publish.compress import compressed, compressor, workers
from reprobuild.publish.content import from_offset
from reprobuild.registry.blob import BlobSource
from reprobuild.store.disk import trouble
from reprobuild.store.store import Store
from reprobuild.tree import Layer

AT_A_TIME = 2
"""Layers that are compressed at a time: one alone keeps all cores busy, unless its files are small."""
BEAT = 4 * 1024 * 1024
"""Bytes after which progress is told again."""


def packed(store: Store, diff_id: Digest) -> tuple[Digest, int] | None:
    """Give digest and size in bytes that a layer comes to; None where it was not packed here before."""
    return _recall(store, _key(diff_id, compressor()))


class Packing:
    """Packs layers; a context manager, to be left when the blobs that it gave have been read."""

    def __init__(self, store: Store, tell: Tell = ignore) -> None:
        self._store = store
        self._tell = tell
        self._by = compressor()
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._names = itertools.count()

    def __enter__(self) -> Packing:
        self._store.reap()
        self._pool = self._stack.enter_context(workers())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def pack(self, layers: Sequence[LayerReference]) -> list[BlobSource]:
        """Give the compressed layers, in the same order; those not known yet are compressed now.

        Raises CheckFailedError where a layer in the store is not the image's.
        """
        named = {
            layer.diff_id: (layer, f"layer {number} ({layer.step})")
            for number, layer in reversed([*enumerate(layers, start=1)])
        }
        found = {diff_id: self._known(*one) for diff_id, one in named.items()}
        new = [named[diff_id] for diff_id, blob in found.items() if blob is None]
        if new:
            found |= self._make(new)
        return [blob for layer in layers if (blob := found[layer.diff_id]) is not None]

    def _known(self, layer: LayerReference, name: str) -> BlobSource | None:
        recalled = _recall(self._store, _key(layer.diff_id, self._by))
        if recalled is None:
            return None
        return BlobSource(*recalled, self._again(layer, recalled[0]), name)

    def _make(self, new: Sequence[tuple[LayerReference, str]]) -> dict[Digest, BlobSource]:
        """Compress layers into files that last as long as this packing."""
        folder = self._stack.enter_context(self._store.scratch("packed"))
        size = sum(layer.size for layer, _ in new)
        done = 0

        def count(taken: int) -> None:
            nonlocal done
            with self._lock:
                before, done = done, done + taken
                if done == size or before // BEAT < done // BEAT:
                    self._tell(PackProgressed(done, size))

        def make(one: tuple[LayerReference, str]) -> BlobSource:
            path = folder / str(next(self._names))
            digest, length = self._write(one[0], path, count)
            self._store.realisations.put(
                _key(one[0].diff_id, self._by),
                {
                    "kind": "packed",
                    "blobs": [],
                    "layer": str(one[0].layer_digest),
                    "diff_id": str(one[0].diff_id),
                    "digest": str(digest),
                    "size": length,
                },
            )
            return BlobSource(digest, length, lambda offset: _read(path, offset), one[1])

        with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="pack") as pool:
            try:
                blobs = list(pool.map(make, new))
            except BaseException:
                self._pool.shutdown(wait=False, cancel_futures=True)  # so that what is compressed now ends
                raise
        return {layer.diff_id: blob for (layer, _), blob in zip(new, blobs, strict=True)}

    def _write(self, layer: LayerReference, path: Path, count: Callable[[int], None]) -> tuple[Digest, int]:
        hasher = hashlib.sha256()
        size = 0
        try:
            with path.open("xb", buffering=0) as file:
                for piece in self._stream(layer, count):
                    hasher.update(piece)
                    size += len(piece)
                    file.write(piece)
        except OSError as error:
            raise trouble(error, f"writing to the store {self._store.path}") from error
        return Digest(hasher.hexdigest()), size

    def _stream(
        self, layer: LayerReference, count: Callable[[int], None] = lambda _: None
    ) -> Generator[bytes]:
        def counted() -> Iterator[bytes]:
            for chunk in verified_chunks(layer, self._read_layer, self._store.blobs.open)():
                count(len(chunk))
                yield chunk

        return compressed(counted(), self._pool)

    def _read_layer(self, layer: LayerReference) -> Layer:
        return Layer.parse(self._store.blobs.read(layer.layer_digest))

    def _again(self, layer: LayerReference, expected: Digest) -> Callable[[int], Iterator[bytes]]:
        """Give what compresses a layer anew, from an offset of the outcome on."""

        def chunks(offset: int) -> Iterator[bytes]:
            hasher = hashlib.sha256()

            def hashed(pieces: Iterator[bytes]) -> Iterator[bytes]:
                for piece in pieces:
                    hasher.update(piece)
                    yield piece

            with closing(self._stream(layer)) as pieces:
                yield from from_offset(hashed(pieces), offset)
            if hasher.hexdigest() != expected.hex:
                self._store.realisations.remove(_key(layer.diff_id, self._by))
                raise CheckFailedError(
                    f"the layer of {layer.step} was compressed to other bytes than before\n"
                    f"  expected  {expected}\n  got       sha256:{hasher.hexdigest()}",
                    "what was remembered of it is forgotten now: run the same command again",
                )

        return chunks


def _key(diff_id: Digest, by: Digest) -> Digest:
    return canonical_digest({"packed": str(diff_id), "by": str(by)})


def _recall(store: Store, key: Digest) -> tuple[Digest, int] | None:
    record = store.realisations.get(key)
    if record is None:
        return None
    try:
        return Digest.parse(record["digest"]), int(record["size"])
    except (KeyError, TypeError, ValueError):
        return None  # damaged: it is packed anew


def _read(path: Path, offset: int) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            while piece := file.read(BUFFER_SIZE):
                yield piece
    except OSError as error:
        raise trouble(error, f"reading {path}") from error
