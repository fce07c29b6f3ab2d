"""What a recipe function returns, and the decorator that marks one.

Knows nothing of how recipes are found or evaluated, nor of locks.
"""

from __future__ import annotations

import inspect
import itertools
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec

from reprobuild.derivation.arguments import checked_environment, path_inside
from reprobuild.derivation.dockerfile.verify import check_stages
from reprobuild.derivation.predictors import Json, Parameter, Predictor
from reprobuild.derivation.steps import Gdrive, Oci, Step, Url
from reprobuild.derivation.typed import typed
from reprobuild.derivation.where import Where
from reprobuild.derivation.written import Stage
from reprobuild.errors import RecipeError

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Image:
    """What a recipe asks for: steps in order, and the world that its commands see."""

    steps: tuple[Step, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    """Empty: the base image's, or ``/``."""
    predictors: Mapping[str, Predictor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """An evaluated recipe: data alone."""

    name: str
    version: str
    summary: str
    """The first line of the recipe file's docstring."""
    publish: bool
    options: Mapping[str, Parameter]
    """What the recipe function can be called with: name → type and default."""
    chosen: Mapping[str, Json]
    """What it was called with: every option."""
    image: Image

    @property
    def sets(self) -> str:
        """What chooses these options on a command line, for hints: `` --set big=True``, or ``""``."""
        chosen = self.chosen.items()
        others = [(name, value) for name, value in chosen if value != self.options[name].default]
        return "".join(f" --set {shlex.quote(f'{name}={value}')}" for name, value in others)


@typed
def image(
    *steps: Step | Sequence[Step],
    env: Mapping[str, str] | None = None,
    workdir: str = "",
    predictors: Mapping[str, Predictor] | None = None,
) -> Image:
    """Describe an image: steps in the order in which they are applied.

    ``env``: variables of every command; ``workdir``: an absolute path in the image, by default that of
    the base image, else ``/``;
    ``predictors``: name → predictor, ``default`` being what ``NAME`` alone means. Raises RecipeError.
    """
    where = Where.caller()
    flat = tuple(_flat(steps, where))
    for step in flat:
        if isinstance(step, Url | Gdrive) and not step.to:
            raise RecipeError(f"{step.where}: {step.title}: it does not say where it goes", 'add to="/path"')
    if not flat:
        raise RecipeError(f"{where}: image() has no step")
    for before, step in itertools.pairwise(flat):
        begins = isinstance(before, Stage) and not before.begin
        if isinstance(step, Oci) and not begins:
            raise RecipeError(
                f"{step.where}: {step.title}: a base image is what everything else is put on",
                "make oci(…) the first step of image(…)",
            )
    check_stages(flat)
    check_names(predictors or {}, where)
    folder = path_inside(workdir, where) if workdir else ""
    return Image(flat, checked_environment(env, where), folder, dict(predictors or {}))


def check_names(predictors: Mapping[str, Predictor], where: Where) -> None:
    """Raise RecipeError for a name that no predictor can have."""
    for name in predictors:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise RecipeError(
                f"{where}: {name!r} is no name of a predictor: lower-case letters, digits, - and _"
            )


def _flat(steps: Sequence[Step | Sequence[Step]], where: Where) -> Iterator[Step]:
    """Give the steps one by one; those of a Dockerfile come as one argument, which is the first."""
    for index, step in enumerate(steps):
        if isinstance(step, Step):
            yield step
        elif isinstance(step, tuple) and all(isinstance(one, Step) for one in step):
            if index:
                raise RecipeError(
                    f"{where}: image(): a Dockerfile begins an image", "make dockerfile(…) the first step"
                )
            yield from step
        else:
            raise RecipeError(
                f"{where}: image(): {step!r} is no step", "steps are apt(…), files(…), run(…), …"
            )


@dataclass(frozen=True, slots=True)
class RecipeFunction:
    """A function marked as a recipe: what evaluation looks for in a recipe file."""

    function: Callable[..., Image]
    version: str
    publish: bool

    def __call__(self, *args: Any, **options: Any) -> Image:
        return self.function(*args, **options)

    @property
    def name(self) -> str:
        """The recipe's name: that of the function, which is that of its folder."""
        return self.function.__name__

    @property
    def options(self) -> dict[str, Parameter]:
        """The function's parameters with types and defaults. Raises RecipeError without a default."""
        found = {}
        for name, parameter in inspect.signature(self.function).parameters.items():
            default = parameter.default
            if not isinstance(default, str | int | float | bool):
                raise RecipeError(
                    f"the option {name} of {self.name} needs a default that is str, int, float or bool"
                )
            found[name] = Parameter(type(default).__name__, default)
        return found


def is_version(text: object) -> bool:
    """Tell whether something can be a recipe's version: it becomes a part of tags."""
    return isinstance(text, str) and re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,99}", text) is not None


@typed
def recipe(*, version: str, publish: bool = False) -> Callable[[Callable[P, Image]], RecipeFunction]:
    """Mark a function as a recipe; its parameters are the recipe's options.

    ``version``: a tag's first part (letters, digits, ``.``, ``_``, ``-``; at most 100);
    ``publish``: whether ``publish --auto`` may publish it. Raises RecipeError.
    """
    if not is_version(version):
        raise RecipeError(
            f"{Where.caller()}: version={version!r}: letters, digits, '.', '_' and '-' are needed"
        )
    return lambda function: RecipeFunction(function, version, publish)
