"""Read a Dockerfile and its ``.dockerignore`` from the folder that a recipe is evaluated in.

Knows nothing of what they say. Nothing else of the context is read while a recipe is evaluated.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path

from reprobuild.derivation.dockerfile.expansion import dockerfile_steps
from reprobuild.derivation.dockerfile.patterns import PatternError, ignore_patterns
from reprobuild.derivation.steps import Step
from reprobuild.derivation.where import Where
from reprobuild.errors import RecipeError


def read_dockerfile(
    path: str, args: Mapping[str, str], target: str, context: str | None, where: Where, folder: str = "."
) -> tuple[Step, ...]:
    """Give the steps of a Dockerfile; ``path`` and ``context`` are inside ``folder``. Raises RecipeError."""
    path = inside(path, where)
    context = inside(posixpath.dirname(path) if context is None else context, where)
    text = _text(Path(folder, path), where)
    if text is None:
        raise RecipeError(f"{where}: dockerfile({path!r}): there is no such file in the recipe's folder")
    ignore: tuple[str, ...] = ()
    for name in (f"{path}.dockerignore", posixpath.join(context, ".dockerignore")):
        said = _text(Path(folder, name), where)
        if said is not None:
            try:
                ignore = ignore_patterns(said)
            except PatternError as error:
                raise RecipeError(f"{where}: {name}: {error}") from None
            break
    return dockerfile_steps(text, path, args=args, target=target, context=context, ignore=ignore, where=where)


def inside(path: str, where: Where) -> str:
    """Give a path of the recipe's folder in its plain form. Raises RecipeError for one that leads outside."""
    found = posixpath.normpath(path) if path else "."
    if not isinstance(path, str) or found.startswith("/") or ".." in found.split("/") or "\0" in found:
        raise RecipeError(
            f"{where}: dockerfile(): {path!r} leads outside the recipe's folder",
            "copy the Dockerfile and what it copies into the recipe's folder",
        )
    return "" if found == "." else found


def _text(path: Path, where: Where) -> str | None:
    try:
        return path.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{where}: {path}: not UTF-8: {error}") from None
    except IsADirectoryError:
        name = path.name or "."
        raise RecipeError(f"{where}: {name} is a folder", "name the Dockerfile in it") from None
    except OSError as error:
        raise RecipeError(f"{where}: {path}: {error.strerror}") from None
