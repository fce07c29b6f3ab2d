"""A step as it was before it ran: the layers below it, and the world of its command.

Knows nothing of shells or screens.
"""

from __future__ import annotations

from dataclasses import dataclass

from reprobuild.build.derive import Derived
from reprobuild.build.project import Project
from reprobuild.build.realize import Growth
from reprobuild.build.run import home_variable, run_command
from reprobuild.derivation.recipe import Recipe
from reprobuild.derivation.steps import Run
from reprobuild.derivation.world import world_of
from reprobuild.engine.protocol import Command
from reprobuild.errors import UsageError
from reprobuild.tree import Layer
from reprobuild.value import replace


@dataclass(frozen=True)
class BeforeStep:
    """What a step finds."""

    title: str
    layers: tuple[Layer, ...]
    """Of the steps below, lowest first."""
    world: Command
    """The step's command where it is a ``run``; else one with the image's environment."""

    def command(self, argv: tuple[str, ...]) -> Command:
        """Give another command in the same world, with the caller's terminal."""
        return replace(self.world, argv=argv, terminal=True)


def before_step(project: Project, derived: Derived, which: str) -> BeforeStep:
    """Make what is below a step, if it is not there; ``which``: its number from 1, or a part of its title.

    Raises UsageError where no step, or more than one, fits, and what building raises.
    """
    index = find_step(derived.recipe, which)
    growth = Growth(project, derived.recipe, derived.folder)
    for one in derived.steps[: index - 1]:
        growth.add(one)
    step = derived.steps[index - 1].step
    world = world_of(derived.recipe.image, derived.steps[: index - 1], derived.platform)
    home = home_variable(world, growth.tree, project.store.blobs.read)
    return BeforeStep(
        step.title,
        tuple(growth.layers),
        run_command(step, world, home)
        if isinstance(step, Run)
        else Command(argv=(), env={**home, **world.env}, workdir=world.workdir),
    )


def find_step(recipe: Recipe, which: str) -> int:
    """Give the number of a step, from 1, by that number or a part of its title. Raises UsageError."""
    titles = {number: step.title for number, step in enumerate(recipe.image.steps, start=1)}
    if which.isdecimal() and int(which) in titles:
        return int(which)
    exactly = [number for number, title in titles.items() if which == title]
    found = exactly or [number for number, title in titles.items() if which in title]
    if len(found) == 1:
        return found[0]
    shown = "; ".join(f"{number}: {title}" for number, title in titles.items())
    problem = "several steps fit" if found else "no step fits"
    raise UsageError(f"{recipe.name}: {problem} {which!r}", f"its steps: {shown}")
