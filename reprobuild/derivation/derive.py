"""Recipe and lock become a derivation: fully pinned, canonical, hashed. Pure.

Knows nothing of the network, the store or engines. The same walk makes the hash and explains it:
``differences`` names the parts in which two derivations differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from reprobuild.canonical import canonical
from reprobuild.derivation.hub_layouts import LAYOUTS
from reprobuild.derivation.lockfile import Lock
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictor_codec import predictors_to_json
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.recipe import Recipe
from reprobuild.derivation.recorded import PREDICTOR, predictor_key
from reprobuild.derivation.steps import Apt, FetchedFile, Files, Git, Hub, Oci, Run, Step, Wheels
from reprobuild.derivation.world import world_of
from reprobuild.derivation.written import Copy, Setting, Stage
from reprobuild.digest import Digest
from reprobuild.errors import NotBuiltError, UnpinnedError, UsageError
from reprobuild.tree import Entry, Layer

COPIED = ("sources", "to", "stage", "expands", "exclude", "chown", "chmod", "unpack", "escape")
"""Fields of a ``Copy`` that decide what it makes, beside its files."""
ASSEMBLER = 2
"""Changes whenever this code would give another digest for the same inputs (DESIGN section 5)."""


@dataclass(frozen=True)
class Derivation:
    """Everything that decides an image's bytes, as one JSON value."""

    value: Mapping[str, Json]

    @cached_property
    def canonical(self) -> bytes:
        """The derivation as canonical JSON (RFC 8785)."""
        return canonical(self.value)

    @cached_property
    def input_hash(self) -> Digest:
        """The sha256 of the canonical derivation."""
        return Digest.of(self.canonical)


@dataclass(frozen=True, slots=True)
class DerivedStep:
    """A step with its pins, and its part of the derivation."""

    step: Step
    pins: tuple[Pin, ...]
    value: Mapping[str, Json]
    entries: tuple[Entry, ...] = ()
    """For a ``files`` step: what it places; for one of a Dockerfile: what it reads of its context. Bodies are
    still in the recipe's folder."""


def written(value: Json) -> Json:
    """Give a field's value as JSON."""
    return list(value) if isinstance(value, tuple) else value


def derive_step(step: Step, pins: Sequence[Pin], entries: tuple[Entry, ...] = ()) -> DerivedStep:
    """Give a step's part of the derivation: what enters hashes of it, and nothing else.

    ``entries``: for a ``files`` step, what it places. Raises NotBuiltError, by name, for a kind that
    this release cannot build.
    """
    value: dict[str, Json] = {"kind": step.kind}
    if isinstance(step, Files):
        value |= {"entries": str(Layer(entries).digest)}
    elif isinstance(step, FetchedFile):
        value |= {"to": step.to, "unpack": step.unpack, "strip": step.strip, "mode": step.mode}
    elif isinstance(step, Run):
        value |= {
            "command": list(step.command),
            "env": dict(step.env),
            "workdir": step.workdir,
            "owners": step.owners,
            "threads": step.threads,
        }
        if step.network:
            value |= {"network": step.network, "ports": list(step.ports)}
        if step.refusal:
            value |= {"refusal": step.refusal}
        if step.shell:
            value |= {"shell": step.shell}
        if step.mounts:
            value |= {"mounts": list(step.mounts), "entries": str(Layer(entries).digest)}
    elif isinstance(step, Copy):
        value |= {name: written(getattr(step, name)) for name in COPIED}
        value |= {"texts": dict(step.texts), "entries": str(Layer(entries).digest)}
    elif isinstance(step, Setting):
        value |= {"word": step.word, "values": list(step.values), "escape": step.escape}
    elif isinstance(step, Stage):
        value |= {"name": step.name, "begin": step.begin}
    elif isinstance(step, Hub):
        value |= {"layout": step.layout, "to": step.to}
        if LAYOUTS[step.layout].knows_repository:
            names = {"repository": step.repository, "revision": step.revision, "of": step.repository_kind}
            value |= names
    elif isinstance(step, Apt) and step.configure:
        value |= {"configure": True}
    elif isinstance(step, Git):
        value |= {"to": step.to}
    elif not isinstance(step, Apt | Oci | Wheels):
        raise NotBuiltError(
            f"{step.where}: {step.kind}(…) is not in this release",
            "this release has apt, files, gdrive, git, hub, oci, run, url, wheels",
        )
    if isinstance(step, Wheels):
        value |= {"python": step.python} | ({"build": True} if step.build else {})
    if isinstance(step, Git) or (isinstance(step, FetchedFile) and not step.has_name_of_its_own):
        # The name is upstream's, which is in no hash unless it names what is placed.
        value |= {"pins": [{"size": pin.size, "sha256": pin.sha256.hex} for pin in pins]}
    elif step.is_source:
        value |= {"pins": [pin.content for pin in pins]}
    return DerivedStep(step, tuple(pins), value, entries)


def pinned(recipe: Recipe, lock: Lock | None, step: Step, platform: str) -> tuple[Pin, ...]:
    """Give a source's pins for a platform. Raises UnpinnedError, naming the source and what pins it."""
    if not step.is_source:
        return ()
    return _pins_of(recipe, lock, step.lock_key(platform), step.kind, str(step.where))


def pinned_exchanges(recipe: Recipe, lock: Lock | None, platform: str) -> dict[str, tuple[Pin, ...]]:
    """Give the exchanges of each recorded predictor, by its name. Raises UnpinnedError."""
    return {
        name: _pins_of(recipe, lock, predictor_key(name, one, platform), PREDICTOR, "recipe.py")
        for name, one in recipe.image.predictors.items()
        if one.network
    }


def _pins_of(recipe: Recipe, lock: Lock | None, key: str, kind: str, where: str) -> tuple[Pin, ...]:
    mend = f"reprobuild lock {recipe.name}{recipe.sets}"
    if lock is None:
        raise UnpinnedError(f"{recipe.name} is not locked: {key} ({where}) has no pin", mend)
    if key not in lock.sources:
        raise UnpinnedError(f"{where}: {key} has no pin in recipe.lock of {recipe.name}", mend)
    if gone := lock.missing.get(key):
        raise UnpinnedError(
            f"{where}: {key}: recipe.lock of {recipe.name} counts {len(lock.sources[key]) + gone} pins, "
            f"and {len(lock.sources[key])} are there",
            f"restore recipe.lock, or pin it anew: {mend} --update {kind}",
        )
    return lock.sources[key]


def derive(recipe: Recipe, steps: Sequence[DerivedStep], assembler: int, platform: str) -> Derivation:
    """Join the parts into a derivation. Raises UsageError for another assembler's lock."""
    if assembler != ASSEMBLER:
        raise UsageError(
            f"recipe.lock of {recipe.name} is for assembler {assembler}; this release has {ASSEMBLER}",
            f"write it anew: reprobuild lock {recipe.name}{recipe.sets}",
        )
    world = world_of(recipe.image, steps, platform)
    return Derivation(
        {
            "assembler": assembler,
            "platform": platform,
            "steps": [dict(step.value) for step in steps],
            "env": dict(world.env),
            "workdir": world.workdir,
            **({"config": dict(world.dockerfile.config)} if world.dockerfile.config else {}),
            "predictors": predictors_to_json(recipe.image.predictors),
        }
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """A part in which two derivations differ."""

    path: str
    """``steps[1].pins[4].version``."""
    before: Json
    """None where there was nothing."""
    after: Json


def differences(before: Json, after: Json, path: str = "") -> Iterator[Difference]:
    """Walk two derivations' values side by side; give the smallest parts that differ."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from differences(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif _are_lists_of_named(before, after):
        yield from differences(_by_name(before), _by_name(after), path)
    elif isinstance(before, list) and isinstance(after, list):
        for index in range(max(len(before), len(after))):
            one = before[index] if index < len(before) else None
            other = after[index] if index < len(after) else None
            yield from differences(one, other, f"{path}[{index + 1}]")
    elif before != after:
        yield Difference(path, before, after)


def _are_lists_of_named(*values: Json) -> bool:
    """Tell whether all are lists of pins: then they are compared by name, not by position."""
    return all(
        isinstance(value, list)
        and value
        and all(isinstance(item, Mapping) and {"name", "sha256"} <= item.keys() for item in value)
        for value in values
    )


def _by_name(pins: Sequence[Mapping[str, Json]]) -> dict[str, Mapping[str, Json]]:
    found: dict[str, Mapping[str, Json]] = {}
    for pin in pins:
        name = label = str(pin.get("package") or pin["name"])
        turn = 1
        while label in found:  # an exchange that was answered in turn
            turn += 1
            label = f"{name} ({turn})"
        found[label] = pin
    return found
