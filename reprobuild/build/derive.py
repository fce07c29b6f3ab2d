"""From a recipe's name to its derivation: evaluate, read the lock, digest the recipe's own files.

Knows nothing of what the store has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from reprobuild.build.evaluate import Evaluated, evaluate
from reprobuild.build.place.context import context_entries
from reprobuild.build.place.files import digest_files
from reprobuild.build.project import Project
from reprobuild.derivation.derive import (
    ASSEMBLER,
    Derivation,
    DerivedStep,
    derive,
    derive_step,
    pinned,
    pinned_exchanges,
)
from reprobuild.derivation.dockerfile.mounts import context_sources
from reprobuild.derivation.lockfile import LOCK_FILE, Lock, LockError, Output, mend_lock, read_lock
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.recipe import Recipe
from reprobuild.derivation.recorded import with_exchanges
from reprobuild.derivation.steps import Files, Run, Step
from reprobuild.derivation.world import World, world_of
from reprobuild.derivation.written import Copy
from reprobuild.value import NOTHING

NAMESPACE = "reprobuild"
"""First part of local tags; a registry's namespace is named when publishing."""


@dataclass(frozen=True)
class Derived:
    """A recipe with its lock, fully pinned."""

    recipe: Recipe
    folder: Path
    lock: Lock
    steps: tuple[DerivedStep, ...]
    derivation: Derivation
    platform: str
    exchanges: Mapping[str, tuple[Pin, ...]] = field(default_factory=dict)
    """What recorded predictors fetch, by their names."""

    @property
    def pins(self) -> tuple[Pin, ...]:
        """Everything that is pinned: of steps, and of predictors."""
        steps = (pin for one in self.steps for pin in one.pins)
        return (*steps, *(pin for pins in self.exchanges.values() for pin in pins))

    @cached_property
    def world(self) -> World:
        """What the image's commands find beside its files."""
        return world_of(self.recipe.image, self.steps, self.platform)

    @property
    def tag(self) -> str:
        """``<namespace>/<name>:<version>-<first 12 hex digits of the input hash>``."""
        return f"{NAMESPACE}/{self.recipe.name}:{self.recipe.version}-{self.derivation.input_hash.short}"

    @property
    def output(self) -> Output | None:
        """What the lock says that this very derivation comes to, if it says anything."""
        output = self.lock.output(self.platform, self.recipe.chosen)
        return output if output is not None and output.input_hash == self.derivation.input_hash else None


def derive_recipe(
    project: Project, name: str, options: Mapping[str, Json], *, trust: bool = False
) -> Derived:
    """Evaluate a recipe and join it with its lock.

    Raises UsageError, RecipeError, LockError, and UnpinnedError for a source without a pin.
    """
    evaluated = evaluate(project, name, options, trust=trust)
    lock = lock_of(evaluated.folder, name)
    pins = [pinned(evaluated.recipe, lock, step, project.platform) for step in evaluated.recipe.image.steps]
    exchanges = pinned_exchanges(evaluated.recipe, lock, project.platform)
    return join(evaluated, lock or Lock(assembler=ASSEMBLER), pins, project.platform, exchanges)


def join(
    evaluated: Evaluated,
    lock: Lock,
    pins: Sequence[Sequence[Pin]],
    platform: str,
    exchanges: Mapping[str, tuple[Pin, ...]] = NOTHING,
) -> Derived:
    """Join an evaluated recipe with the pins of its steps, in their order, and of its predictors, by name."""
    recipe = with_exchanges(evaluated.recipe, exchanges)
    steps = tuple(
        derived_step(step, step_pins, evaluated.folder)
        for step, step_pins in zip(recipe.image.steps, pins, strict=True)
    )
    derivation = derive(recipe, steps, lock.assembler, platform)
    return Derived(recipe, evaluated.folder, lock, steps, derivation, platform, exchanges)


def derived_step(step: Step, pins: Sequence[Pin], folder: Path) -> DerivedStep:
    """Derive one step; the recipe's own files are digested here."""
    if isinstance(step, Files):
        return derive_step(step, (), digest_files(step, folder))
    if isinstance(step, Copy) and step.sources and not step.stage:
        return derive_step(step, (), context_entries(step, folder, step.sources))
    if isinstance(step, Run) and (sources := context_sources(step)):
        return derive_step(step, pins, context_entries(step, folder, sources))
    return derive_step(step, pins)


def lock_of(folder: Path, name: str) -> Lock | None:
    """Read a recipe's lock; None where there is none. Raises LockError."""
    path = folder / LOCK_FILE
    try:
        if not path.is_file() and path.exists():
            raise LockError(f"{path} is no file", f"remove it, then: reprobuild lock {name}")
        return read_lock(path.read_text(encoding="utf-8"), name)
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise LockError(f"{LOCK_FILE} of {name} is no text: {error}", mend_lock(name)) from None
