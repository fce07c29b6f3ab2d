"""A predictor's examples, run and compared: what ``reprobuild test`` does first.

Knows nothing of a recipe's own tests.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprobuild.derivation.predictors import Example, Predictor
from reprobuild.errors import ReprobuildError
from reprobuild.events import Tell, ignore
from reprobuild.predict.call import Options
from reprobuild.predict.model import Model
from reprobuild.predict.parameters import CPU, check_device, split_devices
from reprobuild.predict.target import Target

Json = Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one example went."""

    predictor: str
    """``RECIPE/PREDICTOR``."""
    index: int
    """Of the example, from 0."""
    problem: str
    """Empty where it passed."""
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every output is as the example says."""
        return not self.problem


def run_examples(
    target: Target,
    *,
    tell: Tell = ignore,
    folder: Path = Path(),
    device: str = CPU,
) -> Iterator[Outcome]:
    """Run every example of every predictor, computed anew: the cache is neither read nor written.

    ``folder``: the recipe's, which paths of files in examples are relative to; ``device``: for predictors
    that can use a GPU. Raises UsageError for what is no device, EngineError where there is no such GPU.
    """
    split_devices(device)
    for predictor in target.predictors.values():
        check_device(predictor, device if predictor.cuda else CPU, target.engine)
    for name, predictor in target.predictors.items():
        for index, example in enumerate(predictor.examples):
            started = time.perf_counter()
            try:
                asked = Options(cache="off", device=device if predictor.cuda else CPU)
                problem = _run(target, name, predictor, example, asked, tell, folder)
            except ReprobuildError as error:
                problem = error.message
            yield Outcome(f"{target.recipe}/{name}", index, problem, time.perf_counter() - started)


def _run(
    target: Target,
    name: str,
    predictor: Predictor,
    example: Example,
    asked: Options,
    tell: Tell,
    folder: Path,
) -> str:
    # One field's value or a dict of several: give back what was taken apart.
    sole = next(iter(predictor.outputs)) if len(predictor.outputs) == 1 else ""
    model = Model(target, name, asked, tell=tell, folder=folder)
    outputs = model.predict_batch([given for given, _ in example.items], **example.parameters)
    for place, ((_, expected), output) in enumerate(zip(example.items, outputs, strict=True)):
        got = {sole: output} if sole else output
        if problem := compare(expected, got, predictor.tolerance):
            return f"record {place}: {problem}"
    return ""


def compare(expected: Json, got: Json, tolerance: float = 0.0, where: str = "") -> str:
    """Say where two values differ by more than a tolerance (absolute, and relative to what is expected).

    ``""`` where they do not. Fields that are not expected are left alone at the top alone.
    """
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping) or (where and set(expected) != set(got)) or set(expected) - set(got):
            return _difference(expected, got, where)
        found = (
            compare(item, got[name], tolerance, f"{where}.{name}" if where else name)
            for name, item in expected.items()
        )
        return next(filter(None, found), "")
    if isinstance(expected, list | tuple):
        if not isinstance(got, list) or len(got) != len(expected):
            return _difference(expected, got, where)
        pairs = enumerate(zip(expected, got, strict=True))
        found = (compare(a, b, tolerance, f"{where}[{index}]") for index, (a, b) in pairs)
        return next(filter(None, found), "")
    if _is_number(expected) and _is_number(got):
        close = abs(expected - got) <= tolerance + tolerance * abs(expected)
        return "" if close else _difference(expected, got, where)
    return "" if type(expected) is type(got) and expected == got else _difference(expected, got, where)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _difference(expected: Json, got: Json, where: str) -> str:
    return f"{where or 'the output'} is {_short(got)}, expected {_short(expected)}"


def _short(value: Json) -> str:
    text = ascii(value)
    return text if len(text) <= 200 else text[:199] + "…"
