"""Pins that the lock of another recipe has, for a machine without a network.

Only of a recipe's first step: what is on the empty tree comes to the same in every recipe, while later
sources may depend on what is below. Knows nothing of upstream.
"""

from __future__ import annotations

from reprobuild.build import recipes
from reprobuild.build.derive import lock_of
from reprobuild.build.project import Project
from reprobuild.build.realize import Growth
from reprobuild.derivation.lockfile import LockError
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Run, Step
from reprobuild.events import Note


def borrow(project: Project, name: str, step: Step, growth: Growth) -> tuple[Pin, ...]:
    """Give the pins of a source from the lock of another recipe, telling of which; none with a network."""
    if not project.settings.offline or growth.kept or isinstance(step, Run):
        return ()
    key = step.lock_key(project.platform)
    for other in recipes.names(project.settings.recipes):
        if other == name:
            continue
        try:
            lock = lock_of(project.recipe_folder(other), other)
        except LockError:
            continue
        if lock is not None and key not in lock.missing and (pins := lock.sources.get(key)):
            project.tell(Note(f"offline: {step.title} is pinned as in the lock of {other}"))
            return pins
    return ()
