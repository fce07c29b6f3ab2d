"""Place the tree of a commit below a folder.

Knows nothing of git: what is pinned is the listing of a tree whose bodies are in the store. Nothing of the
tree below matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reprobuild import tree
from reprobuild.build.place.placement import Placement
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.steps import Git
from reprobuild.errors import CheckFailedError, RecipeError
from reprobuild.store.store import Store
from reprobuild.store.transaction import Transaction


def facts(step: Git, below: tree.Tree, store: Store) -> dict[str, Json]:
    """Give what placing depends on of the tree below: nothing."""
    return {}


def place(
    step: Git, pins: Sequence[Pin], facts: Mapping[str, Json], store: Store, group: Transaction
) -> Placement:
    """Give the entries of the commit's files. Raises CheckFailedError for a pin that is no tree."""
    (pin,) = pins
    try:
        found = tree.Tree.parse(store.blobs.read(pin.sha256))
    except tree.TreeError as error:
        raise CheckFailedError(f"{step.where}: {pin.name}: {error.message}") from None
    if not len(found):
        raise RecipeError(f"{step.where}: {step.title} has no files")
    to = step.to.strip("/")
    folder = (tree.directory(to),) if to else ()
    placed = (entry._replace(path=f"{to}/{entry.path}") for entry in found) if to else found
    return Placement((*folder, *placed))
