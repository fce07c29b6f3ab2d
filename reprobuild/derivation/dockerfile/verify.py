"""Check steps that a Dockerfile comes to, whoever wrote them: they are ones that a Dockerfile can say.

Knows nothing of Dockerfiles' texts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from reprobuild.derivation.steps import Run, Step
from reprobuild.derivation.written import Copy, Setting, Stage, Written
from reprobuild.errors import RecipeError

OneStep = TypeVar("OneStep", bound=Written)

DOCKERFILE_ALONE = ("shell", "mounts", "setting", "context", "ignore")
"""Fields of a ``Run`` that no recipe file can say but by its Dockerfile."""
ESCAPES = ("\\", "`")


def checked_setting(step: Setting) -> Setting:
    """Give the step if a Dockerfile can say it. Raises RecipeError."""
    from reprobuild.derivation.dockerfile.settings import PAIRS, SETTINGS

    _demand(step.word in SETTINGS or step.word == "FROM", step)
    _demand(len(step.values) % 2 == 0 if step.word in PAIRS else bool(step.values), step)
    return _plain(step, *step.values)


def checked_copy(step: Copy) -> Copy:
    """Give the step if a Dockerfile can say it. Raises RecipeError."""
    from reprobuild.derivation.dockerfile.patterns import PatternError, cleaned, glob

    check_context(step)
    try:
        for pattern in step.exclude:
            glob(pattern)
        for source in step.sources if not step.stage else ():
            _demand((cleaned(source) or ".") == source.removesuffix("/"), step)
    except PatternError as error:
        raise RecipeError(f"{step.where}: {error}") from None
    _demand(bool(step.sources or step.texts) and {*step.expands} <= step.texts.keys(), step)
    _demand(not (step.stage and (step.texts or step.context or step.ignore)), step)
    _demand(all(name not in ("", ".", "..") and "/" not in name for name in step.texts), step)
    texts = (*step.sources, step.to, step.chown, step.chmod, *step.texts, *step.texts.values())
    return _plain(step, *texts)


def checked_stage(step: Stage) -> Stage:
    """Give the step if a Dockerfile can say it. Raises RecipeError."""
    return _plain(step, step.name, step.begin)


def checked_run(step: Run, plain: Run) -> Run:
    """Give ``plain``, the step without what a Dockerfile alone says, with that. Raises RecipeError."""
    _demand(not step.shell or step.command[:2] == ("/bin/sh", "-c"), step)
    mounted(step)
    check_context(step)
    own = {name: getattr(step, name) for name in DOCKERFILE_ALONE}
    return dataclasses.replace(plain, **own)


def check_context(step: Copy | Run) -> None:
    """See to it that a context is inside the recipe's folder. Raises RecipeError."""
    if not step.context and not step.ignore:
        return
    from reprobuild.derivation.dockerfile.patterns import Ignored, PatternError
    from reprobuild.derivation.dockerfile.reading import inside

    try:
        Ignored(step.ignore)
    except PatternError as error:
        raise RecipeError(f"{step.where}: {error}") from None
    _demand(inside(step.context, step.where) == step.context, step)


def mounted(step: Run) -> list[str]:
    """Give the stages that a command sees files of. Raises RecipeError for a mount that there is not."""
    if not step.mounts:
        return []
    from reprobuild.derivation.dockerfile.mounts import mounts_of

    return [mount.whence for mount in mounts_of(step) if mount.whence]


def check_stages(steps: Sequence[Step]) -> None:
    """See to it that each stage that a step speaks of is there before it. Raises RecipeError."""
    known: set[str] = set()
    for step in steps:
        wanted: list[str] = []
        if isinstance(step, Stage):
            known.add(step.name)
            wanted = [step.begin]
        elif isinstance(step, Copy):
            wanted = [step.stage]
        elif isinstance(step, Run):
            wanted = mounted(step)
        for name in wanted:
            if name and name not in known:
                raise RecipeError(f"{step.where}: {step.title}: there is no stage {name} before it")


def _plain(step: OneStep, *texts: str) -> OneStep:
    _demand(not any("\0" in text for text in texts) and getattr(step, "escape", "\\") in ESCAPES, step)
    return step


def _demand(fits: bool, step: Step) -> None:
    if not fits:
        raise RecipeError(f"{step.where}: {step.title}: no Dockerfile says this")
