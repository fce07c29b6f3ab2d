"""Layers that were made before, each by a key of everything that decides it (DESIGN section 5).

Knows nothing of what makes a key, nor of images.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from reprobuild.derivation.predictors import Json
from reprobuild.digest import Digest
from reprobuild.store.store import Store
from reprobuild.store.transaction import Transaction
from reprobuild.tree import Entry, Layer


def recall_layer(store: Store, key: Digest) -> Layer | None:
    """Give the layer that was remembered, if everything of it is still in the store."""
    record = store.realisations.get(key)
    if record is None:
        return None
    listing = Digest.parse(record["layer"])
    if not store.blobs.has(listing):
        return None
    layer = Layer.parse(store.blobs.read(listing))
    return layer if has_bodies(store, layer.entries) else None


def remember_layer(
    group: Transaction, key: Digest, kind: Literal["placement", "run"], layer: Layer, **more: Json
) -> None:
    """Remember a layer whose bodies are in the group or in the store; ``more``: what else its record says."""
    listing = group.add_bytes(layer.listing)
    group.record(key, {"kind": kind, "layer": str(listing), "blobs": [str(listing)], **more})


def has_bodies(store: Store, entries: Iterable[Entry]) -> bool:
    """Tell whether the store has the contents of every file among entries."""
    has = store.blobs.has
    return all(entry.digest is None or has(entry.digest) for entry in entries)
