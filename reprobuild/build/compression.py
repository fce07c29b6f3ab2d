"""Compressed streams, told by their first bytes: gzip, bzip2, xz, lzma, zstd, or none.

Knows nothing of archives. Reads forwards in bounded memory; what is cut off or damaged ends in an
ArchiveError, and so does what grows past any reason (``Limits``).
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast

from reprobuild.images.archive import ArchiveError, Stream

INPUT = 64 * 1024
MOST_MEMORY = 512 * 1024 * 1024
"""Bytes that an xz or zstd stream may ask for as its window."""
AGAIN = "take the archive from its source again"


@dataclass(frozen=True, slots=True)
class Limits:
    """How far an archive may grow before it counts as made to fill disks."""

    ratio: int = 250
    """Unpacked bytes for each packed one; deflate reaches about 1000."""
    always: int = 1024**3
    """Unpacked bytes that are fine at any ratio."""
    members: int = 2_000_000

    def most(self, packed: int) -> int:
        """Give how many bytes may come out of ``packed`` ones."""
        return max(self.always, self.ratio * packed)

    def check(self, unpacked: int, packed: int) -> None:
        """Raise ArchiveError for what is too much."""
        if unpacked > self.most(packed):
            raise ArchiveError(
                f"the archive has {packed:,} bytes and unpacks to more than {self.most(packed):,}",
                "if that is meant: place it without unpack=True and unpack it in a run(…) step",
            )


LIMITS = Limits()


class _Unpacker(Protocol):
    """What bz2, lzma and ISA-L have, and what ``_Deflated`` makes of zlib."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class _Gzip:
    """One gzip member, by ISA-L, which takes well under half of zlib's time."""

    def __init__(self) -> None:
        self._inner: _Unpacker | None = None

    @property
    def eof(self) -> bool:
        return self._inner is not None and self._inner.eof

    @property
    def needs_input(self) -> bool:
        return self._inner is None or self._inner.needs_input

    @property
    def unused_data(self) -> bytes:
        return b"" if self._inner is None else self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        from isal.igzip_lib import DECOMP_GZIP, IgzipDecompressor, IsalError

        if self._inner is None:
            is_plain = len(data) > 3 and data[3] in _PLAIN
            self._inner = IgzipDecompressor(flag=DECOMP_GZIP) if is_plain else _Deflated()
        try:
            return self._inner.decompress(data, max_length)
        except cast("type[Exception]", IsalError) as error:
            raise zlib.error(str(error)) from None


_PLAIN = (0, 8)
"""Flags of a header (RFC 1952, 2.3.1) that is read right also where it arrives in parts: none, or FNAME. With
more in it ISA-L 2.32 loses its place."""


class _Deflated:
    """One gzip member, in the form of ``_Unpacker``."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes:
        tail = self._inner.unconsumed_tail
        return self._inner.decompress(tail + data if data else tail, max_length)


def _xz() -> _Unpacker:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST_MEMORY)


def _lzma() -> _Unpacker:
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MOST_MEMORY)


_FORMATS: tuple[tuple[bytes, str, Callable[[], _Unpacker]], ...] = (
    (b"\x1f\x8b", "gzip", _Gzip),
    (b"BZh", "bzip2", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\0", "xz", _xz),
    (b"\x5d\0\0", "lzma", _lzma),
)
_ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16)))
"""A frame, or one that is to be skipped (RFC 8878, 3.1)."""


def unpacked(file: BinaryIO, packed: int, limits: Limits = LIMITS) -> Stream:
    """Give the bytes that a file of ``packed`` bytes unpacks to; the file itself if it is not compressed.

    Raises ArchiveError, here or while reading.
    """
    head = file.read(6)
    file.seek(-len(head), io.SEEK_CUR)
    if head.startswith(_ZSTD):
        return _Zstd(file, packed, limits)
    for magic, name, make in _FORMATS:
        if head.startswith(magic):
            return _Unpacked(file, name, make, packed, limits)
    return file


class _Unpacked:
    """A stream of one or more compressed members, one after the other."""

    def __init__(
        self, file: BinaryIO, name: str, make: Callable[[], _Unpacker], packed: int, limits: Limits
    ) -> None:
        self._file = file
        self._name = name
        self._make = make
        self._packed = packed
        self._limits = limits
        self._inner = make()
        self._count = 0
        self._is_done = False

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes, ``b""`` at the end."""
        try:
            data = self._read(size)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:
            raise ArchiveError(f"the {self._name} stream is damaged: {error}", AGAIN) from None
        self._count += len(data)
        self._limits.check(self._count, self._packed)
        return data

    def _read(self, size: int) -> bytes:
        inner = self._inner
        while not self._is_done:
            if inner.eof:
                rest = inner.unused_data or self._file.read(INPUT)
                rest = rest.lstrip(b"\0") if self._name in ("gzip", "xz") else rest
                inner = self._inner = self._make()
                try:
                    data = inner.decompress(rest, size) if rest else b""
                except (OSError, zlib.error, lzma.LZMAError):
                    data = b""  # what follows is no member: gzip and its kin ignore it too
                    rest = b""
                self._is_done = not rest
            else:
                chunk = self._file.read(INPUT) if inner.needs_input else b""
                was_hungry = inner.needs_input
                data = inner.decompress(chunk, size)
                if not data and not chunk and was_hungry and not inner.eof:
                    raise ArchiveError(f"the {self._name} stream is cut off", AGAIN)
            if data:
                return data
        return b""


class _Zstd:
    """A stream of zstd frames. One that is cut off just ends; the archive in it is cut off then, too."""

    def __init__(self, file: BinaryIO, packed: int, limits: Limits) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        unpacker = zstandard.ZstdDecompressor(max_window_size=MOST_MEMORY)
        self._reader = unpacker.stream_reader(file, read_size=INPUT, read_across_frames=True, closefd=False)
        self._packed = packed
        self._limits = limits
        self._count = 0

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes, ``b""`` at the end."""
        try:
            data = self._reader.read(size)
        except (self._error, MemoryError) as error:
            raise ArchiveError(f"the zstd stream is damaged: {error}", AGAIN) from None
        self._count += len(data)
        self._limits.check(self._count, self._packed)
        return data
