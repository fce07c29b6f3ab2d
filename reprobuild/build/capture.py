"""Takes what a command changed into the store, and brings it to normal form.

Knows nothing of engines: they give changes one by one, whatever they are made of.
"""

from __future__ import annotations

from typing import BinaryIO, cast

from reprobuild.build.authority import Authority, WithoutAuthority
from reprobuild.digest import Digest
from reprobuild.images.changes import Changed, RawChange
from reprobuild.images.normal_form import NormalForm, is_rewritten, normal_form
from reprobuild.store.transaction import Transaction
from reprobuild.tree import Tree

HELD_BYTES = 256 * 1024 * 1024
"""Of byte code and the like that waits in memory for its normal form, so that the store gets it once."""


class StoreCapture:
    """A Capture (``engine.protocol``) whose bodies go into a group of the store."""

    def __init__(self, group: Transaction, *, authority: bytes = b"", held_bytes: int = HELD_BYTES) -> None:
        """Keep bodies in ``group``; authority: the gateway's, as PEM, which is taken out of what comes."""
        self._group = group
        self._authority = Authority(authority) if authority else None
        self._changes: list[Changed] = []
        self._held: dict[Digest, bytes] = {}
        self._room = held_bytes

    def add(self, change: RawChange, body: BinaryIO | None) -> None:
        """Take one change; the body is read to its end."""
        if self._authority is not None and self._authority.is_ours(change):
            return
        if body is None:
            self._changes.append(Changed(change))
            return
        reader = None
        if self._authority is not None:
            reader = WithoutAuthority(body, self._authority, change.path)
            body = cast("BinaryIO", reader)
        if is_rewritten(change.path) and change.size <= self._room:
            data = body.read()
            digest, size = Digest.of(data), len(data)
            self._held[digest] = data
            self._room -= size
        else:
            digest, size = self._group.add_stream(body)
        if reader is not None and reader.was_cut and not size:
            return  # nothing but the authority was in it
        self._changes.append(Changed(change._replace(size=size), digest))

    def normal_form(self, lower: Tree, *, owners: bool) -> NormalForm:
        """Give what the command counts as having left on the tree ``lower``."""
        normal = normal_form(self._changes, lower, read=self._read, add=self._group.add_bytes, owners=owners)
        for entry in normal.tree:
            if entry.digest in self._held:
                self._group.add_bytes(self._held[entry.digest])
        return normal

    def _read(self, digest: Digest) -> bytes:
        found = self._held.get(digest)
        return self._group.read(digest) if found is None else found
