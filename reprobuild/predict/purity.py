"""Whether an item-scoped predictor keeps its promise: that an output depends on its own record alone.

The same records are given in another order, in other batches, and alone; each output must be what it was.
Knows nothing of where the records come from.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from reprobuild.errors import PredictionFailedError, UsageError
from reprobuild.events import Tell
from reprobuild.predict.call import Call, Options
from reprobuild.predict.parameters import SEED
from reprobuild.predict.staging import StagedFiles
from reprobuild.predict.target import Target
from reprobuild.predict.testing import compare
from reprobuild.value import Value

ALONE = 3
"""Records that are computed each by itself."""
SHUFFLE = 20260101
"""The order of a shuffle is the same each time: what was found is found again."""


class Impure(Value):
    """A record whose output depends on more than the record."""

    where: str
    """What the caller calls it."""
    arrangement: str
    problem: str


class Purity(Value):
    """How a check went."""

    records: int
    """Distinct ones."""
    runs: int
    differing: tuple[Impure, ...]


def check_purity(
    target: Target,
    name: str,
    records: Sequence[bytes],
    label: Callable[[int], str],
    *,
    parameters: Mapping[str, Any],
    device: str,
    tell: Tell,
    staged: StagedFiles | None = None,
) -> Purity:
    """Compute canonical records in several arrangements and compare, within the predictor's tolerance.

    A predictor that samples gets a seed. Raises UsageError for a predictor of batch scope, and what
    predicting raises where the records in their own order fail.
    """
    predictor = target.predictor(name)
    shown = f"{target.recipe}/{name}"
    if predictor.scope != "item":
        raise UsageError(
            f"{shown} has the scope batch: nothing is promised of its records one by one",
            'purity is for predictors with scope="item"',
        )
    given = {SEED: 0, **parameters} if predictor.random else dict(parameters)
    options = Options(parameters=given, cache="off", device=device)
    places: dict[bytes, int] = {}
    for place, record in enumerate(records):
        places.setdefault(record, place)
    distinct = list(places)

    def run(indexes: Sequence[int]) -> list[bytes]:
        call = Call(target, name, options, tell)
        chunk = [distinct[index] for index in indexes]
        blocks = call.answer([chunk], lambda at: label(places[distinct[indexes[at]]]), staged)
        return b"".join(blocks).split(b"\n")[:-1]

    runs = 1
    expected = run(range(len(distinct))) if distinct else []
    differing: dict[int, Impure] = {}
    for arrangement, batches in arrangements(len(distinct)):
        for indexes in batches:
            runs += 1
            try:
                outputs = run(indexes)
            except PredictionFailedError as error:
                outputs = []
                where = label(places[distinct[indexes[0]]])
                differing.setdefault(indexes[0], Impure(where, arrangement, f"it fails: {error.message}"))
            for index, output in zip(indexes, outputs, strict=False):
                problem = _problem(expected[index], output, predictor.tolerance)
                if problem and index not in differing:
                    where = label(places[distinct[index]])
                    differing[index] = Impure(where, arrangement, problem)
    return Purity(len(distinct), runs, tuple(differing[index] for index in sorted(differing)))


def arrangements(count: int) -> Iterator[tuple[str, list[list[int]]]]:
    """Give ways to compute so many records, each with its batches of indexes."""
    if not count:
        return
    shuffled = list(range(count))
    random.Random(SHUFFLE).shuffle(shuffled)
    if count > 1:
        backwards = list(range(count))[::-1]
        yield "in another order", [shuffled if shuffled != backwards[::-1] else backwards]
        half = (count + 1) // 2
        yield "in two batches", [backwards[:half], backwards[half:]]
    yield "alone", [[index] for index in sorted(shuffled[:ALONE])]


def _problem(expected: bytes, output: bytes, tolerance: float) -> str:
    if expected == output:
        return ""
    found = compare(json.loads(expected), json.loads(output), tolerance)
    return found or ("" if tolerance else "its bytes differ")
