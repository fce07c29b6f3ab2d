"""Streams compressed on their way out: gzip, the same bytes on every machine, on all cores.

A stream is cut into blocks that are compressed by themselves, each a member of its own (RFC 1952, 2.2):
every reader of gzip takes them for one file. libdeflate's output is the same on every processor, which zlib's
kin do not promise, but not in every version: ``compressor`` tells versions apart. Knows nothing of layers.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from deflate import gzip_compress

from reprobuild.digest import Digest

BLOCK = 1024 * 1024
"""Bytes of each member before it is compressed; part of what decides the output."""
LEVEL = 5
"""Of what compresses well: a quarter faster than the usual 6, and at most a hundredth larger."""
LEVELS = ((0.99, 0), (0.7, 1))
"""The level of a block whose sample comes to more than such a share: noise is stored as it is, and weights
(floating-point numbers) come to the same at every level."""
SAMPLES = 4
SAMPLE = 16 * 1024
"""Bytes of each sample that is taken of a block."""


def compressed(chunks: Iterable[bytes], pool: ThreadPoolExecutor) -> Generator[bytes]:
    """Give a stream as gzip, in pieces; ``pool``: where blocks are compressed, a few ahead.

    How the stream is cut into chunks does not matter.
    """
    ahead = 2 * (os.cpu_count() or 1)
    waiting: deque[Future[bytes]] = deque()
    try:
        for block in blocks(chunks):
            waiting.append(pool.submit(_member, block))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for one in waiting:
            one.cancel()


def blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Give a stream in pieces of BLOCK bytes, the last one shorter; an empty stream is one empty piece."""
    parts: list[bytes | memoryview] = []
    size = 0
    is_empty = True
    for chunk in chunks:
        rest = memoryview(chunk)
        while size + len(rest) >= BLOCK:
            cut = BLOCK - size
            yield b"".join([*parts, rest[:cut]])
            parts, size, rest = [], 0, rest[cut:]
            is_empty = False
        parts.append(rest)
        size += len(rest)
    if size or is_empty:
        yield b"".join(parts)


def workers() -> ThreadPoolExecutor:
    """Give a pool with a thread for each core: compression does not hold the interpreter."""
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="compress")


def compressor() -> Digest:
    """Give the digest of what samples come to, and of what else decides: equal ones mean equal output."""
    rules = f"{BLOCK} {LEVEL} {LEVELS} {SAMPLES} {SAMPLE}".encode()
    return Digest.of_chunks((rules, *map(_member, samples())))


def samples() -> tuple[bytes, ...]:
    """Give some 400 KB of the kinds of content that are compressed in different ways."""
    words = b" ".join(b"%d" % (number * number * 2654435761 % 9973) for number in range(20_000))
    noise = hashlib.shake_256(words).digest(96_000)
    every = len(noise) // SAMPLES
    mixed = b"".join(
        noise[start : start + every // 2] + words[start : start + every // 2] + noise[start : start + every]
        for start in range(0, len(noise), every)
    )
    return words + noise + bytes(30_000) + words[::-7], mixed, noise


def _member(block: bytes) -> bytes:
    return bytes(gzip_compress(block, level_of(block)))


def level_of(block: bytes) -> int:
    """Give the level at which a block is compressed, by what samples of it come to."""
    every = len(block) // SAMPLES
    if every < SAMPLE:
        return LEVEL
    sample = b"".join(block[start : start + SAMPLE] for start in range(0, every * SAMPLES, every))
    share = len(gzip_compress(sample, 1)) / len(sample)
    return next((level for most, level in LEVELS if share > most), LEVEL)
