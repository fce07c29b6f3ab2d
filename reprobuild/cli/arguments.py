"""Arguments that several verbs understand: names of recipes, ``--set``, images by name.

Knows nothing of click, nor of what a verb does with them.
"""

from __future__ import annotations

import json

from reprobuild.errors import UnpinnedError, UsageError
from reprobuild.events import Note
from reprobuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from reprobuild.build.image import Realised
    from reprobuild.build.project import Project


def pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    """Take ``NAME=VALUE`` texts apart. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            needed, example = ("FIELD=NAME", "article") if flag == "--map" else ("NAME=VALUE", "1")
            shown = name or ("text" if flag == "--map" else "name")
            raise UsageError(f"{flag} {text}: {needed} is needed", f"for example: {flag} {shown}={example}")
        if name in found:
            raise UsageError(
                f"{flag} {name} is there twice", f"leave {flag} {name}={found[name]} out, or {flag} {text}"
            )
        found[name] = value
    return found


def chosen_names(
    project: Project, names: Sequence[str], *, everything: bool, locked: bool = False
) -> list[str]:
    """Give the recipes that were asked for, each once; with ``locked``, all are those that have a lock.

    Raises UsageError for none.
    """
    from reprobuild.build import recipes

    if everything:
        if names:
            raise UsageError("--all and names of recipes exclude each other", "leave one of them out")
        names = recipes.names(project.settings.recipes)
        if locked:
            names, left = _by_lock(project, names)
            if left:
                project.tell(Note(f"not locked, so left out: {', '.join(left)}"))
    if not names:
        known = recipes.names(project.settings.recipes)
        raise UsageError("which recipe?", recipes.there_are(known) if known else "--recipes DIR")
    return list(dict.fromkeys(names))


def _by_lock(project: Project, names: Sequence[str]) -> tuple[list[str], list[str]]:
    from reprobuild.derivation.lockfile import LOCK_FILE

    has_lock = {name: (project.recipe_folder(name) / LOCK_FILE).is_file() for name in names}
    return [name for name in names if has_lock[name]], [name for name in names if not has_lock[name]]


def image_of(project: Project, name: str, sets: Sequence[str], *, trust: bool) -> Realised:
    """Give the image that a text names: a recipe's, built first if need be, or one of the store by
    its tag or the beginning of its image ID."""
    if (found := _remembered(project, name, sets)) is not None:
        return found
    from reprobuild.build.find import find_image, is_reference
    from reprobuild.build.realize import realize

    if not is_reference(project, name):
        return realize(project, name, pairs(sets, "--set"), trust=trust)
    if sets:
        raise UsageError(f"{name} is a built image: it has no options to set", "name its recipe instead")
    return find_image(project.store, name)


def demand_lock(project: Project, name: str) -> None:
    """Raise UnpinnedError for a recipe that is not locked: that comes before all that could be said of it."""
    from reprobuild.build.derive import lock_of
    from reprobuild.build.find import is_reference

    if not is_reference(project, name) and lock_of(project.recipe_folder(name), name) is None:
        raise UnpinnedError(f"{name} is not locked", f"reprobuild lock {name}")


def _remembered(project: Project, name: str, sets: Sequence[str]) -> Realised | None:
    """Give the image that ``realize`` would find, where it was realized in this very state before.

    Spares a prediction what evaluating and deriving need.
    """
    from reprobuild.build import memo, recipes
    from reprobuild.build.image import recall_image
    from reprobuild.derivation.folder import folder_digests
    from reprobuild.digest import Digest

    settings = project.settings
    try:
        folder = recipes.find(settings.recipes, name)
        key = memo.memo_key(name, folder_digests(folder), sets, settings.engine)
    except (UsageError, OSError):
        return None
    answer = memo.recall(settings.store, key)
    if answer is None:
        return None
    said = json.loads(answer.json)
    found = recall_image(project.store, Digest.parse(said["input_hash"]))
    if found is None:
        return None
    return replace(found, **{field: said[field] for field in ("recipe", "version", "tag")})
