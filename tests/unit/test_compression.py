"""Compressed streams, read however their bytes arrive."""

from __future__ import annotations

import io
import itertools
import random
import struct
import zlib
from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.build.compression import Limits, unpacked
from reprobuild.images.archive import ArchiveError

HEADER_CHECKSUM, EXTRA, NAME, COMMENT = 2, 4, 8, 16
DATA = b"".join(b"%d " % (number * number) for number in range(3000)) + random.Random(1).randbytes(5000)


def gzip_member(data: bytes, flags: int = 0) -> bytes:
    """Give a member with the parts of a header that the flags stand for (RFC 1952, 2.3.1)."""
    head = b"\x1f\x8b\x08" + bytes([flags, 1, 2, 3, 4, 0, 3])
    if flags & EXTRA:
        head += struct.pack("<H", 5) + b"extra"
    if flags & NAME:
        head += b"name\0"
    if flags & COMMENT:
        head += b"comment\0"
    if flags & HEADER_CHECKSUM:
        head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return head + packer.compress(data) + packer.flush() + struct.pack("<II", zlib.crc32(data), len(data))


class Trickle(io.BytesIO):
    """A file that gives no more than it has at hand: so many bytes each time, in turns."""

    def __init__(self, data: bytes, sizes: Sequence[int]) -> None:
        super().__init__(data)
        self._sizes = itertools.cycle((6, *sizes))  # six bytes tell the format

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(cast(int, size), next(self._sizes)))


def read_all(packed: bytes, sizes: Sequence[int], most: int) -> bytes:
    stream = unpacked(Trickle(packed, sizes), len(packed), Limits())
    parts = []
    while part := stream.read(most):
        assert len(part) <= most
        parts.append(part)
    return b"".join(parts)


@given(
    members=st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(0, 15)), min_size=1, max_size=4),
    sizes=st.lists(st.integers(1, 40) | st.just(100_000), min_size=1, max_size=5),
    most=st.sampled_from([1000, 262_144]),
)
def test_gzip_is_read_however_it_arrives(members: list[tuple[int, int]], sizes: list[int], most: int) -> None:
    packed = b"".join(gzip_member(DATA[:size], 2 * flags) for size, flags in members)
    assert read_all(packed, sizes, most) == b"".join(DATA[:size] for size, _ in members)


@given(
    st.integers(0, len(gzip_member(DATA, NAME)) - 1), st.integers(1, 255), st.integers(1, 40) | st.just(9999)
)
def test_a_byte_that_was_changed_never_gives_other_data(where: int, change: int, size: int) -> None:
    packed = bytearray(gzip_member(DATA, NAME))
    packed[where] ^= change
    if packed[:2] != b"\x1f\x8b":
        return  # something else than gzip
    try:
        found = read_all(bytes(packed), [size], 4096)
    except ArchiveError:
        return
    assert found == DATA  # as where the time, or a letter of the name, was changed


@pytest.mark.parametrize("flags", [0, HEADER_CHECKSUM | NAME])
def test_a_member_that_is_cut_off_is_no_end(flags: int) -> None:
    packed = gzip_member(DATA, flags)
    for end in (*range(6, 40), len(packed) // 2, *range(len(packed) - 9, len(packed))):
        with pytest.raises(ArchiveError, match="gzip stream is cut off"):
            read_all(packed[:end], [9999], 4096)
