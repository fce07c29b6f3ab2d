"""Compressed files of records: gzip, bzip2, xz, zstd, read strictly and written to the same bytes each time.

Knows nothing of records. What is cut off, damaged, or goes on with something else is an error: where an
archive's reader may ignore what follows, here it could be records.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

INPUT = 1 << 16
"""Compressed bytes read at a time."""
ZSTD_INPUT = 1 << 12
"""As ``INPUT``, for zstd, whose output can't be asked for in parts: four bytes can stand for 128 KiB."""
BLOCK = 1 << 20
"""Bytes compressed at a time: always as many, since that shows in what comes out."""
MOST_MEMORY = 512 << 20
"""Bytes that a stream may ask for as its window."""

MAGIC = (
    (b"\x1f\x8b", "gzip", "gz"),
    *((b"BZh%d1AY&SY" % level, "bzip2", "bz2") for level in range(1, 10)),
    (b"\xfd7zXZ\0", "xz", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zst"),
)
"""How a compressed file begins, what that is, and the ending of its name."""
LONGEST_MAGIC = max(len(start) for start, _, _ in MAGIC)


class PackingError(Exception):
    """A compressed file that does not unpack; the message says why."""


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, size: int, /) -> bytes: ...
    def is_hungry(self) -> bool: ...


class _Bounded:
    """What bz2 and lzma have."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.decompress: Callable[[bytes, int], bytes] = inner.decompress

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        found: bytes = self._inner.unused_data
        return found

    def is_hungry(self) -> bool:
        return bool(self._inner.needs_input)


class _Inflate:
    """One member of gzip."""

    def __init__(self) -> None:
        import zlib

        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def is_hungry(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, size: int, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, size)


class _Zstd:
    """One frame of zstd."""

    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor(max_window_size=MOST_MEMORY).decompressobj()

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def is_hungry(self) -> bool:
        return True

    def decompress(self, data: bytes, size: int, /) -> bytes:
        return self._inner.decompress(data) if data else b""


def _unpacker(packing: str) -> _Unpacker:
    if packing == "gzip":
        return _Inflate()
    if packing == "zstd":
        return _Zstd()
    if packing == "bzip2":
        import bz2

        return _Bounded(bz2.BZ2Decompressor())
    import lzma

    return _Bounded(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_MEMORY))


def _faults(packing: str) -> tuple[Any, ...]:
    """Give what a damaged stream raises."""
    if packing == "gzip":
        import zlib

        return (zlib.error,)
    if packing == "xz":
        import lzma

        return (lzma.LZMAError,)
    if packing == "zstd":
        import zstandard

        return (zstandard.ZstdError,)
    return (OSError, EOFError)


def _begins(data: bytes, packing: str) -> bool:
    """Tell whether data begins as a compression does, as far as it goes."""
    starts = [start for start, what, _ in MAGIC if what == packing]
    return any(data.startswith(start[: len(data)]) for start in starts)


class _Unpacked(io.RawIOBase):
    """What a compressed file holds: of one or more members, one after the other."""

    def __init__(self, file: BinaryIO, packing: str) -> None:
        self._file = file
        self._packing = packing
        self._faults = (*_faults(packing), MemoryError, ValueError)
        self._inner: _Unpacker | None = None
        self._rest = b""
        """Read, and not unpacked yet."""
        self._ready = b""
        """Unpacked, and not given out yet."""
        self._amount = ZSTD_INPUT if packing == "zstd" else INPUT
        self._wrong = ""
        """What is wrong if the member that is read, and does not begin as one, is none."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        size = len(buffer)
        while not self._ready:
            if self._inner is None or self._inner.eof:
                if not self._rest and not (chunk := self._file.read(self._amount)):
                    if self._inner is None:
                        raise PackingError(f"it is empty, and no {self._packing}")
                    return 0
                self._rest = self._rest or chunk
                if len(self._rest) < LONGEST_MAGIC:
                    self._rest += self._file.read(self._amount - len(self._rest))
                wrong = "it is no {}" if self._inner is None else "behind its {} stands something else"
                self._wrong = "" if _begins(self._rest, self._packing) else wrong.format(self._packing)
                self._inner = _unpacker(self._packing)
                self._feed(size)
            elif self._inner.is_hungry():
                self._rest = self._file.read(self._amount)
                is_over = not self._rest
                self._feed(size)
                if is_over and not self._ready and not self._inner.eof:
                    raise PackingError(self._wrong or f"its {self._packing} is cut off")
            else:
                self._feed(size)
        count = min(size, len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _feed(self, size: int) -> None:
        assert self._inner is not None
        given, self._rest = self._rest[: self._amount], self._rest[self._amount :]
        try:
            self._ready = self._inner.decompress(given, size)
        except self._faults as error:
            raise PackingError(self._wrong or f"its {self._packing} is damaged ({error})") from None
        if self._inner.eof:
            self._rest = self._inner.unused_data + self._rest


def unpacked(file: BinaryIO, packing: str) -> BinaryIO:
    """Give what a compressed file holds; raises PackingError while it is read."""
    return io.BufferedReader(_Unpacked(file, packing), BLOCK)


class Packed:
    """Compresses what is written; the same bytes give the same file, however they are cut.

    ``write`` gives the compressed bytes on to a function; ``finish`` gives the last ones.
    """

    def __init__(self, packing: str, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._waiting = bytearray()
        self._inner: Any = _packer(packing)

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self._waiting += data
        while len(self._waiting) >= BLOCK:
            block = bytes(self._waiting[:BLOCK])
            del self._waiting[:BLOCK]
            self._write(self._inner.compress(block))

    def finish(self) -> None:
        """Write what is left, and the end."""
        self._write(self._inner.compress(bytes(self._waiting)) + self._inner.flush())


def _packer(packing: str) -> Any:
    if packing == "gzip":
        import zlib

        return zlib.compressobj(6, zlib.DEFLATED, 31)  # its header has no name and no time
    if packing == "bzip2":
        import bz2

        return bz2.BZ2Compressor()
    if packing == "xz":
        import lzma

        return lzma.LZMACompressor(lzma.FORMAT_XZ)
    import zstandard

    return zstandard.ZstdCompressor(write_checksum=True).compressobj()
