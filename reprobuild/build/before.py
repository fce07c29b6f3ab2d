"""The tree that a step finds: what ``shell --at`` opens when a step has failed.

Knows nothing of terminals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reprobuild.build.assemble import Assembler
from reprobuild.build.derive import Derived
from reprobuild.build.plan import missing_downloads
from reprobuild.build.project import Project
from reprobuild.build.realize import fetch, make_step
from reprobuild.engine.protocol import ENVIRONMENT, Command
from reprobuild.errors import UsageError
from reprobuild.recipe.steps import Run, Step
from reprobuild.tree import Layer, Tree


@dataclass(frozen=True)
class Before:
    """The world of a step, before it is applied."""

    title: str
    layers: tuple[Layer, ...]
    """Of the steps before it, lowest first."""
    world: Command

    def command(self, argv: Sequence[str]) -> Command:
        """Give a command in the step's world, on the caller's terminal."""
        return replace(self.world, argv=tuple(argv), terminal=True)


def before_step(project: Project, derived: Derived, at: str) -> Before:
    """Build the steps before one, which is named by its number from 1 or a part of its title.

    Raises UsageError where none or several fit, and what building raises.
    """
    index = find_step([one.step for one in derived.steps], at, derived.recipe.name)
    assembler = Assembler(project, derived.recipe, derived.folder)
    tree, layers = Tree(), list[Layer]()
    for number, one in enumerate(derived.steps[:index], start=1):
        fetch(project, missing_downloads(project, one))
        made = make_step(project, assembler, derived, number, tree, layers)
        tree = made.tree
        if made.layer:
            layers.append(made.layer)
    step, image = derived.steps[index].step, derived.recipe.image
    world = (
        assembler.command(step)
        if isinstance(step, Run)
        else Command(argv=("/bin/sh",), env={**ENVIRONMENT, **image.env}, workdir=image.workdir)
    )
    return Before(step.title, tuple(layers), world)


def find_step(steps: Sequence[Step], at: str, name: str) -> int:
    """Give the index of the step that a text names. Raises UsageError."""
    titles = [step.title for step in steps]
    if at.isdecimal():
        if 1 <= int(at) <= len(steps):
            return int(at) - 1
        raise UsageError(f"{name} has {len(steps)} steps, and no step {at}", f"1 to {len(steps)}")
    found = [index for index, title in enumerate(titles) if at == title] or [
        index for index, title in enumerate(titles) if at in title
    ]
    if len(found) == 1:
        return found[0]
    listed = "; ".join(f"{number} {title}" for number, title in enumerate(titles, start=1))
    problem = f"no step of {name} fits {at!r}" if not found else f"several steps of {name} fit {at!r}"
    raise UsageError(problem, f"name one by its number: {listed}")
