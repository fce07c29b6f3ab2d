"""The files of a step, worked on some at a time: decompressing and hashing hold no lock.

Knows nothing of what is done with them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from reprobuild.derivation.pins import Pin

T = TypeVar("T")

MOST_THREADS = 4


def largest_first(work: Callable[[int], T], pins: Sequence[Pin]) -> list[T]:
    """Give what ``work`` gives for the index of each pin, in their order; the largest file is begun first.

    Raises what the first pin's work raises that fails; what has not begun by then is left undone.
    """
    order = sorted(range(len(pins)), key=lambda index: (-pins[index].size, index))
    threads = max(1, min(MOST_THREADS, os.cpu_count() or 1, len(pins)))
    with ThreadPoolExecutor(threads) as pool:
        jobs = {index: pool.submit(work, index) for index in order}
        try:
            return [jobs[index].result() for index in range(len(pins))]
        finally:
            pool.shutdown(cancel_futures=True)
