"""The verb ``lock``: pins for every source, then a build, then outputs; all of it or nothing.

Knows nothing of any one kind of source. Steps are resolved in order, each on the tree that the
steps before it make: what a source comes to may depend on what is below.
"""

from __future__ import annotations

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
from reprobuild.derivation.lockfile import LOCK_FILE, LayerOutput, Lock, Output
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.recorded import PREDICTOR, predictor_key
from reprobuild.derivation.steps import Run, Step
from reprobuild.digest import Digest
from reprobuild.errors import OfflineError, UsageError
from reprobuild.events import Note
from reprobuild.lock import bodies
from reprobuild.lock.borrowed import borrow
from reprobuild.lock.changes import SourceChange, source_changes
from reprobuild.lock.kinds import resolver
from reprobuild.lock.resolver import Context


@dataclass(frozen=True)
class Locked:
    """A lock that says all of it, with what it came to."""

    realised: Realised
    path: Path
    changed: tuple[SourceChange, ...]
    """How its pins differ from those of the lock that was there."""
    written: bodies.Written


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
    kept = {} if before is None else dict(before.sources)
    for key in [
        *(before.missing if before is not None else ()),
        *_to_update(evaluated, project.platform, update, kept),
    ]:
        kept.pop(key, None)

    pins = list(_walk(project, evaluated, _kept_or_resolved(project, evaluated, kept)))
    exchanges, told = _exchanges(project, evaluated, pins, kept)
    derived = join(evaluated, Lock(ASSEMBLER), pins, project.platform, exchanges)
    realised = build_image(project, derived, told=told)
    for note in _notes(project, realised):
        project.tell(Note(note))
    after = _joined(project, evaluated, before, derived, realised, trust=trust)
    written = bodies.write(evaluated.folder, after, project.store)
    keep(project.store, name, derived.derivation.input_hash, after, "locked")
    changed = source_changes(before.sources if before is not None else {}, after.sources)
    return Locked(realised, evaluated.folder / LOCK_FILE, tuple(changed), written)


def pin_below(
    project: Project, name: str, options: Mapping[str, Json], which: str, *, trust: bool = False
) -> Derived:
    """Pin what is below a step of a recipe that cannot be locked yet, so that it can be looked at.

    ``which``: as for ``find_step``. Steps from there on have no pins. Writes no lock.
    """
    evaluated = evaluate(project, name, options, trust=trust)
    before = lock_of(evaluated.folder, name)
    kept = {} if before is None else dict(before.sources)
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

    def compare(step: Step, growth: Growth) -> tuple[Pin, ...]:
        key = step.lock_key(project.platform)
        if key not in today:
            locked = before.sources.get(key, ())
            today[key] = _resolve(project, evaluated, step, growth, locked)
        return before.sources.get(key, today[key])

    pins = list(_walk(project, evaluated, compare))
    recorded = _recorded_predictors(evaluated, project.platform)
    if recorded:
        growth = _whole(project, evaluated, pins)
        for name, key in recorded.items():
            today[key] = _record(project, evaluated, growth, name, before.sources.get(key, ()))
    locked = {key: before.sources.get(key, ()) for key in today}
    return tuple(source_changes(locked, today))


def _kept_or_resolved(
    project: Project, evaluated: Evaluated, kept: dict[str, tuple[Pin, ...]]
) -> Callable[[Step, Growth], tuple[Pin, ...]]:
    """Ask for the pins of each source once: one that is there twice has one entry in the lock."""

    def pins_of(step: Step, growth: Growth) -> tuple[Pin, ...]:
        key = step.lock_key(project.platform)
        if key not in kept:
            borrowed = borrow(project, evaluated.recipe.name, step, growth)
            kept[key] = borrowed or _resolve(project, evaluated, step, growth)
        return kept[key]

    return pins_of


def _exchanges(
    project: Project,
    evaluated: Evaluated,
    pins: Sequence[tuple[Pin, ...]],
    kept: dict[str, tuple[Pin, ...]],
) -> tuple[dict[str, tuple[Pin, ...]], int]:
    """Give what recorded predictors fetch, by name, and how many steps have been told of by then."""
    recorded = _recorded_predictors(evaluated, project.platform)
    told = _last_source(evaluated)
    if any(key not in kept for key in recorded.values()):
        growth = _whole(project, evaluated, pins)
        told = len(pins)
        for name, key in recorded.items():
            if key not in kept:
                kept[key] = _record(project, evaluated, growth, name)
    return {name: kept[key] for name, key in recorded.items()}, told


def _recorded_predictors(evaluated: Evaluated, platform: str) -> dict[str, str]:
    """Give the predictors that are recorded: name → key in the lock."""
    predictors = evaluated.recipe.image.predictors
    return {name: predictor_key(name, one, platform) for name, one in predictors.items() if one.network}


def _whole(project: Project, evaluated: Evaluated, pins: Sequence[tuple[Pin, ...]]) -> Growth:
    """Build all steps of an image, telling of those that finding its pins has not built."""
    growth = Growth(project, evaluated.recipe, evaluated.folder, told=_last_source(evaluated))
    for step, step_pins in zip(evaluated.recipe.image.steps, pins, strict=True):
        growth.add(derived_step(step, step_pins, evaluated.folder))
    return growth


def _record(
    project: Project,
    evaluated: Evaluated,
    growth: Growth,
    name: str,
    compared_with: tuple[Pin, ...] | None = None,
) -> tuple[Pin, ...]:
    from reprobuild.lock import predictor

    _demand_network(project, evaluated, f"predictor {name}")
    project.tell(Note(f"recording predictor {name}"))
    return predictor.resolve(project, evaluated.recipe, evaluated.folder, growth, name, compared_with)


def _walk(
    project: Project, evaluated: Evaluated, pins_of: Callable[[Step, Growth], tuple[Pin, ...]]
) -> Iterator[tuple[Pin, ...]]:
    """Build as far as the last source, asking for each one's pins when the tree below it is there."""
    growth = Growth(project, evaluated.recipe, evaluated.folder)
    steps = evaluated.recipe.image.steps
    for step in steps:
        derived_step(step, (), evaluated.folder)  # what this release cannot build is refused first
    last = _last_source(evaluated)
    for index, step in enumerate(steps):
        pins = pins_of(step, growth) if step.is_source else ()
        if index < last:
            growth.add(derived_step(step, pins, evaluated.folder))
        yield pins


def _last_source(evaluated: Evaluated) -> int:
    """Give the index of the last step that is a source: what is before it is built to resolve it."""
    steps = evaluated.recipe.image.steps
    return max((index for index, step in enumerate(steps) if step.is_source), default=0)


def _resolve(
    project: Project,
    evaluated: Evaluated,
    step: Step,
    growth: Growth,
    compared_with: tuple[Pin, ...] | None = None,
) -> tuple[Pin, ...]:
    _demand_network(project, evaluated, f"{step.where}: {step.source_key}")
    project.tell(Note(f"{'recording' if isinstance(step, Run) else 'resolving'} {step.title}"))
    context = Context(
        project.store,
        project.settings,
        project.tell,
        project.platform,
        growth.tree,
        evaluated.folder,
        growth,
        compared_with,
    )
    return resolver(step.kind).resolve(step, context)


def _demand_network(project: Project, evaluated: Evaluated, what: str) -> None:
    if project.settings.offline:
        raise OfflineError(
            f"{what} is not pinned, and pinning it needs the network",
            f"without --offline: reprobuild lock {evaluated.recipe.name}{evaluated.recipe.sets}",
        )


def _to_update(
    evaluated: Evaluated, platform: str, update: Sequence[str], kept: Mapping[str, Sequence[Pin]]
) -> Iterator[str]:
    """Give the keys of the sources that are to be pinned anew; ``kept``: what is pinned now."""
    sources = [step for step in evaluated.recipe.image.steps if step.is_source]
    keys = [(step.kind, step.lock_key(platform)) for step in sources]
    keys += [(PREDICTOR, key) for key in _recorded_predictors(evaluated, platform).values()]
    for wanted in update:
        of_kind = [key for kind, key in keys if wanted == kind]
        found = of_kind or [key for _, key in keys if wanted in key or _is_asked(wanted, kept.get(key, ()))]
        if not found:
            known = "; ".join(key for _, key in keys) or "none"
            raise UsageError(f"no source of {evaluated.recipe.name} fits {wanted!r}", f"its sources: {known}")
        yield from found


def _is_asked(wanted: str, pins: Sequence[Pin]) -> bool:
    """Tell whether a text is part of what a recorded exchange asked for."""
    return any(wanted in pin.name for pin in pins if "status" in pin.hashed)


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
    recorded = _recorded_predictors(evaluated, here)
    sources |= {key: derived.exchanges[name] for name, key in recorded.items()}
    kept = before or Lock(ASSEMBLER)
    elsewhere = tuple(f" on {platform}" for platform in kept.outputs if platform != here)
    sources |= {key: pins for key, pins in kept.sources.items() if key.endswith(elsewhere)}
    others = [one for one in kept.outputs.get(here, ()) if dict(one.options) != dict(output.options)]
    still = []
    for other in others:
        try:
            variant = evaluate(project, evaluated.recipe.name, other.options, trust=trust)
        except UsageError:
            continue  # the recipe has no such options any more
        still.append(other)
        keys = [step.lock_key(here) for step in variant.recipe.image.steps if step.is_source]
        for key in [*keys, *_recorded_predictors(variant, here).values()]:
            if key in kept.sources:
                sources.setdefault(key, kept.sources[key])
    if kept.assembler != ASSEMBLER:
        # Pins are facts of sources and stay; what another assembler made of them is no promise of this one.
        return Lock(ASSEMBLER, sources, {here: (output,)})
    return Lock(ASSEMBLER, sources, {**kept.outputs, here: (*still, output)})
