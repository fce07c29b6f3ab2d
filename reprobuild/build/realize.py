"""Carry a plan out: fetch, make layers, write the image down, compare it with the lock.

Knows nothing of how pins come about, nor of what a person sees.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from reprobuild.build.assemble import Assembler, Made
from reprobuild.build.derive import Derived, derive_recipe
from reprobuild.build.image import Realised, recall_image, write_image
from reprobuild.build.outputs import check_outputs
from reprobuild.build.plan import make_plan
from reprobuild.build.project import Project
from reprobuild.events import StepFinished, StepStarted
from reprobuild.recipe.predictors import Json
from reprobuild.tree import Layer, Tree

if TYPE_CHECKING:
    from reprobuild.fetch.download import Download


def realize(
    project: Project, name: str, options: Mapping[str, Json] | None = None, *, trust: bool = False
) -> Realised:
    """Build a recipe's image if it is not in the store yet, and compare it with the lock's outputs.

    Raises UsageError, RecipeError, UnpinnedError, OfflineError, UpstreamError, EngineError,
    BuildFailedError, RefusedFetchError, and CheckFailedError where the image is not the lock's.
    """
    derived = derive_recipe(project, name, options or {}, trust=trust)
    realised = realise(project, derived)
    check_outputs(project.store, derived, realised)
    project.store.roots.set(name, [derived.derivation.input_hash], "realized")
    return realised


def realise(project: Project, derived: Derived) -> Realised:
    """Build a derivation's image if it is not in the store yet."""
    store, input_hash = project.store, derived.derivation.input_hash
    if (recalled := recall_image(store, input_hash)) is not None:
        return recalled
    started = time.monotonic()
    with store.lock(f"image-{input_hash.hex}"):
        if (recalled := recall_image(store, input_hash)) is not None:
            return recalled
        plan = make_plan(project, derived)
        fetch(project, plan.downloads)
        made = list(build(project, derived))
        layers = [(title, one.layer) for title, one in made if one.layer]
        realised = write_image(
            store,
            derived,
            layers,
            [key for _, one in made for key in one.records],
            engine=project.engine.name,
            isolation=project.engine.probe().name,
        )
    status = ["reused" if one.is_reused else "built" for _, one in made if one.layer]
    return replace(
        realised,
        layers=tuple(replace(layer, status=one) for layer, one in zip(realised.layers, status, strict=True)),
        fetched_bytes=plan.fetch_bytes,
        seconds=round(time.monotonic() - started, 3),
    )


def fetch(project: Project, downloads: Sequence[Download]) -> None:
    """Fetch what the store lacks, verified, in parallel. Raises OfflineError, UpstreamError, and
    DigestMismatchError for bytes that are not the pinned ones."""
    if downloads:
        from reprobuild.fetch.download import fetch_all

        fetch_all(
            project.store,
            downloads,
            tell=project.tell,
            offline=project.settings.offline,
            jobs=project.settings.jobs,
        )


def build(project: Project, derived: Derived) -> Iterator[tuple[str, Made]]:
    """Make or recall the steps of a derivation, one on another; everything pinned is in the store."""
    assembler = Assembler(project, derived.recipe, derived.folder)
    tree, layers = Tree(), list[Layer]()
    for index, one in enumerate(derived.steps, start=1):
        made = make_step(project, assembler, derived, index, tree, layers)
        tree = made.tree
        if made.layer:
            layers.append(made.layer)
        yield one.step.title, made


def make_step(
    project: Project, assembler: Assembler, derived: Derived, index: int, tree: Tree, layers: list[Layer]
) -> Made:
    """Make or recall one step (counted from 1), telling of it."""
    one, count = derived.steps[index - 1], len(derived.steps)
    name, title = derived.recipe.name, one.step.title
    started = time.monotonic()
    project.tell(StepStarted(name, index, count, title))
    made = assembler.recall(one, tree) or assembler.make(one, tree, layers)
    status = "reused" if made.is_reused else "built"
    project.tell(StepFinished(name, index, count, title, status, time.monotonic() - started))
    return made
