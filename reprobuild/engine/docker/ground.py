"""A tree as a daemon has it: the layers of a stack as an image, with folders that must be there on top.

Owners are all 0:0 there, since a command inside may not pass by what belongs to another. Knows nothing of
daemons.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import BinaryIO

from reprobuild.canonical import canonical_digest
from reprobuild.digest import Digest
from reprobuild.engine import world
from reprobuild.images.tar import layer_chunks
from reprobuild.store.stack import Found
from reprobuild.tree import Entry, Layer, Tree, TreeError, apply, directory

MOST_LAYERS = 100
"""Daemons refuse images of more than 127, and ours comes on top; the lowest of more are merged."""

FORMAT = 1
"""Of these images: another number, and none that a daemon has is taken for one."""

ReadListing = Callable[[Digest], bytes]


class Ground:
    """A stack of layers that commands can run on in a daemon."""

    def __init__(
        self, layers: Sequence[Layer | Digest], read: ReadListing, cleared: Sequence[str] = ()
    ) -> None:
        """``layers``: lowest first; ``read`` gives the listing of one that is named by its digest.

        ``cleared``: paths of the tree (no leading slash) that are not there, whatever the layers say.
        """
        self._given = tuple(layers)
        self._read = read
        self._cleared = tuple(sorted(cleared))

    @property
    def listings(self) -> tuple[Digest, ...]:
        """The listings of the layers as the store has them, lowest first."""
        return tuple(one.digest if isinstance(one, Layer) else one for one in self._given)

    @cached_property
    def key(self) -> Digest:
        """By what the tree is found again: of the listings of its layers."""
        named = [str(one) for one in self.listings]
        return canonical_digest({"format": FORMAT, "layers": named, "cleared": list(self._cleared)})

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the image, lowest first, without the top; owners are 0:0."""
        whole = [one if isinstance(one, Layer) else Layer.parse(self._read(one)) for one in self._given]
        owned = [_owned(layer) for layer in whole if layer]
        if len(owned) > MOST_LAYERS:
            lowest = Tree()
            for layer in owned[: len(owned) - MOST_LAYERS + 1]:
                lowest = apply(lowest, layer)
            owned = [Layer(lowest), *owned[len(owned) - MOST_LAYERS + 1 :]]
        if self._cleared:
            tree = Tree()
            for layer in owned:
                tree = apply(tree, layer)
            owned.append(_without(tree, self._cleared))
        return tuple(layer for layer in owned if layer)

    @cached_property
    def tree(self) -> Tree:
        """What the layers make."""
        tree = Tree()
        for layer in self.layers:
            tree = apply(tree, layer)
        return tree

    def without(self, cleared: Sequence[str]) -> Ground:
        """Give the same, without what is at some paths."""
        return Ground(self._given, self._read, cleared)

    def look(self, path: str) -> Found | None:
        """Follow a path to where it leads: as ``stack.find`` does with folders."""
        try:
            literal = self.tree.resolve(path)
        except TreeError:
            return None
        if not literal:
            return Found("/", stat.S_IFDIR | 0o755, "")
        entry = self.tree.get(literal)
        if entry is not None:
            return Found(f"/{literal}", _KINDS[entry.kind] | entry.mode, "")
        above = literal.rpartition("/")[0]
        while above:
            found = self.tree.get(above)
            if found is not None:
                if found.kind != "d":
                    return None
                break
            above = above.rpartition("/")[0]
        return Found(f"/{literal}", None, "")

    @cached_property
    def top(self) -> Top:
        """What lies on top of the tree."""
        return Top(self.tree)


class Top:
    """The folders that are there even where a tree lacks them."""

    def __init__(self, tree: Tree) -> None:
        entries = [directory(path, mode) for path, mode in world.FOLDERS.items() if tree.get(path) is None]
        if tree.get("etc") is None:
            entries.append(directory("etc"))
        self.folders = frozenset(entry.path for entry in entries)
        """Those that the tree lacks."""
        self._layer = Layer(entries)
        self.is_needed = bool(entries)
        """Whether the tree lacks a folder."""

    def chunks(self) -> Iterator[bytes]:
        """Give the stream of the layer of folders: the files come later, since Docker hides an image's."""
        return layer_chunks(self._layer, _no_body)

    @cached_property
    def measured(self) -> tuple[Digest, int]:
        """The digest and the size in bytes of its tar stream."""
        whole = b"".join(self.chunks())
        return Digest(hashlib.sha256(whole).hexdigest()), len(whole)


def _no_body(digest: Digest) -> BinaryIO:
    raise AssertionError("a layer of folders has no bodies")


_KINDS: Mapping[str, int] = {"d": stat.S_IFDIR, "f": stat.S_IFREG, "l": stat.S_IFLNK}


def _owned(layer: Layer) -> Layer:
    if not any(entry.uid or entry.gid for entry in layer.entries):
        return layer
    return Layer([entry._replace(uid=0, gid=0) for entry in layer.entries], layer.whiteouts)


def _without(tree: Tree, paths: Sequence[str]) -> Layer:
    """Give the layer that takes paths out of a tree, those that are there."""
    gone = [path for path in paths if tree.get(path) is not None]
    lowest = [path for path in gone if not any(path.startswith(other + "/") for other in gone)]
    holding: dict[str, Entry] = {}
    for path in lowest:
        while path := path.rpartition("/")[0]:
            entry = tree.get(path)
            assert entry is not None
            holding[path] = entry
    return Layer(holding.values(), lowest)
