"""Run in the evaluation's child: import a recipe file, call its function, write the recipe as JSON.

Knows nothing of the sandbox around it; imports only the package's lowest floors, so that staging
them is enough. Started as ``main(folder, name, options as JSON, output file)``.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import reprobuild
from reprobuild.derivation.codec import recipe_to_json
from reprobuild.derivation.predictors import Json, Parameter
from reprobuild.derivation.recipe import Image, Recipe, RecipeFunction
from reprobuild.errors import RecipeError, ReprobuildError

RECIPE_FILE = "recipe.py"


def main(folder: str, name: str, options: str, output: str) -> None:
    """Evaluate and write ``{"recipe": …}``, or ``{"error": message, "hint": hint}``."""
    answer: dict[str, Json]
    try:
        answer = {"recipe": recipe_to_json(evaluate(Path(folder), name, json.loads(options)))}
    except ReprobuildError as error:
        answer = {"error": error.message, "hint": error.hint}
    Path(output).write_text(json.dumps(answer))


def evaluate(folder: Path, name: str, given: Mapping[str, Json]) -> Recipe:
    """Import ``recipe.py`` of a folder and call its recipe function with options.

    ``given``: option → value, or its text. Raises RecipeError, naming file and line.
    """
    path = folder / RECIPE_FILE
    try:
        module = _import(path)
    except ReprobuildError:
        raise
    except BaseException as error:
        raise _failure(path, error) from error
    function = _find(module, name)
    options = function.options
    chosen = {key: option.default for key, option in options.items()}
    for key, value in given.items():
        if key not in options:
            known = ", ".join(f"{key}={option.default}" for key, option in options.items()) or "none"
            raise RecipeError(f"the recipe {name} has no option {key}", f"options of {name}: {known}")
        chosen[key] = option_value(name, key, options[key], value)
    try:
        image = function(**chosen)
    except ReprobuildError:
        raise
    except BaseException as error:
        raise _failure(path, error) from error
    if not isinstance(image, Image):
        raise RecipeError(f"recipe.py: the recipe {name} returns no image", "end it with: return image(…)")
    summary = (module.__doc__ or "").strip().partition("\n")[0]
    return Recipe(
        name=name,
        version=function.version,
        summary=summary,
        publish=function.publish,
        options=options,
        chosen=chosen,
        image=image,
    )


def option_value(recipe: str, name: str, option: Parameter, value: Json) -> Json:
    """Give an option's value from a value of its type or its text. Raises RecipeError."""
    if isinstance(value, bool) and option.type != "bool":
        raise RecipeError(f"the option {name} of {recipe} is {option.type}, not {value!r}")
    if type(value).__name__ == option.type:
        return value
    if option.type == "float" and isinstance(value, int):
        return float(value)
    if isinstance(value, str):
        try:
            if option.type == "int":
                return int(value)
            if option.type == "float":
                return float(value)
            return {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}[
                value.lower()
            ]
        except (ValueError, KeyError):
            pass
    raise RecipeError(
        f"the option {name} of {recipe} is {option.type}, not {value!r}", f"its default is {option.default}"
    )


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipe", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["recipe"] = module
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module


def _find(module: ModuleType, name: str) -> RecipeFunction:
    found = [value for value in vars(module).values() if isinstance(value, RecipeFunction)]
    named = [function for function in found if function.name == name.replace("-", "_")]
    if len(named or found) != 1:
        problem = "no function marked with @recipe" if not found else "several functions marked with @recipe"
        raise RecipeError(
            f"recipe.py: {problem}", f"mark one: @recipe(version=…) above def {name.replace('-', '_')}():"
        )
    return (named or found)[0]


def _failure(path: Path, error: BaseException) -> RecipeError:
    """Say what a recipe's own exception was and on which line, without a traceback."""
    line = 0
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path):
            line = frame.lineno or 0
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line = error.lineno or 0
    said = error.msg if isinstance(error, SyntaxError | ImportError) else str(error)
    what = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return RecipeError(f"recipe.py:{line}: {what}" if line else f"recipe.py: {what}", _mend(error))


def _mend(error: BaseException) -> str:
    """Give the hint for an exception that beginners meet."""
    words = reprobuild.__all__
    if isinstance(error, OSError | KeyError):
        return "a recipe is evaluated without network, environment, and any file but its own folder"
    if isinstance(error, NameError) and error.name in words:
        return f"from reprobuild import {error.name}"
    if isinstance(error, ModuleNotFoundError):
        return "a recipe has Python's standard library; what its model needs are steps, such as wheels(…)"
    if isinstance(error, ImportError) and error.name == "reprobuild":
        return f"it has {', '.join(words)}"
    if isinstance(error, TypeError) and str(error).startswith("recipe()"):
        return 'a version is needed: @recipe(version="1.0")'
    return ""
