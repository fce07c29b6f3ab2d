"""Check a recipe that came as JSON: it is one that a recipe file can say.

The functions that recipes call check what they are given; a stranger's code can go around them and
write JSON of its own. So all of it is made again by these functions here, and must come out equal.
Knows nothing of where the JSON came from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from reprobuild.canonical import canonical
from reprobuild.derivation import predictors, words
from reprobuild.derivation.codec import recipe_from_json, recipe_to_json
from reprobuild.derivation.dockerfile.verify import (
    DOCKERFILE_ALONE,
    checked_copy,
    checked_run,
    checked_setting,
    checked_stage,
)
from reprobuild.derivation.lockfile import pin_from_json
from reprobuild.derivation.predictor_codec import predictors_from_json, predictors_to_json
from reprobuild.derivation.predictors import Json, Predictor
from reprobuild.derivation.recipe import Recipe, check_names, image
from reprobuild.derivation.recipe import recipe as marked
from reprobuild.derivation.steps import Fetched, Step
from reprobuild.derivation.where import Where
from reprobuild.errors import RecipeError
from reprobuild.value import Value, fields, replace

_WRONG = (RecipeError, KeyError, TypeError, ValueError, AttributeError, AssertionError, RecursionError)
"""What comes of JSON that somebody made up."""


def recipe_from_stranger(value: Json, name: str) -> Recipe:
    """Read what ``recipe_to_json`` wrote of the recipe ``name``, or what somebody wrote in its place.

    Raises RecipeError for what no recipe file can say.
    """
    try:
        found = recipe_from_json(value)
        _check_recipe(found, name)
        canonical(recipe_to_json(found))
    except _WRONG as error:
        reason = error.message if isinstance(error, RecipeError) else f"{type(error).__name__}: {error}"
        raise RecipeError(f"{name}: recipe.py comes to what no recipe can say: {reason}") from error
    return found


def predictors_from_stranger(value: Json, what: str) -> dict[str, Predictor]:
    """Read what ``predictors_to_json`` wrote, or what somebody wrote in its place.

    ``what``: what errors call it. Raises RecipeError for what no recipe file can say.
    """
    try:
        found = predictors_from_json(value)
        check_names(found, Where("", 0))
        _check_predictors(found)
        for one in found.values():
            for exchange in one.exchanges:
                pin_from_json(exchange)
        _demand(canonical(predictors_to_json(found)) == canonical(value), "fields of predictors")
    except _WRONG as error:
        reason = error.message if isinstance(error, RecipeError) else f"{type(error).__name__}: {error}"
        raise RecipeError(f"{what}: its predictors are none that a recipe can say: {reason}") from error
    return found


def _check_predictors(found: Mapping[str, Predictor]) -> None:
    for key, one in found.items():
        _check_types(one)
        # Exchanges are the lock's alone: a recipe has none.
        _demand(_remade(one) == replace(one, exchanges=()), f"the predictor {key!r}")


def _check_recipe(found: Recipe, name: str) -> None:
    _check_types(found)
    marked(version=found.version, publish=found.publish)
    _demand(found.name == name, f"the name {found.name!r}")
    _demand(set(found.chosen) == set(found.options), "values of other options than it has")
    for key, option in found.options.items():
        default = type(option.default).__name__
        _demand(key.isidentifier() and default == option.type in _OPTION_TYPES, f"the option {key!r}")
        _demand(type(found.chosen[key]).__name__ == option.type, f"a value of the option {key!r}")
    world = found.image
    _check_types(world)
    for step in world.steps:
        _check_step(step)
    _demand(not any(one.exchanges for one in world.predictors.values()), "exchanges of a predictor")
    _check_predictors(world.predictors)
    again = image(*world.steps, env=world.env, workdir=world.workdir, predictors=world.predictors)
    _demand(again == world, "an image")


def _check_step(step: Step) -> None:
    _check_types(step)
    for source in getattr(step, "answers", {}).values():
        _check_step(source)
    _demand(_MAKERS[step.kind](step) == step, f"a step {step.kind}(…)")


def _remade(one: Predictor) -> Predictor:
    for example in one.examples:
        _check_types(example)
        _demand(all(isinstance(part, Mapping) for pair in example.items for part in pair), "an example")
    given = fields(one)
    del given["exchanges"]
    given["parameters"] = {key: parameter.default for key, parameter in one.parameters.items()}
    return predictors.predictor(given.pop("command"), **given)


def _demand(fits: bool, what: str) -> None:
    if not fits:
        raise RecipeError(what)


def _check_types(value: Any) -> None:
    for name, kind in _kinds(value).items():
        fits = _FITS.get("Literal" if kind.startswith("Literal") else kind)
        found = getattr(value, name)
        _demand(fits is None or fits(found), f"{name}={found!r}")


def _kinds(value: Any) -> dict[str, str]:
    """Give the annotations of the fields of a value or a dataclass, as they are written."""
    if isinstance(value, Value):
        return {name: type(value).__annotations__[name] for name in fields(value)}
    return {field.name: str(field.type) for field in dataclasses.fields(value)}


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_texts(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


_OPTION_TYPES = ("str", "int", "float", "bool")
_FITS: Mapping[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "int": _is_whole,
    "float": lambda value: isinstance(value, float) or _is_whole(value),
    "int | None": lambda value: value is None or _is_whole(value),
    "tuple[str, ...]": lambda value: isinstance(value, tuple) and _are_texts(value),
    "tuple[int, ...]": lambda value: isinstance(value, tuple) and all(map(_is_whole, value)),
    "Mapping[str, Fetched]": lambda value: (
        isinstance(value, Mapping) and all(isinstance(source, Fetched) for source in value.values())
    ),
    "Mapping[str, str]": lambda value: isinstance(value, Mapping) and _are_texts(value.values()),
    "Mapping[str, Json]": lambda value: isinstance(value, Mapping),
    "Literal": lambda value: isinstance(value, str),
}
"""By the text of a field's annotation; fields of our own types are checked by being made again."""

_MAKERS: Mapping[str, Callable[[Any], Step]] = {
    "files": lambda one: words.files(one.source, to=one.to, mode=one.mode, uid=one.uid, gid=one.gid),
    "url": lambda one: words.url(one.url, **_keywords(one, "url")),
    "apt": lambda one: words.apt(one.suite, *one.packages, **_keywords(one, "suite", "packages")),
    "wheels": lambda one: words.wheels(*one.requirements, **_keywords(one, "requirements")),
    "run": lambda one: checked_run(
        one, words.run(one.command, **_keywords(one, "command", *DOCKERFILE_ALONE))
    ),
    "oci": lambda one: words.oci(one.reference, **_keywords(one, "reference")),
    "git": lambda one: words.git(one.url, one.commit, **_keywords(one, "url", "commit")),
    "gdrive": lambda one: words.gdrive(one.file_id, **_keywords(one, "file_id")),
    "hub": lambda one: words.hub(
        one.repository, kind=one.repository_kind, **_keywords(one, "repository", "repository_kind")
    ),
    "setting": checked_setting,
    "copy": checked_copy,
    "stage": checked_stage,
}


def _keywords(step: Step, *others: str) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(step))
    return {name: getattr(step, name) for name in names if name not in ("where", *others)}
