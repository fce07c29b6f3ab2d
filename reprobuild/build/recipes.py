"""Where recipes are: folders by name.

Knows nothing of what is in them. Light on purpose: a ``realize`` with nothing to do comes by here.
"""

from __future__ import annotations

import os

from reprobuild.errors import UsageError

RECIPE_FILE = "recipe.py"
SHOWN = 12
"""Names that a hint lists."""


def find(folders: tuple[str, ...], name: str) -> str:
    """Give the folder of a recipe by its name; the first of ``folders`` that has it wins.

    Raises UsageError, with the nearest name that there is.
    """
    if is_name(name):
        for folder in folders:
            path = os.path.join(folder, name)
            if os.path.isfile(os.path.join(path, RECIPE_FILE)):
                return path
    if name and not is_name(name.partition("/")[0]):
        raise UsageError(f"{name!r} is no name of a recipe: letters, digits, - and _", _advice(folders, name))
    raise UsageError(f"there is no recipe {name!r} in {_shown(folders)}", _advice(folders, name))


def is_name(name: str) -> bool:
    """Tell whether a text can be the name of a recipe: letters, digits, ``-`` and ``_``."""
    return name.isascii() and name.replace("-", "").replace("_", "").isalnum() and name[0] not in "-_"


def names(folders: tuple[str, ...]) -> list[str]:
    """Give the names of all recipes, sorted."""
    found: set[str] = set()
    for folder in folders:
        try:
            listed = os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        found.update(
            name
            for name in listed
            if is_name(name) and os.path.isfile(os.path.join(folder, name, RECIPE_FILE))
        )
    return sorted(found)


def _shown(folders: tuple[str, ...]) -> str:
    there = [folder for folder in folders if os.path.isdir(folder)]
    return " or ".join(there or folders[:1])


def _advice(folders: tuple[str, ...], name: str) -> str:
    import difflib

    known = names(folders)
    if name.partition("/")[0] in known:
        return f"did you mean {name.partition('/')[0]}? NAME/PREDICTOR is for predict alone"
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    if is_name(name) and os.path.isfile(os.path.join("recipes", name, RECIPE_FILE)):
        return "it is in ./recipes: add --recipes recipes, or make this a project: touch reprobuild.toml"
    return there_are(known) if known else "name a folder of recipes: --recipes DIR"


def there_are(known: list[str]) -> str:
    """Name the recipes that there are, but not hundreds."""
    more = f" and {len(known) - SHOWN} more: reprobuild list" if len(known) > SHOWN else ""
    return f"there are: {', '.join(known[:SHOWN])}{more}"
