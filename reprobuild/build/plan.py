"""What would be done, as a value: what to fetch, what to build, what is there already.

Knows nothing of doing it. ``--dry-run``, the progress display and the tests read the same value.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from reprobuild.build import kinds
from reprobuild.build.assemble import Assembler, Made
from reprobuild.build.derive import Derived
from reprobuild.build.image import recall_image
from reprobuild.build.project import Project
from reprobuild.derivation.derive import DerivedStep
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.steps import Run
from reprobuild.derivation.world import world_of
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.store.realisations import bodies_of_listing
from reprobuild.store.store import Store
from reprobuild.tree import Tree

if TYPE_CHECKING:
    from reprobuild.fetch.download import Download
    from reprobuild.store.blobs import Blobs

StepPlan = Literal["reuse", "build", "build unless equal", "pull"]
"""``build unless equal``: an earlier step is built first, and if that gives the same tree as some
time before, this one is reused."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What would happen to a step."""

    title: str
    action: StepPlan


@dataclass(frozen=True, slots=True)
class PlannedPull:
    """What would be taken from where somebody else has put it."""

    where: str
    """What people call the image there."""
    layers: int
    """Those that the store lacks."""
    size: int
    """Bytes of them, compressed."""

    def to_json(self) -> dict[str, Json]:
        """Give its part of ``Plan.to_json``."""
        return {"from": self.where, "layers": self.layers, "size": self.size}


@dataclass(frozen=True)
class Plan:
    """What realizing a derivation would do."""

    recipe: str
    tag: str
    input_hash: Digest
    steps: tuple[PlannedStep, ...]
    downloads: tuple[Download, ...]
    recalled: tuple[Made, ...] = ()
    """What the first steps came to before, so that whoever carries the plan out need not look again."""
    pull: PlannedPull | None = None
    """Where the whole image would come from, instead of being built."""

    @property
    def fetch_bytes(self) -> int:
        """Bytes to fetch, as far as sizes are pinned."""
        return sum(download.size or 0 for download in self.downloads)

    @property
    def is_done(self) -> bool:
        """Tell whether there is nothing to do."""
        return not self.downloads and all(step.action == "reuse" for step in self.steps)

    def to_json(self) -> dict[str, Json]:
        """Give what ``realize --dry-run --json`` prints of it."""
        return {
            "schema": 1,
            "recipe": self.recipe,
            "tag": self.tag,
            "input_hash": str(self.input_hash),
            "steps": [{"step": step.title, "action": step.action} for step in self.steps],
            "fetch": [{"name": one.name, "size": one.size} for one in self.downloads],
            "fetch_bytes": self.fetch_bytes,
            **({"pull": self.pull.to_json()} if self.pull is not None else {}),
        }


def make_plan(project: Project, derived: Derived) -> Plan:
    """Compare a derivation with what the store has. Changes nothing."""
    steps: list[PlannedStep] = []
    recalled: list[Made] = []
    downloads: dict[Digest | None, Download] = {}
    tree: Tree | None = Tree()
    if recall_image(project.store, derived.derivation.input_hash) is not None:
        steps = [PlannedStep(one.step.title, "reuse") for one in derived.steps]
        return Plan(derived.recipe.name, derived.tag, derived.derivation.input_hash, tuple(steps), ())
    assembler = Assembler(project, derived.recipe, derived.folder)
    for index, one in enumerate(derived.steps):
        world = world_of(derived.recipe.image, derived.steps[:index], derived.platform)
        made = None if tree is None else assembler.recall(one, tree, world)
        if made is not None:
            steps.append(PlannedStep(one.step.title, "reuse"))
            recalled.append(made)
            tree = made.tree
            continue
        steps.append(PlannedStep(one.step.title, "build" if tree is not None else "build unless equal"))
        downloads |= {wanted.sha256: wanted for wanted in missing_downloads(project, one, derived.folder)}
        tree = None
    downloads |= {wanted.sha256: wanted for wanted in missing_exchanges(project, derived)}
    return Plan(
        derived.recipe.name,
        derived.tag,
        derived.derivation.input_hash,
        tuple(steps),
        tuple(downloads.values()),
        tuple(recalled),
    )


def missing_downloads(project: Project, derived: DerivedStep, folder: Path) -> list[Download]:
    """Give the downloads of a step's pinned files that the store does not have.

    ``folder``: the recipe's, where ``file:`` addresses lead and which errors name. Raises
    CheckFailedError for a pin whose size is not that of the bytes with its digest.
    """
    step = derived.step
    place = f"{os.path.relpath(folder)}/{step.where}"
    which = shlex.quote(step.which) if isinstance(step, Run) else step.kind
    again = f"reprobuild lock {folder.name} --update {which}"
    pins = _missing(project.store, derived.pins, place, again, pins_trees=step.pins_trees)
    if not pins:
        return []
    if isinstance(step, Run):
        from reprobuild.fetch.run import downloads, within_reach

        wanted = [replace(one, where=place) for one in downloads(step, pins, project.settings)]
        return within_reach(wanted, folder, again)
    mend = f"if the new bytes are right: {again}"
    if getattr(step, "sha256", ""):
        mend += f', after writing sha256="{{got}}" at {place}'
    found = kinds.finder(step.kind).downloads(step, pins, project.settings)
    return [replace(one, folder=one.folder or folder, where=place, mend=one.mend or mend) for one in found]


def _has(blobs: Blobs, pin: Pin, *, pins_trees: bool) -> bool:
    """Tell whether the store has what a pin says: the blob and, if it lists a tree, all bodies of that."""
    if not blobs.has(pin.sha256):
        return False
    bodies = bodies_of_listing(blobs.read(pin.sha256)) if pins_trees else ()
    return all(blobs.has(Digest.trusted(digits)) for digits in bodies)


def missing_exchanges(project: Project, derived: Derived) -> list[Download]:
    """Give the downloads of what recorded predictors are answered with and the store does not have."""
    found: list[Download] = []
    for name, pins in derived.exchanges.items():
        place = f"{os.path.relpath(derived.folder)}/recipe.py: predictor {name}"
        again = f"reprobuild lock {derived.recipe.name} --update 'predictor {name}'"
        if missing := _missing(project.store, pins, place, again):
            from reprobuild.fetch.run import exchange_downloads, within_reach

            wanted = exchange_downloads(missing, place, project.settings)
            found += within_reach(wanted, derived.folder, again)
    return found


def _missing(
    store: Store, pins: Sequence[Pin], place: str, again: str, *, pins_trees: bool = False
) -> list[Pin]:
    """Give the pins, each digest once, whose bytes the store does not have. Raises CheckFailedError."""
    missing: dict[Digest, Pin] = {}
    for pin in pins:
        if not _has(store.blobs, pin, pins_trees=pins_trees):
            missing.setdefault(pin.sha256, pin)
        elif store.blobs.size(pin.sha256) != pin.size:
            raise wrong_size(f"{place}: {pin.name}", pin.size, store.blobs.size(pin.sha256), again)
    return list(missing.values())


def wrong_size(what: str, pinned: int, found: int, again: str) -> CheckFailedError:
    """Give the error of a pin whose digest is right and whose size is not."""
    return CheckFailedError(
        f"{what}: the lock pins {pinned:,} bytes, and the bytes with the pinned digest are {found:,}",
        f"restore recipe.lock from version control, or pin it anew: {again}",
    )
