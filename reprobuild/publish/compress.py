"""Streams compressed on their way out: gzip, the same bytes on every machine, on all cores.

A stream is cut into blocks that are compressed by themselves, each a member of its own (RFC 1952, 2.2):
every reader of gzip takes them for one file. libdeflate's output is the same on every processor, which zlib's
kin do not promise, but not in every version: ``compressor`` tells versions apart. Knows nothing of layers.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from deflate import gzip_compress

from reprobuild.digest import Digest

LEVEL = 6
BLOCK = 1024 * 1024
"""Bytes of each member before it is compressed; part of what decides the output."""


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
    parts: list[bytes] = []
    size = 0
    is_empty = True
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        while size >= BLOCK:
            whole = memoryview(b"".join(parts))
            yield bytes(whole[:BLOCK])
            parts = [bytes(whole[BLOCK:])]
            size -= BLOCK
            is_empty = False
    if size or is_empty:
        yield b"".join(parts)


def workers() -> ThreadPoolExecutor:
    """Give a pool with a thread for each core: compression does not hold the interpreter."""
    return ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="compress")


def compressor() -> Digest:
    """Give the digest of what a sample comes to: equal ones mean equal output."""
    return Digest.of(_member(sample()))


def sample() -> bytes:
    """Give some 200 KB of the kinds of content that are compressed in different ways."""
    words = b" ".join(b"%d" % (number * number * 2654435761 % 9973) for number in range(20_000))
    noise = b"".join(bytes.fromhex(Digest.of(b"%d" % number).hex) for number in range(2_000))
    return words + noise + bytes(30_000) + words[::-7]


def _member(block: bytes) -> bytes:
    return bytes(gzip_compress(block, LEVEL))
