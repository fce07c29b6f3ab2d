"""What was computed for the distinct records of a call, as it came, and the answers that it completes.

Knows nothing of records and workers.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

from reprobuild.predict.spool import Spool


class Computed:
    """Outputs, written as they come, read by the indexes of their records."""

    def __init__(self, spool: Spool, count: int) -> None:
        """``spool``: a place for them; ``count``: how many there will be."""
        self._spool = spool
        self._starts = array("Q", bytes(8 * count))
        self._sizes = array("Q", bytes(8 * count))
        self._end = 0
        self._here = -1

    def add(self, outputs: Sequence[tuple[int, bytes]]) -> None:
        """Take outputs, without line ends, by their indexes."""
        end = self._end
        for index, output in outputs:
            self._starts[index] = end
            self._sizes[index] = len(output) + 1
            end += len(output) + 1
        self._end = end
        self._spool.write(b"\n".join([*(output for _, output in outputs), b""]))

    def read(self, index: int) -> bytes:
        """Give an output with its line end, when all have come."""
        start, size = self._starts[index], self._sizes[index]
        if self._here != start:
            self._spool.seek(start)
        self._here = start + size
        return self._spool.read(size)


def merged(answers: Spool, computed: Computed, order: Iterable[int]) -> Iterator[bytes]:
    """Put outputs where the answers have empty lines; ``order``: the index for each of these."""
    answers.seek(0)
    indexes = iter(order)
    while lines := answers.readlines(1 << 20):
        for position, line in enumerate(lines):
            if line == b"\n":
                lines[position] = computed.read(next(indexes))
        yield b"".join(lines)
