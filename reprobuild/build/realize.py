"""Carry a plan out: fetch, make layers, write the image down, compare it with the lock.

Knows nothing of how pins come about, nor of what a person sees.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reprobuild.build.assemble import Assembler, Made
from reprobuild.build.derive import Derived, derive_recipe
from reprobuild.build.image import Realised, named, recall_image, write_image
from reprobuild.build.outputs import check_outputs
from reprobuild.build.plan import make_plan, missing_downloads, missing_exchanges
from reprobuild.build.project import Project
from reprobuild.build.run import home_variable
from reprobuild.derivation.derive import DerivedStep
from reprobuild.derivation.lockfile import Lock
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.recipe import Recipe
from reprobuild.derivation.world import World, world_of
from reprobuild.derivation.written import Stage
from reprobuild.digest import Digest
from reprobuild.events import StepFinished, StepStarted, ignore
from reprobuild.store.store import Store
from reprobuild.tree import Layer, Tree
from reprobuild.value import replace

if TYPE_CHECKING:
    from reprobuild.fetch.download import Download


class Growth:
    """A tree as it grows, step by step, telling of each."""

    def __init__(
        self, project: Project, recipe: Recipe, folder: Path, *, recalled: Sequence[Made] = (), told: int = 0
    ) -> None:
        """Begin with the empty tree.

        ``recalled``: what the first steps are known to come to; of the first ``told`` steps nothing
        is told.
        """
        self.tree = Tree()
        self.kept: list[tuple[str, Made]] = []
        """Titles and layers of the steps that the tree is made of, lowest first."""
        self._aside: dict[str, list[tuple[str, Made]]] = {}
        """The same of a Dockerfile's stages."""
        self._project = project
        self._recipe = recipe
        self.assembler = Assembler(project, recipe, folder)
        self._folder = folder
        self._recalled = recalled
        self._told = told
        self._steps: list[DerivedStep] = []

    @property
    def layers(self) -> list[Layer]:
        """What the tree is made of, lowest first."""
        return [made.layer for _, made in self.kept]

    @property
    def world(self) -> World:
        """What a command of the next step finds beside the tree."""
        return world_of(self._recipe.image, self._steps, self._project.platform)

    def add(self, one: DerivedStep) -> Made:
        """Make the next step, or recall it; what it pins is fetched if it is needed and missing."""
        world = self.world
        self._steps.append(one)
        name, index, title = self._recipe.name, len(self._steps), one.step.title
        count = len(self._recipe.image.steps)
        tell = self._project.tell if index > self._told else ignore
        started = time.monotonic()
        known = index <= len(self._recalled) and not isinstance(one.step, Stage)
        made = self._recalled[index - 1] if known else self.assembler.recall(one, self.tree, world)
        if made is None:
            fetch(self._project, missing_downloads(self._project, one, self._folder))
        tell(StepStarted(name, index, count, title))
        if made is None:
            made = self.assembler.make(one, self.tree, world, self.layers)
        status = "reused" if made.is_reused else "built"
        tell(StepFinished(name, index, count, title, status, time.monotonic() - started))
        self.tree = made.tree
        if isinstance(one.step, Stage):
            self._aside[one.step.name] = self.kept
            self.kept = list(self._aside.get(one.step.begin, ()))
        elif made.layer:
            self.kept.append((title, made))
        return made


def realize(
    project: Project, name: str, options: Mapping[str, Json] | None = None, *, trust: bool = False
) -> Realised:
    """Build a recipe's image if it is not in the store yet, and compare it with the lock's outputs.

    Raises UsageError, RecipeError, UnpinnedError, OfflineError, UpstreamError, EngineError,
    BuildFailedError, RefusedFetchError, and CheckFailedError where the image is not the lock's.
    """
    derived = derive_recipe(project, name, options or {}, trust=trust)
    realised = build_image(project, derived, may_pull=True)
    check_outputs(project.store, derived, realised)
    keep(project.store, name, derived.derivation.input_hash, derived.lock, "realized")
    if realised.is_reused and recall_image(project.store, derived.derivation.input_hash) is None:
        realised = build_image(project, derived, may_pull=True)  # gc took it before it was kept
    return realised


def keep(store: Store, name: str, input_hash: Digest, lock: Lock, why: str) -> None:
    """Let ``gc`` keep an image of a recipe, and of those kept before the ones that the lock speaks of."""
    locked = {output.input_hash for outputs in lock.outputs.values() for output in outputs}
    root = store.roots.get(name)
    before = root.keys if root is not None else ()
    store.roots.set(name, [input_hash, *(key for key in before if key in locked - {input_hash})], why)


def build_image(project: Project, derived: Derived, *, told: int = 0, may_pull: bool = False) -> Realised:
    """Build a derivation's image if it is not in the store yet.

    ``told``: how many of its first steps somebody has told of already; ``may_pull``: whether it may be
    taken from where somebody else has put it, if it is what the lock says.
    """
    store, input_hash = project.store, derived.derivation.input_hash
    if (recalled := recall_image(store, input_hash)) is not None:
        return named(store, recalled, derived)
    started = time.monotonic()
    with store.lock(f"image-{input_hash.hex}"):
        if (recalled := recall_image(store, input_hash)) is not None:
            return named(store, recalled, derived)
        if may_pull and (pulled := _pull(project, derived)) is not None:
            return pulled
        plan = make_plan(project, derived)
        fetch(project, plan.downloads)
        growth = Growth(project, derived.recipe, derived.folder, recalled=plan.recalled, told=told)
        made = [growth.add(one) for one in derived.steps]
        realised = write_image(
            store,
            derived,
            [(title, one.layer) for title, one in growth.kept],
            [key for one in made for key in one.records],
            home=home_variable(derived.world, growth.tree, store.blobs.read),
            engine=project.engine.name,
            isolation=project.engine.probe().name,
        )
    status = ["reused" if one.is_reused else "built" for _, one in growth.kept]
    return replace(
        realised,
        layers=tuple(replace(layer, status=one) for layer, one in zip(realised.layers, status, strict=True)),
        fetched_bytes=plan.fetch_bytes,
        seconds=round(time.monotonic() - started, 3),
    )


def _pull(project: Project, derived: Derived) -> Realised | None:
    """Give the image if somebody has built it already, with what its predictors are answered with."""
    from reprobuild.build.substitute import offered, take

    with offered(project, derived) as offer:
        if offer is None:
            return None
        fetch(project, missing_exchanges(project, derived))
        return take(project, derived, offer)


def fetch(project: Project, downloads: Sequence[Download]) -> None:
    """Fetch what the store lacks, verified, in parallel. Raises OfflineError, UpstreamError, and
    DigestMismatchError for bytes that are not the pinned ones."""
    if downloads:
        from reprobuild.fetch.download import fetch_all
        from reprobuild.fetch.failures import refuse_offline

        if project.settings.offline:
            refuse_offline(downloads, "this run may not use the network (--offline)")
        for one in downloads:
            if one.bring is not None:
                one.bring(one, project.store, project.settings, project.tell)
        fetch_all(
            project.store,
            [one for one in downloads if one.bring is None],
            tell=project.tell,
            offline=project.settings.offline,
            jobs=project.settings.jobs,
            settings=project.settings,
        )
