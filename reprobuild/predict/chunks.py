"""How many records go to a worker at a time: few at first, then as many as it takes a while to compute.

A chunk is what an interrupt can lose, and with protocol ``files`` each one loads the model again; so a
chunk should take about as long as one can bear to lose, and long enough that loading stays a small part
of it. Both times are learned from chunks of different sizes. Knows nothing of records and workers.
"""

from __future__ import annotations

import math
import threading

FIRST = 100
"""Records of the first chunk: a call of few has one, and loads its model once."""
GROWTH = 8
"""How many times the size of the largest chunk so far one may have."""
LOADINGS = 4
"""How many times as long as its loading a chunk should compute."""
QUICK = 5.0
"""Seconds that a chunk should take at least, where loading takes little: an interrupt loses no more then."""
SMALL = 20
"""How many times as long as its loading such a chunk should compute."""
ROUNDING = 1.5
"""How many times too many records may be left to be one last chunk."""


class Pace:
    """How long chunks took, from which it is told how large the next should be. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[int, float] | None = None
        self._known: dict[int, float] = {}
        self._each: float | None = None

    def took(self, count: int, seconds: float) -> None:
        """Learn from a chunk that was computed."""
        seconds = max(seconds, 1e-6)
        with self._lock:
            self._last = (count, seconds)
            self._known[count] = seconds
            other = max(self._known, key=lambda known: max(known / count, count / known))
            if max(other / count, count / other) >= 2:
                each = (seconds - self._known[other]) / (count - other)
                self._each = min(max(each, 0.0), seconds / count, self._known[other] / other)

    def wanted(self, aim: float, timeout: float | None) -> int:
        """Give how many records a chunk should have."""
        with self._lock:
            last, each, largest = self._last, self._each, max(self._known, default=0)
        if last is None:
            return FIRST
        count, seconds = last
        if each is None and seconds < aim:
            # All of it may have been computing, or hardly any: a chunk of another size tells.
            by_pace = int(count * aim / seconds)
            size = max(min(max(by_pace, 2 * count), GROWTH * count), FIRST)
        elif each is None:
            size = count // 2 or 2
        else:
            loading = max(seconds - each * count, 0.0)
            aim = max(min(aim, max(QUICK, SMALL * loading)), LOADINGS * loading)
            if each:
                size = min(int(aim / each), GROWTH * largest)
            else:
                size = (GROWTH if seconds < aim else 2) * largest
        if timeout is not None:
            bearable = int(count * timeout / 2 / seconds)
            size = min(size, max(bearable, min(count, FIRST)))
        return max(size, 1)


class ChunkSizes:
    """The sizes of the chunks of one call."""

    def __init__(
        self, aim: float, lanes: int = 1, timeout: float | None = None, pace: Pace | None = None
    ) -> None:
        """``aim``: seconds that a chunk should take; ``lanes``: how many are computed at once;
        ``timeout``: seconds after which one is killed: none should take much more than half of it;
        ``pace``: what was learned in other calls."""
        self._aim = aim
        self._lanes = lanes
        self._timeout = timeout
        self._pace = pace or Pace()
        self._even = 0

    def next(self, left: int) -> int:
        """Give the size of the next chunk, where so many records are left (at least one)."""
        if self._even:
            return min(self._even, left)
        size = self._pace.wanted(self._aim, self._timeout)
        if self._lanes == 1:
            return left if left <= size * ROUNDING else size
        if size * self._lanes < left:
            return size
        # The last ones are of one size, so that all lanes end at about the same time.
        self._even = math.ceil(left / self._lanes)
        return self._even

    def took(self, count: int, seconds: float) -> None:
        """Learn from a chunk that was computed."""
        self._pace.took(count, seconds)
