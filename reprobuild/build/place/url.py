"""Place one fetched file, or what is in it if it is an archive; from Google Drive as from anywhere.

Knows nothing of where it came from; nothing of the tree below matters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reprobuild import tree
from reprobuild.build.place.placement import Placement
from reprobuild.build.unpack import unpack
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.steps import FetchedFile
from reprobuild.errors import RecipeError
from reprobuild.images.archive import naming
from reprobuild.store.store import Store
from reprobuild.store.transaction import Transaction


def facts(step: FetchedFile, below: tree.Tree, store: Store) -> dict[str, Json]:
    """Give what placing depends on of the tree below: nothing."""
    return {}


def place(
    step: FetchedFile, pins: Sequence[Pin], facts: Mapping[str, Json], store: Store, group: Transaction
) -> Placement:
    """Give the entries of the fetched file. Raises ArchiveError, naming step, file and member."""
    (pin,) = pins
    if step.unpack:
        with naming(f"{step.where}: {pin.name}"), store.blobs.open(pin.sha256) as file:
            return Placement(unpack(file, group, to=step.to, strip=step.strip))
    path = step.to.strip("/")
    if step.to.endswith("/"):
        path = f"{path}/{pin.name}".lstrip("/")
    if not path:
        raise RecipeError(f"{step.where}: {step.title} cannot replace the root folder", "name a file in to=")
    mode = 0o644 if step.mode is None else step.mode
    return Placement((tree.file(path, pin.sha256, pin.size, mode),))
