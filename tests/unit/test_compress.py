"""Streams compressed on their way out."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.digest import Digest
from reprobuild.publish.compress import (
    BLOCK,
    LEVEL,
    SAMPLE,
    SAMPLES,
    compressed,
    compressor,
    level_of,
    samples,
    workers,
)
from tests.golden import assert_golden


def pack(*chunks: bytes) -> bytes:
    with workers() as pool:
        return b"".join(compressed(chunks, pool))


def test_the_bytes_that_come_out_are_what_they_were() -> None:
    # They are in the digests of published layers: where this fails, "already in the registry" fails too.
    noise, sample = random.Random(1).randbytes(BLOCK), b"".join(samples())
    data = noise + noise[: BLOCK // 2] + sample * 7
    assert_golden("packed", {"compressor": str(compressor()), "stream": str(Digest.of(pack(data)))})


@given(st.lists(st.binary(max_size=50)), st.integers(min_value=0, max_value=2))
def test_how_a_stream_is_cut_does_not_matter(chunks: list[bytes], blocks: int) -> None:
    data = bytes(blocks * BLOCK - min(blocks, 1)) + b"".join(chunks)
    packed = pack(bytes(blocks * BLOCK - min(blocks, 1)), *chunks)
    assert packed == pack(data)
    assert gzip.decompress(packed) == data


def test_no_time_and_no_name_is_in_it() -> None:
    head = pack(b"abc")[:10]
    assert head[:4] == b"\x1f\x8b\x08\x00" and head[4:8] == bytes(4)


def test_nothing_is_one_empty_member() -> None:
    assert gzip.decompress(pack()) == b"" and pack()


def test_each_block_stands_by_itself() -> None:
    data = samples()[0] * 20
    first = zlib.decompressobj(31)
    assert first.decompress(pack(data)) == data[:BLOCK] and first.eof and first.unused_data


def weights(count: int) -> bytes:
    made = random.Random(2)
    return struct.pack(f"<{count}f", *(made.gauss(0, 0.02) for _ in range(count)))


TEXT = b" ".join(b"%d" % (number * number % 9973) for number in range(250_000))[:BLOCK]


@pytest.mark.parametrize(
    ("block", "level"),
    [
        (TEXT, LEVEL),
        (random.Random(3).randbytes(BLOCK), 0),
        (weights(BLOCK // 4), 1),
        (random.Random(3).randbytes(SAMPLES * SAMPLE - 1), LEVEL),
        (random.Random(3).randbytes(SAMPLES * SAMPLE), 0),
        (random.Random(3).randbytes(BLOCK // 4) + TEXT[: BLOCK // 4 * 3], LEVEL),
        (TEXT[: BLOCK // 4] + random.Random(3).randbytes(BLOCK // 4 * 3), 1),
    ],
    ids=[
        "text",
        "noise",
        "weights",
        "little noise",
        "the least that is tried",
        "most is text",
        "a quarter is text",
    ],
)
def test_what_does_not_compress_is_not_compressed_for_long(block: bytes, level: int) -> None:
    assert level_of(block) == level
    assert gzip.decompress(pack(block)) == block


def test_noise_hardly_grows() -> None:
    noise = random.Random(4).randbytes(BLOCK)
    assert len(pack(noise)) < 1.001 * BLOCK


def test_a_stream_that_fails_ends_so_and_leaves_no_work_behind() -> None:
    def chunks() -> Iterator[bytes]:
        yield bytes(3 * BLOCK)
        raise OSError("gone")

    with workers() as pool, pytest.raises(OSError, match="gone"):
        list(compressed(chunks(), pool))
