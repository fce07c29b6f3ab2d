"""Which input differs: two derivations side by side, by the same walk that hashes them.

Knows nothing of layers or files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from reprobuild.build.derive import Derived, derive_recipe
from reprobuild.build.find import find_image, is_reference
from reprobuild.build.image import images_of_record
from reprobuild.build.project import Project
from reprobuild.derivation.derive import Difference, differences
from reprobuild.derivation.predictors import Json
from reprobuild.digest import Digest
from reprobuild.errors import UsageError


@dataclass(frozen=True)
class Side:
    """One of two derivations that are compared."""

    label: str
    input_hash: Digest
    value: Mapping[str, Json]


@dataclass(frozen=True)
class Explanation:
    """What differs between two derivations; nothing, if they are one."""

    before: Side
    after: Side
    differences: tuple[Difference, ...]


def why(project: Project, first: str, second: str | None = None) -> Explanation:
    """Say which inputs differ: of two recipes or images, or of a recipe and how it was before.

    Before is when it was last realized or, if nothing has changed since, when it was locked.

    Each is the name of a recipe, a tag, or the beginning of an image ID. Raises UsageError where
    there is nothing to compare with.
    """
    if second is None:
        if is_reference(project, first):
            raise UsageError(
                f"{first} is a built image: nothing about it changes",
                f"compare it with another: reprobuild why {first} NAME",
            )
        derived = derive_recipe(project, first, {})
        now = _side_of(first, derived)
        befores = _befores(project, first, derived)
        changed = [before for before in befores if before.input_hash != now.input_hash]
        return _explain((changed or befores)[0], now)
    return _explain(_side(project, first), _side(project, second))


def _explain(before: Side, after: Side) -> Explanation:
    if before.input_hash == after.input_hash:
        return Explanation(before, after, ())
    return Explanation(before, after, tuple(differences(_labelled(before.value), _labelled(after.value))))


def _labelled(value: Mapping[str, Json]) -> dict[str, Json]:
    """Name steps by position and kind, so that a difference says which one it is in."""
    steps = {f"step {index} ({step['kind']})": step for index, step in enumerate(value["steps"], start=1)}
    return {**{key: item for key, item in value.items() if key != "steps"}, **steps}


def _side(project: Project, text: str) -> Side:
    if is_reference(project, text):
        image = find_image(project.store, text)
        if not project.store.blobs.has(image.derivation):
            raise UsageError(
                f"{text} was pulled without its derivation, so what went into it is not known",
                "compare its recipe, by name",
            )
        return Side(image.tag, image.input_hash, _read(project, image.derivation))
    return _side_of(text, derive_recipe(project, text, {}))


def _side_of(name: str, derived: Derived) -> Side:
    return Side(name, derived.derivation.input_hash, derived.derivation.value)


def _befores(project: Project, name: str, now: Derived) -> list[Side]:
    """Give earlier states of a recipe that the store still has: with the same options, if there are any.

    Raises UsageError where there is none.
    """
    root = project.store.roots.get(name)
    known = [("last realized", key) for key in (root.keys if root is not None else ())]
    outputs = now.lock.outputs.get(project.platform, ())
    known += [("locked", output.input_hash) for output in outputs]
    alike: list[Side] = []
    others: list[Side] = []
    for how, key in known:
        record = project.store.realisations.get(key)
        for image in images_of_record(record) if record is not None else ():
            if image.recipe == name:
                side = Side(f"{image.tag} ({how})", image.input_hash, _read(project, image.derivation))
                (alike if dict(image.options) == dict(now.recipe.chosen) else others).append(side)
    if not alike and not others:
        raise UsageError(f"{name} was not realized here before", f"reprobuild realize {name}")
    return alike or others


def _read(project: Project, blob: Digest) -> Mapping[str, Json]:
    value: Mapping[str, Json] = json.loads(project.store.blobs.read(blob))
    return value
