"""Trees laid out as folders, for engines to run commands on: ``checkouts/<tree>/``.

A layer without removals is a tree of its own and gets its own folder, which all images with that
layer share; where a layer removes something, all below it is merged with it into one tree. An overlay
joins the stack. Knows nothing of engines. Disposable: what is missing is laid out again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.store.blobs import BLOB_MODE
from reprobuild.store.disk import remove, sync_all, trouble
from reprobuild.store.lay_out import is_unchanged, lay_out, linkable, restore
from reprobuild.store.locks import Lock, acquire
from reprobuild.store.scratch import Scratch
from reprobuild.tree import Entry, Layer, Tree, apply, escape, unescape
from reprobuild.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.store.stack import Found
    from reprobuild.store.store import Store

MOST_FOLDERS = 12
"""An overlay of about 60 folders with long paths fails (its options must fit one page)."""
MERGED_TOGETHER = 8
"""Where there are more, the lowest are merged in groups of so many, so that images that share
their lowest layers share the merged folders too."""

LINKS = ".links"
STACKS = "stacks"
_LAST_LINE = "end"


class Checkout(Value):
    """A tree laid out as a stack of folders, which an overlay joins; never written to."""

    lowers: tuple[Path, ...]
    """Topmost first."""

    def look(self, path: str) -> Found | None:
        """Follow a path of the tree to where it leads: as ``stack.find`` does."""
        from reprobuild.store.stack import find

        return find(self.lowers, path)


class Element(Value):
    """One folder of a stack: a tree, and the blobs that it must not link to since one below does."""

    tree: Tree
    copied: frozenset[Digest]

    @property
    def name(self) -> str:
        """The folder's name: the tree's digest, and where something must be copied, of what."""
        if not self.copied:
            return self.tree.digest.hex
        copied = "".join(sorted(digest.hex for digest in self.copied))
        return f"{self.tree.digest.hex}-{hashlib.sha256(copied.encode()).hexdigest()[:12]}"


class Checkouts:
    """The checkouts of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.folder = os.path.join(store.path, "checkouts")

    @contextmanager
    def lay_out(self, layers: Sequence[Layer | Digest]) -> Iterator[Checkout]:
        """Lay out what is missing of a stack of layers, lowest first, and keep it for a ``with`` block.

        A layer may be given by the digest of its listing: then it is read only if it is needed. One
        process does the work, others wait for it. Linked files are checked against their blobs'
        size, time and mode each time: a folder where one differs is made again.

        Raises MissingBlobError or CheckFailedError, naming the blob, where bytes are missing or
        damaged, and OutsideError where the disk refuses.
        """
        leases: list[Lock] = []
        try:
            names = self._lease_all(layers, leases)
            yield Checkout(tuple(Path(self.folder, name) for name in reversed(names)))
        finally:
            for lease in leases:
                lease.close()

    def stack_of(self, layers: Sequence[Digest]) -> list[str] | None:
        """Give the names of the folders that a stack of layers was laid out as; None if unknown."""
        return self.recall(_key(layers))

    def is_intact(self, name: str) -> bool:
        """Tell whether a folder is there and its links to blobs look untouched."""
        if not os.path.isdir(self._path(name)):
            return False
        try:
            return not any(self._changed_links(name))
        except (OSError, ValueError):
            return False

    def tree_of(self, name: str) -> Digest:
        """Give the digest of the listing of a folder, from its name; raises ValueError for another name."""
        return Digest(name[:64])

    def names(self) -> list[str]:
        """Give the names of all folders that are laid out."""
        return sorted(name for name in os.listdir(self.folder) if _is_name(name))

    def lease_path(self, name: str) -> str:
        """Give the lock file of a folder: shared while it is used, exclusive while it is made or removed."""
        return self._store.lock_path(f"checkout-{name}")

    def discard(self, name: str) -> None:
        """Remove a folder whose lease the caller holds exclusively, if it is there."""
        if not os.path.lexists(self._path(name)):
            return
        try:
            with Scratch(self._store.tmp, "trash", self._store.owner) as trash:
                os.rename(self._path(name), trash.make() + "/tree")
                remove(self._path(name) + LINKS)
                remove(trash.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise trouble(error, f"removing the checkout {name}") from error

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def _lease_all(self, layers: Sequence[Layer | Digest], leases: list[Lock]) -> list[str]:
        key = _key([layer.digest if isinstance(layer, Layer) else layer for layer in layers])
        names = self.recall(key)
        elements: dict[str, Element] | None = None
        if names is None:
            elements = self._plan(layers)
            names = list(elements)
            self._remember(key, names)
        for name in names:
            lease = self._lease(name)
            if lease is None:
                if elements is None:
                    elements = self._plan(layers)
                lease = self._make(elements[name])
            leases.append(lease)
        return names

    def _lease(self, name: str) -> Lock | None:
        """Take a folder into use if it is there and untouched."""
        lease = acquire(self.lease_path(name), shared=True)
        if self.is_intact(name):
            return lease
        lease.close()
        return None

    def _make(self, element: Element) -> Lock:
        name = element.name
        for _attempt in range(3):
            with acquire(self.lease_path(name)):
                if not self.is_intact(name):
                    self._check_blobs(name)
                    self.discard(name)
                    self._write(element)
            lease = self._lease(name)  # gc may have come between
            if lease is not None:
                return lease
        raise CheckFailedError(
            f"the checkout {name} changes while it is being made",
            "end what writes into the store's checkouts, then try again",
        )

    def _write(self, element: Element) -> None:
        store = self._store
        with store.transaction() as group:
            group.add_bytes(element.tree.listing)
        with Scratch(store.tmp, "checkout", store.owner) as scratch:
            draft = scratch.make() + "/tree"
            linked = lay_out(element.tree, draft, store.blobs, owner=store.owner, copied=element.copied)
            try:
                links = scratch.path + "/links"
                with open(links, "xb") as file:
                    file.writelines(_link_line(entry) for entry in linked)
                    if store.owner is not None:
                        os.fchown(file.fileno(), store.owner, store.owner)
                descriptor = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    sync_all(descriptor)
                finally:
                    os.close(descriptor)
                os.replace(links, self._path(element.name) + LINKS)
                os.rename(draft, self._path(element.name))
            except OSError as error:
                raise trouble(error, f"writing the checkout {element.name}") from error

    def _changed_links(self, name: str) -> Iterator[Digest]:
        """Give the digests of linked blobs whose link in a folder does not look as it was made."""
        root = os.open(self._path(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for path, size, digest in self.links(name):
                try:
                    found = os.stat(path, dir_fd=root, follow_symlinks=False)
                except OSError:
                    yield Digest(digest)
                    continue
                if not is_unchanged(found, size):
                    yield Digest(digest)
        finally:
            os.close(root)

    def links(self, name: str) -> list[tuple[str, int, str]]:
        """Read which files of a folder are links: path, size, hex digits of the blob."""
        with open(self._path(name) + LINKS, "rb", buffering=0) as file:
            rows = [line.split(b"\t") for line in file.read().splitlines()]
        return [(unescape(path), int(size), digest.decode()) for size, digest, path in rows]

    def _check_blobs(self, name: str) -> None:
        """Before a changed folder is made again: raise CheckFailedError if its blobs changed with it."""
        try:
            changed = list(self._changed_links(name))
        except (OSError, ValueError):
            return
        for digest in changed:
            try:
                found = os.stat(self._store.blobs.locate(digest))
            except FileNotFoundError:
                continue
            if not is_unchanged(found, found.st_size):
                restore(self._store.blobs, digest, self._store.owner)

    def _plan(self, layers: Sequence[Layer | Digest]) -> dict[str, Element]:
        """Give the folders of a stack, lowest first, by name."""
        whole = [
            layer if isinstance(layer, Layer) else Layer.parse(self._store.blobs.read(layer))
            for layer in layers
        ]
        found: dict[str, Element] = {}
        for tree, copied in _without_shared_links(stack(whole)):
            element = Element(tree, copied)
            found.pop(element.name, None)  # of two equal trees the upper one hides the lower one
            found[element.name] = element
        return found

    def recall(self, key: str) -> list[str] | None:
        """Give the names of the folders that are noted under a stack's key; None where nothing sound is."""
        try:
            with open(f"{self.folder}/{STACKS}/{key}", encoding="ascii") as file:
                lines = file.read().split("\n")
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        except OSError as error:
            raise trouble(error, f"reading {self.folder}") from error
        names = lines[:-1]
        return names if lines[-1] == _LAST_LINE and all(map(_is_name, names)) else None

    def _remember(self, key: str, names: list[str]) -> None:
        """Write down the folders of a stack; a file that a power cut spoils is not believed later."""
        from reprobuild.store.store import make_folder

        folder = f"{self.folder}/{STACKS}"
        try:
            make_folder(folder, self._store.owner)
            with Scratch(self._store.tmp, "stack", self._store.owner) as scratch:
                draft = scratch.make() + "/names"
                with open(draft, "x", encoding="ascii") as file:
                    file.write("\n".join([*names, _LAST_LINE]))
                    if self._store.owner is not None:
                        os.fchown(file.fileno(), self._store.owner, self._store.owner)
                os.replace(draft, f"{folder}/{key}")
        except OSError as error:
            raise trouble(error, f"writing to {folder}") from error


def stack(layers: Sequence[Layer]) -> list[Tree]:
    """Give the trees, lowest first, whose overlay is what the layers make; at least one, perhaps empty."""
    trees: list[Tree] = []
    for layer in filter(None, layers):
        if layer.whiteouts:
            trees = [apply(_merged(trees), layer)]
        else:
            trees.append(Tree(layer.entries))
    if len(trees) > MOST_FOLDERS:
        needed = len(trees) - MOST_FOLDERS + 1
        lowest = MERGED_TOGETHER * -(-needed // MERGED_TOGETHER)
        trees = [_merged(trees[:lowest]), *trees[lowest:]]
    return trees or [Tree()]


def _merged(trees: Sequence[Tree]) -> Tree:
    merged = Tree()
    for tree in trees:
        merged = apply(merged, Layer(tree))
    return merged


def _without_shared_links(trees: Sequence[Tree]) -> Iterator[tuple[Tree, frozenset[Digest]]]:
    """Give each tree with what must be copied in it, so that no two visible files are one inode."""
    linked: dict[Digest, str] = {}
    for tree in trees:
        copied = set()
        for digest, entry in linkable(tree).items():
            if linked.setdefault(digest, entry.path) != entry.path:
                copied.add(digest)
        yield tree, frozenset(copied)


def _link_line(entry: Entry) -> bytes:
    assert entry.digest is not None and entry.mode == BLOB_MODE
    return b"%d\t%s\t%s\n" % (entry.size, entry.digest.hex.encode(), escape(entry.path))


def _key(layers: Sequence[Digest]) -> str:
    return hashlib.sha256("\n".join(layer.hex for layer in layers).encode()).hexdigest()


def _is_name(name: str) -> bool:
    head, _, tail = name.partition("-")
    hexadecimal = set("0123456789abcdef")
    return len(head) == 64 and len(tail) in (0, 12) and hexadecimal.issuperset(head + tail)
