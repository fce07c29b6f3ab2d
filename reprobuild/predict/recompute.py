"""The audit that only recomputing can be: some predictions that are kept, computed again and compared.

Their inputs are the sample that the cache keeps. Knows nothing of images: it is handed what can be run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from reprobuild.canonical import canonical
from reprobuild.errors import CheckFailedError, OutsideError, PredictionFailedError, UsageError
from reprobuild.events import Tell
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.call import Call, Options
from reprobuild.predict.key import KeyMaker
from reprobuild.predict.macro import MACRO
from reprobuild.predict.makings import Input, Making
from reprobuild.predict.parameters import CPU
from reprobuild.predict.sealed import Prediction, facts_of, instruction_set
from reprobuild.predict.target import Target
from reprobuild.predict.testing import compare
from reprobuild.value import Value

GPU = "0"
"""The device on which predictions of a GPU are computed again, if it is of the same class."""


class Differs(Value):
    """A prediction that was not confirmed."""

    tag: str
    key: bytes
    problem: str


class Recomputed(Value):
    """How an audit by recomputing went."""

    sampled: int
    """Predictions that were computed again."""
    equal: int
    close: int
    """Those that differ by no more than the predictor's tolerance."""
    differing: tuple[Differs, ...]
    skipped: Mapping[str, str]
    """What can't be computed again here, by the predictor's name and its making: why."""


def recompute(
    cache: PredictionCache,
    count: int,
    target_of: Callable[[Making], Target | None],
    tell: Tell,
    *,
    chosen: Callable[[str], bool] = lambda tag: True,
) -> Recomputed:
    """Compute a sample of predictions again.

    ``count``: of how many; ``target_of``: gives what can run a making, if that is here; ``chosen``: tells by
    a predictor's name whether it is asked for. Raises EngineError and what else lets none of them run.
    """
    ways: dict[int, tuple[Making, Call]] = {}
    skipped: dict[str, str] = {}
    for making in cache.makings():
        if not chosen(making.tag):
            continue
        reason = "what it was made with is damaged"
        if making.is_whole:
            call = _call(making, target_of(making), tell)
            if isinstance(call, Call):
                ways[making.number] = (making, call)
                continue
            reason = call
        skipped[f"{making.tag} {making.digest.hex()[:16]}"] = reason
    sample = cache.sample(list(ways), count)
    groups: dict[int, list[Input]] = {}
    for one in sample:
        groups.setdefault(one.making, []).append(one)
    equal = close = sampled = 0
    differing: list[Differs] = []
    for number, given in groups.items():
        making, call = ways[number]
        for one, kept, output in _outputs(cache, making, call, given, tell):
            sampled += 1
            if isinstance(output, bytes) and output == kept.output:
                equal += 1
                continue
            problem = _problem(kept.output, output, call.predictor.tolerance)
            if not problem:
                close += 1
                continue
            differing.append(Differs(making.tag, one.key, problem + _elsewhere(kept)))
    return Recomputed(sampled, equal, close, tuple(differing), skipped)


def _call(making: Making, target: Target | None, tell: Tell) -> Call | str:
    """Give a call that computes what a making has, or say why there is none."""
    if target is None:
        return "its image is not in the store"
    name = making.tag.rpartition("/")[2]
    device = str(making.parts.get("device", ""))
    if name not in target.predictors:
        return f"its image has no predictor {name}"
    options = Options(
        parameters=making.parts["parameters"], cache="off", device=CPU if device.startswith("cpu:") else GPU
    )
    try:
        call = Call(target, name, options, tell)
    except (UsageError, OutsideError) as error:
        return error.message
    if call.device_class != device:
        return f"it was made on {device}, and this is {call.device_class}"
    made = KeyMaker(target.run_id, call.predictor, call.parameters, call.device_class).making
    return call if made == making.body else "its predictor is another one today"


def _outputs(
    cache: PredictionCache, making: Making, call: Call, given: Iterable[Input], tell: Tell
) -> Iterator[tuple[Input, Prediction, bytes | str]]:
    """Give inputs with the predictions that are kept, and what comes out now, or why nothing does."""
    pairs = [
        (one, kept) for one in given if (kept := cache.get(one.key)) and making.key_of(one.record) == one.key
    ]
    options = Options(parameters=making.parts["parameters"], cache="off", device=call.options.device)
    if making.parts["scope"] == "item":
        # Equal records have equal keys, so none of these is there twice.
        outputs = _run(call, [one.record for one, _ in pairs])
        if isinstance(outputs, str):
            yield from ((one, kept, outputs) for one, kept in pairs)
        else:
            lines = outputs.split(b"\n")[:-1]
            yield from ((one, kept, line + b"\n") for (one, kept), line in zip(pairs, lines, strict=True))
        return
    for one, kept in pairs:
        fresh = Call(call.target, call.name, options, tell)
        yield one, kept, _run(fresh, [canonical(record) for record in json.loads(one.record)])


def _run(call: Call, records: list[bytes]) -> bytes | str:
    if not records:
        return b""
    try:
        outputs = b"".join(call.answer([records], lambda index: f"kept input {index + 1}"))
    except PredictionFailedError as error:
        return error.message
    macro = getattr(call, "macro", None)
    return outputs if macro is None else outputs + canonical({MACRO: macro}) + b"\n"


def _problem(before: bytes, now: bytes | str, tolerance: float) -> str:
    """Say how outputs differ by more than a tolerance; ``""`` where they do not."""
    if isinstance(now, str):
        return now
    try:
        old, new = (_read(outputs) for outputs in (before, now))
    except CheckFailedError as error:
        return error.message
    if len(old) != len(new):
        return f"{len(new)} outputs, and {len(old)} are kept"
    for place, (kept, got) in enumerate(zip(old, new, strict=True)):
        where = f"record {place}: " if len(old) > 1 else ""
        if found := compare(kept, got, tolerance):
            return where + found.replace("expected", "and kept is")
    return "" if tolerance else "its bytes differ"


def _read(outputs: bytes) -> list[Any]:
    try:
        return [json.loads(line) for line in outputs.split(b"\n")[:-1]]
    except ValueError:
        raise CheckFailedError("what is kept is no JSON") from None


def _elsewhere(kept: Prediction) -> str:
    """Say that a prediction was made on other hardware, which may be the reason."""
    facts = facts_of(kept.provenance)
    imported = facts.get("imported")
    facts = imported.get("provenance", {}) if isinstance(imported, dict) else facts
    cpu, here = facts.get("cpu"), instruction_set()
    return f" (made on other hardware: {cpu}; this is {here})" if cpu not in (None, here) else ""
