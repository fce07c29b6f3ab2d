"""A tree and what a command changed in it, told as an engine tells it."""

from __future__ import annotations

from collections.abc import Iterable

from reprobuild.digest import Digest
from reprobuild.images.changes import Changed, RawChange, RawKind
from reprobuild.images.normal_form import NormalForm, normal_form
from reprobuild.tree import Entry, Tree, difference, directory, file

NOW = 1_750_000_000


class World:
    """A tree below, bodies by digest, and the changes of a command."""

    def __init__(self, *lower: Entry | tuple[str, bytes]) -> None:
        self.bodies: dict[Digest, bytes] = {}
        entries: dict[str, Entry] = {}
        for item in lower:
            entry = item if isinstance(item, Entry) else self.file(*item)
            path = entry.path
            entries[path] = entry
            while path := path.rpartition("/")[0]:
                entries.setdefault(path, directory(path))
        self.lower = Tree(entries.values())
        self.changes: list[Changed] = []

    def file(self, path: str, body: bytes, mode: int = 0o644) -> Entry:
        return file(path, self.add(body), len(body), mode)

    def add(self, body: bytes) -> Digest:
        digest = Digest.of(body)
        self.bodies[digest] = body
        return digest

    def write(
        self,
        path: str,
        body: bytes,
        mtime: int = NOW,
        *,
        mode: int = 0o644,
        uid: int = 0,
        capability: bytes = b"",
    ) -> World:
        change = RawChange(path, "f", mode, uid, mtime=mtime, size=len(body), capability=capability)
        self.changes.append(Changed(change, self.add(body)))
        return self

    def change(
        self, path: str, kind: RawKind, mode: int = 0o755, *, uid: int = 0, gid: int = 0, target: str = ""
    ) -> World:
        self.changes.append(Changed(RawChange(path, kind, mode, uid, gid, target=target)))
        return self

    def normal(self, owners: bool = False, mounted: Iterable[str] = ()) -> NormalForm:
        return normal_form(
            self.changes,
            self.lower,
            read=self.bodies.__getitem__,
            add=self.add,
            owners=owners,
            mounted=mounted,
        )

    def difference(self) -> tuple[list[str], list[str]]:
        """Entries and whiteouts of the layer that comes of it."""
        layer = difference(self.lower, self.normal().tree)
        return [entry.path for entry in layer.entries], list(layer.whiteouts)
