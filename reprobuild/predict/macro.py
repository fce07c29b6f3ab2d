"""Results over many records: means of nested numbers, and the last record that a corpus metric writes.

Knows nothing of how outputs come about. Sums are exact (``math.fsum``), so that a mean is the same in
whatever order and parts its numbers come.
"""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from reprobuild.derivation.predictors import Json, Predictor
from reprobuild.errors import PredictionFailedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

MACRO = "_macro"
"""The one field of the record that a corpus metric writes last."""
LONGEST = 1 << 24
"""Bytes of that record."""

_Path = tuple[str, ...]


def extra_records(predictor: Predictor) -> int:
    """Give how many records a predictor writes beside one for each that it was given: 0 or 1."""
    return 1 if predictor.macro == "corpus" else 0


def read_macro(file: BinaryIO) -> tuple[BinaryIO, bytes]:
    """Give what a corpus metric wrote, without its last record, and the canonical form of that, as a line.

    Raises ValueError, in words, where the last line is something else.
    """
    from reprobuild.predict.fields import Fields, Unfit
    from reprobuild.predict.strict import parse_strictly

    size = file.seek(0, os.SEEK_END)
    start = max(0, size - LONGEST)
    file.seek(start)
    tail = file.read(LONGEST).removesuffix(b"\n")
    cut = tail.rfind(b"\n") + 1
    if not cut and start:
        raise ValueError(f"it is longer than {LONGEST} bytes")
    try:
        (line,) = Fields({MACRO: "dict"}).encode([parse_strictly(tail[cut:])])
    except Unfit as error:
        raise ValueError(f'{error.reason}; a corpus metric ends with {{"{MACRO}": {{…}}}}') from None
    file.seek(0)
    return cast("BinaryIO", _Head(file, start + cut)), line + b"\n"


class _Head:
    """The beginning of a file, to read from."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, count: int) -> bytes:
        return self._taken(self._file.read(min(count, self._left)))

    def readline(self, count: int) -> bytes:
        return self._taken(self._file.readline(min(count, self._left)))

    def _taken(self, data: bytes) -> bytes:
        self._left -= len(data)
        return data


class Mean:
    """The mean of records that all have the same fields: numbers, or objects of numbers, nested or not."""

    def __init__(self, name: str) -> None:
        """``name``: whose records they are, for errors."""
        self.count = 0
        self._name = name
        self._numbers: dict[_Path, array[float]] = {}

    def add(self, item: Mapping[str, Json]) -> None:
        """Take the next record. Raises PredictionFailedError, naming it and the field that is no number."""
        place = f"item {self.count}"
        found = dict(_leaves(item, (), self._name, place))
        if self.count == 0:
            self._numbers = {path: array("d") for path in found}
        elif found.keys() != self._numbers.keys():
            path = min(found.keys() ^ self._numbers.keys())
            kind = "lacks" if path in self._numbers else "has"
            raise PredictionFailedError(
                f"{self._name}: {place} {kind} the number {'.'.join(path)}, unlike those before it: "
                "there is no mean over different fields"
            )
        for path, number in found.items():
            self._numbers[path].append(number)
        self.count += 1

    def value(self) -> dict[str, Json]:
        """Give the mean, in the form of the records; ``{}`` where there were none."""
        return nested({path: math.fsum(numbers) / self.count for path, numbers in self._numbers.items()})


def mean(name: str, items: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Give the mean of records. Raises as ``Mean.add`` does."""
    made = Mean(name)
    for item in items:
        made.add(item)
    return made.value()


def same(name: str, items: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Give what all records say alike; ``{}`` where there are none. Raises PredictionFailedError."""
    for index, item in enumerate(items):
        if item != items[0]:
            raise PredictionFailedError(
                f"{name}: item {index} is not the same as item 0: it is no result over all records"
            )
    return dict(items[0]) if items else {}


def weighted_mean(name: str, parts: Sequence[tuple[Mapping[str, Json], int]]) -> dict[str, Json]:
    """Give the mean over all records, from means of parts of them and how many each is of."""
    total = sum(count for _, count in parts)
    weighted: dict[_Path, list[float]] = {}
    for index, (part, count) in enumerate(parts):
        found = dict(_leaves(part, (), name, f"part {index}"))
        if index == 0:
            weighted = {path: [] for path in found}
        elif found.keys() != weighted.keys():
            path = min(found.keys() ^ weighted.keys())
            raise PredictionFailedError(
                f"{name}: the number {'.'.join(path)} is not in every part: they can't be joined"
            )
        for path, number in found.items():
            weighted[path].append(number * count)
    return nested({path: math.fsum(numbers) / total for path, numbers in weighted.items()})


def nested(flat: Mapping[_Path, float]) -> dict[str, Json]:
    """Give objects within objects, from numbers by the names that lead to them."""
    made: dict[str, Json] = {}
    for path, number in flat.items():
        place = made
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = number
    return made


def _leaves(value: Mapping[str, Json], path: _Path, name: str, place: str) -> Iterator[tuple[_Path, float]]:
    for key, item in value.items():
        here = (*path, key)
        if isinstance(item, Mapping):
            yield from _leaves(item, here, name, place)
        elif isinstance(item, int | float) and not isinstance(item, bool):
            yield here, float(item)
        else:
            raise PredictionFailedError(
                f"{name}: {place}: {'.'.join(here)} is {ascii(item)[:80]}, and only numbers have a mean"
            )
