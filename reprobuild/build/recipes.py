"""Where recipes are: folders by name.

Knows nothing of what is in them. Light on purpose: a ``realize`` with nothing to do comes by here.
"""

from __future__ import annotations

import os

from reprobuild.errors import UsageError

RECIPE_FILE = "recipe.py"


def find(folders: tuple[str, ...], name: str) -> str:
    """Give the folder of a recipe by its name; the first of ``folders`` that has it wins.

    Raises UsageError, with the nearest name that there is.
    """
    if is_name(name):
        for folder in folders:
            path = os.path.join(folder, name)
            if os.path.isfile(os.path.join(path, RECIPE_FILE)):
                return path
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
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are: {', '.join(known)}" if known else "name a folder of recipes: --recipes DIR"
