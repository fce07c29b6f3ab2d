"""Recipes and steps to JSON values and back.

Knows nothing of files. The JSON is what the evaluation's child sends, and what is remembered of an
evaluation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from reprobuild.derivation.predictor_codec import predictors_from_json, predictors_to_json
from reprobuild.derivation.predictors import Json, Parameter
from reprobuild.derivation.recipe import Image, Recipe
from reprobuild.derivation.steps import Apt, Files, Gdrive, Git, Hub, Oci, Run, Step, Url, Wheels
from reprobuild.derivation.where import Where
from reprobuild.derivation.written import Copy, Setting, Stage
from reprobuild.errors import RecipeError

STEP_KINDS: Mapping[str, type[Step]] = MappingProxyType(
    {step.kind: step for step in (Files, Url, Apt, Wheels, Run, Oci, Git, Gdrive, Hub, Setting, Copy, Stage)}
)


def recipe_to_json(recipe: Recipe) -> dict[str, Json]:
    """Write a recipe as a JSON value."""
    return {
        "name": recipe.name,
        "version": recipe.version,
        "summary": recipe.summary,
        "publish": recipe.publish,
        "options": {name: [option.type, option.default] for name, option in recipe.options.items()},
        "chosen": dict(recipe.chosen),
        "steps": [step_to_json(step) for step in recipe.image.steps],
        "env": dict(recipe.image.env),
        "workdir": recipe.image.workdir,
        "predictors": predictors_to_json(recipe.image.predictors),
    }


def recipe_from_json(value: Mapping[str, Json]) -> Recipe:
    """Read what ``recipe_to_json`` wrote. Raises RecipeError where it is something else."""
    try:
        return Recipe(
            name=value["name"],
            version=value["version"],
            summary=value["summary"],
            publish=value["publish"],
            options={name: Parameter(*option) for name, option in value["options"].items()},
            chosen=value["chosen"],
            image=Image(
                steps=tuple(step_from_json(step) for step in value["steps"]),
                env=value["env"],
                workdir=value["workdir"],
                predictors=predictors_from_json(value["predictors"]),
            ),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RecipeError(f"not a recipe as JSON: {type(error).__name__}: {error}") from error


def step_to_json(step: Step) -> dict[str, Json]:
    """Write a step as a JSON value: its kind and every field."""
    fields = {field.name: getattr(step, field.name) for field in dataclasses.fields(step)}
    where = fields.pop("where")
    plain = {
        name: list(value)
        if isinstance(value, tuple)
        else {key: step_to_json(item) if isinstance(item, Step) else item for key, item in value.items()}
        if isinstance(value, Mapping)
        else value
        for name, value in fields.items()
    }
    return {"kind": step.kind, "where": [where.file, where.line], **plain}


def step_from_json(value: Mapping[str, Json]) -> Step:
    """Read what ``step_to_json`` wrote."""
    fields = dict(value)
    made = STEP_KINDS[fields.pop("kind")]
    where = Where(*fields.pop("where"))
    plain: dict[str, Any] = {
        name: tuple(item) if isinstance(item, list) else item for name, item in fields.items()
    }
    if "answers" in plain:
        plain["answers"] = {url: step_from_json(source) for url, source in plain["answers"].items()}
    return made(where=where, **plain)
