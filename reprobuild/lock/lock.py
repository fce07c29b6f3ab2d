"""The verb ``lock``: pins for every source, then a build, then outputs; all of it or nothing.

Knows nothing of any one kind of source. Steps are resolved in order, each on the tree that the
steps before it make: what a source comes to may depend on what is below.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reprobuild.build.derive import Derived, derived_step, join, lock_of
from reprobuild.build.evaluate import Evaluated, evaluate
from reprobuild.build.image import Realised
from reprobuild.build.project import Project
from reprobuild.build.realize import Growth, build_image, keep
from reprobuild.build.step import find_step
from reprobuild.derivation.derive import ASSEMBLER
from reprobuild.derivation.lockfile import LOCK_FILE, LayerOutput, Lock, Output, write_lock
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.steps import Step
from reprobuild.digest import Digest
from reprobuild.errors import OfflineError, OutsideError, UsageError
from reprobuild.events import Note
from reprobuild.lock.changes import SourceChange, source_changes
from reprobuild.lock.kinds import resolver
from reprobuild.lock.resolver import Context
from reprobuild.tree import Tree


@dataclass(frozen=True)
class Locked:
    """A lock that was written, with what it came to."""

    realised: Realised
    path: Path
    changed: tuple[SourceChange, ...]
    """How its pins differ from those of the lock that was there."""
    is_written: bool
    """False where the file said all of it already."""


def lock(
    project: Project,
    name: str,
    options: Mapping[str, Json] | None = None,
    *,
    update: Sequence[str] = (),
    trust: bool = False,
) -> Locked:
    """Pin what is not pinned, build, and write pins and outputs.

    ``update``: sources to pin anew, each by its kind or a part of its key (``apt``, ``sacrebleu``).
    Raises what resolvers, ``realize`` and the engine raise; UsageError for an ``update`` that fits
    no source. The lock is written whole or not at all.
    """
    # One at a time: each writes what the others have left.
    with project.store.lock(f"lock {project.recipe_folder(name).resolve()}"):
        return _lock(project, name, options or {}, update, trust=trust)


def _lock(
    project: Project, name: str, options: Mapping[str, Json], update: Sequence[str], *, trust: bool
) -> Locked:
    evaluated = evaluate(project, name, options, trust=trust)
    before = lock_of(evaluated.folder, name)
    kept = {} if before is None or before.assembler != ASSEMBLER else dict(before.sources)
    for key in [
        *(before.missing if before is not None else ()),
        *_to_update(evaluated, project.platform, update),
    ]:
        kept.pop(key, None)

    pins = list(_walk(project, evaluated, _kept_or_resolved(project, evaluated, kept)))
    derived = join(evaluated, Lock(ASSEMBLER), pins, project.platform)
    realised = build_image(project, derived, told=_last_source(evaluated))
    for note in _notes(project, realised):
        project.tell(Note(note))
    after = _joined(project, evaluated, before, derived, realised, trust=trust)
    path = evaluated.folder / LOCK_FILE
    text = write_lock(after)
    is_written = before is None or path.read_bytes() != text.encode()
    if is_written:
        _write(path, text)
    keep(project.store, name, derived.derivation.input_hash, after, "locked")
    changed = source_changes(before.sources if before is not None else {}, after.sources)
    return Locked(realised, path, tuple(changed), is_written)


def pin_below(
    project: Project, name: str, options: Mapping[str, Json], which: str, *, trust: bool = False
) -> Derived:
    """Pin what is below a step of a recipe that cannot be locked yet, so that it can be looked at.

    ``which``: as for ``find_step``. Steps from there on have no pins. Writes no lock.
    """
    evaluated = evaluate(project, name, options, trust=trust)
    before = lock_of(evaluated.folder, name)
    kept = {} if before is None or before.assembler != ASSEMBLER else dict(before.sources)
    image = evaluated.recipe.image
    steps = image.steps[: find_step(evaluated.recipe, which) - 1]
    below = replace(evaluated, recipe=replace(evaluated.recipe, image=replace(image, steps=steps)))
    pins = list(_walk(project, below, _kept_or_resolved(project, evaluated, kept)))
    rest: list[tuple[Pin, ...]] = [()] * (len(image.steps) - len(steps))
    return join(evaluated, Lock(ASSEMBLER), [*pins, *rest], project.platform)


def check(
    project: Project, name: str, options: Mapping[str, Json] | None = None, *, trust: bool = False
) -> tuple[SourceChange, ...]:
    """Say what upstream would give today that is not what the lock says. Changes nothing.

    Steps are resolved on the trees that the locked pins make.
    """
    evaluated = evaluate(project, name, options or {}, trust=trust)
    before = lock_of(evaluated.folder, name) or Lock(ASSEMBLER)
    today: dict[str, tuple[Pin, ...]] = {}

    def compare(step: Step, tree: Tree) -> tuple[Pin, ...]:
        key = step.lock_key(project.platform)
        if key not in today:
            today[key] = _resolve(project, evaluated, step, tree)
        return before.sources.get(key, today[key])

    list(_walk(project, evaluated, compare))
    locked = {key: before.sources.get(key, ()) for key in today}
    return tuple(source_changes(locked, today))


def _kept_or_resolved(
    project: Project, evaluated: Evaluated, kept: dict[str, tuple[Pin, ...]]
) -> Callable[[Step, Tree], tuple[Pin, ...]]:
    """Ask for the pins of each source once: one that is there twice has one entry in the lock."""

    def pins_of(step: Step, tree: Tree) -> tuple[Pin, ...]:
        key = step.lock_key(project.platform)
        if key not in kept:
            kept[key] = _resolve(project, evaluated, step, tree)
        return kept[key]

    return pins_of


def _walk(
    project: Project, evaluated: Evaluated, pins_of: Callable[[Step, Tree], tuple[Pin, ...]]
) -> Iterator[tuple[Pin, ...]]:
    """Build as far as the last source, asking for each one's pins when the tree below it is there."""
    growth = Growth(project, evaluated.recipe, evaluated.folder)
    steps = evaluated.recipe.image.steps
    for step in steps:
        derived_step(step, (), evaluated.folder)  # what this release cannot build is refused first
    last = _last_source(evaluated)
    for index, step in enumerate(steps):
        pins = pins_of(step, growth.tree) if step.is_source else ()
        if index < last:
            growth.add(derived_step(step, pins, evaluated.folder))
        yield pins


def _last_source(evaluated: Evaluated) -> int:
    """Give the index of the last step that is a source: what is before it is built to resolve it."""
    steps = evaluated.recipe.image.steps
    return max((index for index, step in enumerate(steps) if step.is_source), default=0)


def _resolve(project: Project, evaluated: Evaluated, step: Step, tree: Tree) -> tuple[Pin, ...]:
    if project.settings.offline:
        raise OfflineError(
            f"{step.where}: {step.source_key} is not pinned, and pinning it needs the network",
            f"without --offline: reprobuild lock {evaluated.recipe.name}{evaluated.recipe.sets}",
        )
    project.tell(Note(f"resolving {step.title}"))
    context = Context(project.store, project.settings, project.tell, project.platform, tree, evaluated.folder)
    return resolver(step.kind).resolve(step, context)


def _to_update(evaluated: Evaluated, platform: str, update: Sequence[str]) -> Iterator[str]:
    """Give the keys of the sources that are to be pinned anew."""
    sources = [step for step in evaluated.recipe.image.steps if step.is_source]
    keys = [(step.kind, step.lock_key(platform)) for step in sources]
    for wanted in update:
        found = [key for kind, key in keys if wanted == kind or wanted in key]
        if not found:
            known = "; ".join(key for _, key in keys) or "none"
            raise UsageError(f"no source of {evaluated.recipe.name} fits {wanted!r}", f"its sources: {known}")
        yield from found


def _notes(project: Project, realised: Realised) -> Iterator[str]:
    """Give what was noted when an image's sources were placed, now or earlier."""
    record = project.store.realisations.get(realised.input_hash) or {}
    for key in map(Digest.parse, record.get("records", ())):
        placed = project.store.realisations.get(key) or {}
        yield from placed.get("notes", ())


def _joined(
    project: Project,
    evaluated: Evaluated,
    before: Lock | None,
    derived: Derived,
    realised: Realised,
    *,
    trust: bool,
) -> Lock:
    """Give the new lock: this variant's pins and output beside those of other options and platforms."""
    output = Output(
        options=dict(evaluated.recipe.chosen),
        input_hash=realised.input_hash,
        image_id=realised.image_id,
        layers=tuple(LayerOutput(layer.step, layer.diff_id) for layer in realised.layers),
    )
    here = project.platform
    sources = {one.step.lock_key(here): one.pins for one in derived.steps if one.step.is_source}
    kept = before if before is not None and before.assembler == ASSEMBLER else Lock(ASSEMBLER)
    outputs = dict(kept.outputs)
    elsewhere = tuple(f" on {platform}" for platform in outputs if platform != here)
    sources |= {key: pins for key, pins in kept.sources.items() if key.endswith(elsewhere)}
    others = [one for one in outputs.get(here, ()) if dict(one.options) != dict(output.options)]
    still = []
    for other in others:
        try:
            variant = evaluate(project, evaluated.recipe.name, other.options, trust=trust)
        except UsageError:
            continue  # the recipe has no such options any more
        still.append(other)
        for step in variant.recipe.image.steps:
            if step.is_source and (key := step.lock_key(here)) in kept.sources:
                sources.setdefault(key, kept.sources[key])
    outputs[here] = (*still, output)
    return Lock(ASSEMBLER, sources, outputs)


def _write(path: Path, text: str) -> None:
    """Replace a lock in one step: a reader sees the old one or the new one."""
    # Named so that it is no part of the recipe, should we be killed.
    temporary = path.with_name(f".#{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutsideError(
            f"{path} cannot be written: {error.strerror}",
            "copy the recipe into a project of your own, and lock it there",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
