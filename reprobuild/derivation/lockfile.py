"""The lock: pins and outputs as a value, and its text, made to be reviewed as a diff.

Knows nothing of how pins come about. The format is specified in ``docs/lock-format.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.digest import Digest
from reprobuild.errors import UsageError

LOCK_FORMAT = 1
LOCK_FILE = "recipe.lock"


class LockError(UsageError):
    """A lock that cannot be read; the message names what is wrong with it."""


@dataclass(frozen=True, slots=True)
class LayerOutput:
    """What a step came to."""

    step: str
    """The step's title."""
    diff_id: Digest


@dataclass(frozen=True, slots=True)
class Output:
    """What a recipe, with certain options, came to on a platform."""

    options: Mapping[str, Json]
    input_hash: Digest
    image_id: Digest
    layers: tuple[LayerOutput, ...]


@dataclass(frozen=True, slots=True)
class Lock:
    """What is pinned of a recipe, and what it came to."""

    assembler: int
    sources: Mapping[str, tuple[Pin, ...]] = field(default_factory=dict)
    """Source key → its pins."""
    outputs: Mapping[str, tuple[Output, ...]] = field(default_factory=dict)
    """Platform → one output for each set of options that was locked."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """Source key → how many of its pins are gone from the file (its count says more)."""

    def output(self, platform: str, options: Mapping[str, Json]) -> Output | None:
        """Give what the lock says of a platform and options."""
        found = (output for output in self.outputs.get(platform, ()) if dict(output.options) == dict(options))
        return next(found, None)


def write_lock(lock: Lock) -> str:
    """Give the lock's text: JSON, sorted, one pin and one layer a line."""
    parts = ["{\n", f' "lock": {LOCK_FORMAT},\n', f' "assembler": {lock.assembler},\n', ' "sources": {']
    for index, (key, pins) in enumerate(sorted(lock.sources.items())):
        parts.append(("," if index else "") + f'\n  {_text(key)}: {{"count": {len(pins)}, "pins": [\n')
        parts.append(",\n".join("   " + _line(pin_to_json(pin)) for pin in pins))
        parts.append("\n  ]}")
    parts.append('\n },\n "outputs": {')
    for index, (platform, outputs) in enumerate(sorted(lock.outputs.items())):
        parts.append(("," if index else "") + f"\n  {_text(platform)}: [\n")
        ordered = sorted(outputs, key=lambda output: json.dumps(output.options, sort_keys=True))
        parts.append(",\n".join(map(_output_text, ordered)))
        parts.append("\n  ]")
    parts.append("\n }\n}\n")
    return "".join(parts)


def read_lock(text: str, name: str) -> Lock:
    """Read a lock's text; ``name`` is what errors call it. Raises LockError."""
    hint = mend_lock(name)
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        for number, line in enumerate(text.splitlines(), start=1):
            if line.startswith(("<<<<<<< ", "||||||| ", ">>>>>>> ")):
                raise LockError(
                    f"{LOCK_FILE} of {name}: line {number} is the mark of a conflict that a merge left",
                    f"take one side whole (git checkout --ours {LOCK_FILE}), then: reprobuild lock {name}",
                ) from None
        what = "no JSON: " if text else "empty: "
        raise LockError(f"{LOCK_FILE} of {name} is {what}{error}", hint) from None
    try:
        if value["lock"] != LOCK_FORMAT:
            raise LockError(
                f"{LOCK_FILE} of {name} has format {value['lock']}; this release reads {LOCK_FORMAT}",
                "a newer release of reprobuild reads it",
            )
        sources, missing = {}, {}
        for key, source in value["sources"].items():
            sources[key] = tuple(map(pin_from_json, source["pins"]))
            if len(sources[key]) != source["count"]:
                missing[key] = source["count"] - len(sources[key])
        outputs = {
            platform: tuple(map(_output_from_json, listed)) for platform, listed in value["outputs"].items()
        }
        return Lock(int(value["assembler"]), sources, outputs, missing)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise LockError(f"{LOCK_FILE} of {name} does not fit the format: {reason}", hint) from None


def mend_lock(name: str) -> str:
    """Say what helps where a lock cannot be read: ``lock`` itself reads the one that is there."""
    return f"restore it from version control, or remove it and write it anew: reprobuild lock {name}"


def pin_to_json(pin: Pin) -> dict[str, Json]:
    """Give a pin's line of the lock; an exchange's begins with what a reviewer looks for."""
    content = {"size": pin.size, "sha256": pin.sha256.hex}
    if "status" not in pin.hashed:
        return {"name": pin.name, **pin.hashed, **pin.found, **content}
    late = {name: pin.hashed[name] for name in ("request", "headers") if name in pin.hashed}
    early = {name: value for name, value in pin.hashed.items() if name not in late}
    return {"name": pin.name, **early, **content, **pin.found, **late}


FOUND = ("url", "path", "date")
"""Fields of a pin that only help to find its bytes; every other one enters the input hash."""


def pin_from_json(value: Mapping[str, Any]) -> Pin:
    """Read what ``pin_to_json`` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    rest = {name: item for name, item in value.items() if name not in ("name", "size", "sha256")}
    return Pin(
        name=str(value["name"]),
        size=int(value["size"]),
        sha256=Digest(value["sha256"]),
        hashed={name: item for name, item in rest.items() if name not in FOUND},
        found={name: str(item) for name, item in rest.items() if name in FOUND},
    )


def _output_text(output: Output) -> str:
    head = {
        "options": dict(sorted(output.options.items())),
        "input": str(output.input_hash),
        "image": str(output.image_id),
    }
    layers = ",\n".join(
        "    " + _line({"step": layer.step, "diff_id": str(layer.diff_id)}) for layer in output.layers
    )
    listed = f"[\n{layers}\n   ]" if layers else "[]"
    return f'   {_line(head)[:-1]}, "layers": {listed}}}'


def _output_from_json(value: Mapping[str, Any]) -> Output:
    return Output(
        options=dict(value["options"]),
        input_hash=Digest.parse(value["input"]),
        image_id=Digest.parse(value["image"]),
        layers=tuple(
            LayerOutput(str(layer["step"]), Digest.parse(layer["diff_id"])) for layer in value["layers"]
        ),
    )


def _line(value: Mapping[str, Json]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found
