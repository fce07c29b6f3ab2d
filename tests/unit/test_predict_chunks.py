"""Sizes of chunks: few records at first, then what takes about a minute, and loading a small part of it."""

from __future__ import annotations

import heapq

import pytest

from reprobuild.predict.chunks import FIRST, QUICK, ChunkSizes, Pace

AIM = 60.0

Chunks = list[tuple[int, float]]


def simulate(
    count: int, loading: float, each: float, lanes: int = 1, timeout: float | None = None, noise: float = 0.0
) -> Chunks:
    """Compute so many records, each chunk with its loading; give the chunks, and how long each took."""
    sizes = ChunkSizes(AIM, lanes, timeout)
    chunks: Chunks = []
    running = [(0.0, 0, 0.0)] * lanes
    left = count
    while left:
        now, size, took = heapq.heappop(running)
        if size:
            sizes.took(size, took)
        size = sizes.next(left)
        assert 1 <= size <= left
        took = (loading + size * each) * (1 + noise * (-1) ** len(chunks))
        chunks.append((size, took))
        heapq.heappush(running, (now + took, size, took))
        left -= size
    return chunks


@pytest.mark.parametrize("count", [1, 2, FIRST - 1, FIRST, FIRST * 3 // 2])
def test_few_records_are_one_chunk(count: int) -> None:
    assert simulate(count, 30.0, 0.1) == [(count, 30.0 + count * 0.1)]


MODELS = {
    "tiny": (0.05, 0.00001),
    "usual": (5.0, 0.02),
    "slow to load": (300.0, 0.02),
    "slow": (20.0, 3.0),
    "slow in both": (300.0, 10.0),
    "nothing to load": (0.0, 0.5),
}


@pytest.mark.parametrize("noise", [0.0, 0.1], ids=["steady", "unsteady"])
@pytest.mark.parametrize("loading, each", MODELS.values(), ids=MODELS)
def test_loading_is_a_small_part_and_little_can_be_lost(loading: float, each: float, noise: float) -> None:
    count = 200_000
    chunks = simulate(count, loading, each, noise=noise)
    assert chunks[0][0] == FIRST
    assert sum(size for size, _ in chunks) == count
    whole = sum(took for _, took in chunks)
    assert loading * len(chunks) <= 0.3 * whole + 6 * loading
    longest = 2.5 * max(AIM, 4 * loading) + loading
    assert max(took for _, took in chunks[2:]) <= longest
    if each * FIRST <= AIM:
        assert max(took for _, took in chunks) <= longest


def test_a_quick_model_has_few_chunks() -> None:
    assert len(simulate(1_000_000, 0.05, 0.00001)) < 10


def test_little_is_lost_of_what_needs_no_loading() -> None:
    chunks = simulate(5000, 0.03, 0.01)
    assert max(took for _, took in chunks[2:]) <= 1.5 * QUICK + 0.1
    assert 0.03 * len(chunks) <= 0.05 * sum(took for _, took in chunks)


def test_no_chunk_comes_near_the_time_that_one_may_take() -> None:
    chunks = simulate(20_000, 2.0, 0.1, timeout=40.0)
    assert max(took for _, took in chunks) <= 30.0
    assert len(chunks) < 20_000 / FIRST


@pytest.mark.parametrize("lanes", [2, 4, 7])
@pytest.mark.parametrize("count", [4, 50, 1000, 30_000])
def test_lanes_end_together(lanes: int, count: int) -> None:
    chunks = simulate(count, 5.0, 0.05, lanes)
    assert len(chunks) >= min(lanes, count)
    sizes = [size for size, _ in chunks[-lanes:]]
    assert max(sizes) - min(sizes) <= lanes or count <= lanes * FIRST
    assert len(chunks) <= lanes * 5 + count / 1000


def test_what_was_learned_serves_the_next_call() -> None:
    pace = Pace()
    first = ChunkSizes(AIM, pace=pace)
    left = 8192
    while left:
        size = first.next(left)
        first.took(size, 30.0 + 0.005 * size)
        left -= size
    assert ChunkSizes(AIM, pace=pace).next(8192) == 8192
    ChunkSizes(AIM, pace=pace).took(1, 30.005)
    assert ChunkSizes(AIM, pace=pace).next(8192) == 8192
    assert ChunkSizes(AIM).next(8192) == FIRST


def test_calls_of_one_record_do_not_make_chunks_small() -> None:
    pace = Pace()
    for _ in range(3):
        sizes = ChunkSizes(AIM, pace=pace)
        assert sizes.next(1) == 1
        sizes.took(1, 5.0)
    assert ChunkSizes(AIM, pace=pace).next(10_000) >= FIRST
