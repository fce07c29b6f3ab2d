"""Realisations: records that this key gave that result, one small JSON file each, never a database.

Knows the fields that point into the store, so that ``gc`` and ``audit`` can follow them; what
else a record says is its maker's business.
"""

from __future__ import annotations

import json
import os
import re

from reprobuild.digest import Digest
from reprobuild.store.disk import trouble

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from reprobuild.store.store import Store

SUFFIX = ".json"
SAYING = ("diff", "packed")
"""Kinds of records that say something of a layer, and need nothing of it."""
_FILE_LINE = re.compile(rb"^f\t[0-7]+\t\d+:\d+\t(\d+)\t([0-9a-f]{64})\t", re.MULTILINE)


class Realisations:
    """The records of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.folder = os.path.join(store.path, "realisations")

    def locate(self, key: Digest) -> str:
        """Give where the record of a key is, or would be."""
        return f"{self.folder}/{key.hex}{SUFFIX}"

    def get(self, key: Digest) -> dict[str, Any] | None:
        """Give the record of a key; None where there is none, or none that can be read."""
        try:
            with open(self.locate(key), "rb", buffering=0) as file:
                record = json.loads(file.read())
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise trouble(error, f"reading {self.locate(key)}") from error
        return record if isinstance(record, dict) else None

    def put(self, key: Digest, record: Mapping[str, Any]) -> None:
        """Write a record, whole and synced, whose blobs are in the store already."""
        with self._store.transaction() as group:
            group.record(key, record)

    def remove(self, key: Digest) -> None:
        """Forget a record, if it is there."""
        try:
            os.unlink(self.locate(key))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise trouble(error, f"removing {self.locate(key)}") from error

    def __iter__(self) -> Iterator[Digest]:
        """Give the keys of all records, in no order."""
        for name in os.listdir(self.folder):
            try:
                yield Digest(name.removesuffix(SUFFIX))
            except ValueError:
                continue


def needed_listings(record: Mapping[str, Any]) -> set[Digest]:
    """Give the digests of the tree and layer listings that a record needs."""
    if record.get("kind") in SAYING:
        return set()
    found = {record.get("listing"), record.get("layer"), record.get("tree")}
    layers = record.get("layers")
    if isinstance(layers, list):
        found.update(layer.get("layer") for layer in layers if isinstance(layer, dict))
    return set(_digests(found))


def needed_blobs(record: Mapping[str, Any]) -> set[Digest]:
    """Give the digests that a record needs directly, listings among them."""
    named = record.get("blobs")
    found = set(_digests(named if isinstance(named, list) else ()))
    found.update(_digests((record.get("config"),)))
    return found | needed_listings(record)


def needed_records(record: Mapping[str, Any]) -> set[Digest]:
    """Give the keys of the records that a record says it was made with (``records``)."""
    named = record.get("records")
    return set(_digests(named if isinstance(named, list) else ()))


def files_of_listing(listing: bytes) -> Iterator[tuple[str, int]]:
    """Give hex digits and size of the body of each file of a tree's or layer's listing."""
    for match in _FILE_LINE.finditer(listing):
        yield match[2].decode(), int(match[1])


def bodies_of_listing(listing: bytes) -> dict[str, int]:
    """Give the bodies that a listing names: hex digits → size in bytes."""
    return dict(files_of_listing(listing))


def _digests(found: Any) -> Iterator[Digest]:
    for text in found:
        if isinstance(text, str):
            try:
                yield Digest.parse(text)
            except ValueError:
                continue
