"""Takes what a command changed into the store, and brings it to normal form.

Knows nothing of engines: they give changes one by one, whatever they are made of.
"""

from __future__ import annotations

from typing import BinaryIO

from reprobuild.digest import Digest
from reprobuild.oci.changes import Changed, RawChange
from reprobuild.oci.normal_form import NormalForm, normal_form
from reprobuild.store.store import Store
from reprobuild.store.transaction import Transaction
from reprobuild.tree import Tree


class StoreCapture:
    """A Capture (``engine.protocol``) whose bodies go into a group of the store."""

    def __init__(self, store: Store, group: Transaction) -> None:
        self._store = store
        self._group = group
        self._changes: list[Changed] = []
        self._rewritable: dict[Digest, bytes] = {}

    def add(self, change: RawChange, body: BinaryIO | None) -> None:
        """Take one change; the body is read to its end."""
        if body is None:
            self._changes.append(Changed(change))
            return
        if change.path.endswith((".pyc", ".pyo")):
            # Normal form reads byte code again, before the group is in the store.
            data = body.read()
            digest, size = self._group.add_bytes(data), len(data)
            self._rewritable[digest] = data
        else:
            digest, size = self._group.add_stream(body)
        self._changes.append(Changed(change._replace(size=size), digest))

    def normal_form(self, lower: Tree, *, owners: bool) -> NormalForm:
        """Give what the command counts as having left on the tree ``lower``."""
        return normal_form(self._changes, lower, read=self._read, add=self._group.add_bytes, owners=owners)

    def _read(self, digest: Digest) -> bytes:
        found = self._rewritable.get(digest)
        return self._store.blobs.read(digest) if found is None else found
