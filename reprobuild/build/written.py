"""Steps that only Dockerfiles have: settings, copies, stages. Makes their trees, or recalls them.

Knows nothing of images, nor of how commands run. Nothing of a copy is remembered but what archives hold:
placing is a function of two trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reprobuild.build.accounts import NoSuchAccountError, owner_of
from reprobuild.build.place.context import store_context
from reprobuild.build.place.copying import copied
from reprobuild.build.remembered import has_bodies, recall_layer, remember_layer
from reprobuild.build.unpack import is_tar, unpack
from reprobuild.canonical import canonical_digest
from reprobuild.derivation.derive import ASSEMBLER, DerivedStep
from reprobuild.derivation.stated import Stated, after, word
from reprobuild.derivation.world import World
from reprobuild.derivation.written import Copy, Setting, Stage
from reprobuild.digest import Digest
from reprobuild.errors import RecipeError, ReprobuildError
from reprobuild.images.archive import naming
from reprobuild.store.store import Store
from reprobuild.store.transaction import Transaction
from reprobuild.tree import Entry, Layer, Tree, directory, file, overlay


class NotThereError(LookupError):
    """What a step was made of before is not in the store any more, or never was."""


class WrittenSteps:
    """Makes the steps of a Dockerfile that run nothing, and keeps the trees of its stages."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._stages: dict[str, Tree] = {}

    def stage(self, name: str) -> Tree:
        """Give the tree of a stage that has ended."""
        return self._stages[name]

    def recall(self, derived: DerivedStep, tree: Tree, world: World) -> tuple[Tree, list[Digest]]:
        """Give the tree that a step makes, and the keys of what is remembered of it, without effects.

        Raises NotThereError where something has to be made first.
        """
        return self._grown(derived, tree, world, None)

    def make(self, derived: DerivedStep, tree: Tree, world: World) -> tuple[Tree, list[Digest]]:
        """Give the tree that a step makes, and the keys of what is remembered of it."""
        step = derived.step
        if isinstance(step, Copy) and derived.entries:
            with self._store.transaction() as group:
                store_context(step, self._folder, derived.entries, group)
        with self._store.transaction() as group:
            return self._grown(derived, tree, world, group)

    def _grown(
        self, derived: DerivedStep, tree: Tree, world: World, group: Transaction | None
    ) -> tuple[Tree, list[Digest]]:
        step, stated = derived.step, world.dockerfile
        if isinstance(step, Stage):
            self._stages[step.name] = tree
            return self._stages.get(step.begin, Tree()), []
        if isinstance(step, Setting):
            return _with_workdir(step, tree, stated, self._store), []
        assert isinstance(step, Copy)
        if not has_bodies(self._store, derived.entries):
            raise NotThereError
        archives = _Archives(self._store, step, group)
        source = self._stages[step.stage] if step.stage else Tree(derived.entries)
        read = self._store.blobs.read
        grown = copied(step, tree, source, _texts(step, stated, self._store, group), stated, read, archives)
        return grown, archives.keys


def _with_workdir(step: Setting, tree: Tree, stated: Stated, store: Store) -> Tree:
    """Make the folder that a WORKDIR names, and those that it is in; they belong to the stage's user."""
    if step.word != "WORKDIR":
        return tree
    path = after(stated, step, "").workdir.strip("/")
    try:
        uid, gid = owner_of(stated.user, tree, store.blobs.read) if stated.user else (0, 0)
        parts = path.split("/") if path else []
        above = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        return overlay(tree, [directory(one, 0o755, uid, gid) for one in above])
    except (ReprobuildError, NoSuchAccountError) as error:
        said = error.message if isinstance(error, ReprobuildError) else str(error)
        raise RecipeError(f"{step.where}: {step.title}: {said}") from None


def _texts(step: Copy, stated: Stated, store: Store, group: Transaction | None) -> Sequence[Entry]:
    """Give the files of here-documents."""
    found = []
    for name, text in step.texts.items():
        data = (word(step, text, stated, is_text=True) if name in step.expands else text).encode()
        digest = Digest.of(data)
        if group is not None:
            group.add_bytes(data)
        elif not store.blobs.has(digest):
            raise NotThereError
        found.append(file(name, digest, len(data)))
    return found


class _Archives:
    """Gives what is in the archives among files; what one holds is remembered."""

    def __init__(self, store: Store, step: Copy, group: Transaction | None) -> None:
        self.keys: list[Digest] = []
        self._store = store
        self._step = step
        self._group = group

    def __call__(self, entry: Entry) -> tuple[Entry, ...] | None:
        assert entry.digest is not None
        key = canonical_digest({"unpack": ASSEMBLER, "file": str(entry.digest)})
        if (recalled := recall_layer(self._store, key)) is not None:
            self.keys.append(key)
            return recalled.entries
        with self._store.blobs.open(entry.digest) as archive:
            if not is_tar(archive):
                return None
            if self._group is None:
                raise NotThereError
            with naming(f"{self._step.where}: {self._step.title}: /{entry.path}"):
                layer = Layer(unpack(archive, self._group))
        remember_layer(self._group, key, "placement", layer, notes=[])
        self.keys.append(key)
        return layer.entries
