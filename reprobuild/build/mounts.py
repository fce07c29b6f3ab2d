"""What a Dockerfile's ``RUN --mount=…`` puts into the tree of one command: files of the context or a stage.

Knows nothing of how an engine mounts. Nothing of it is ever part of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from reprobuild.build.place.context import store_context
from reprobuild.build.written import WrittenSteps
from reprobuild.derivation.derive import DerivedStep
from reprobuild.derivation.dockerfile.mounts import mounts_of
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.stated import Stated, word
from reprobuild.derivation.steps import Run
from reprobuild.errors import RecipeError
from reprobuild.store.store import Store
from reprobuild.tree import Entry, Layer, Tree, TreeError


@dataclass(frozen=True, slots=True)
class Mounted:
    """What one command sees beside its tree."""

    inputs: Mapping[str, Path]
    """Path inside → file or folder, read-only there."""
    empty: tuple[str, ...]
    """Folders inside that are empty at first, and gone afterwards."""


@dataclass(frozen=True, slots=True)
class _Bound:
    """A mount whose content is known."""

    target: str
    tree: Tree
    is_file: bool = False


def mount_keys(derived: DerivedStep, tree: Tree, stated: Stated, written: WrittenSteps) -> list[Json]:
    """Give what a command's mounts come to, for its key."""
    bound, empty = _bound(derived, tree, stated, written)
    return [[one.target, str(one.tree.digest)] for one in bound] + [[path] for path in empty]


@contextmanager
def mounted(
    derived: DerivedStep, tree: Tree, stated: Stated, written: WrittenSteps, store: Store, folder: Path
) -> Iterator[Mounted]:
    """Lay out what a command's mounts come to, as long as the context lasts. Raises RecipeError."""
    step = derived.step
    assert isinstance(step, Run)
    bound, empty = _bound(derived, tree, stated, written)
    if derived.entries:
        with store.transaction() as group:
            store_context(step, folder, derived.entries, group)
    with ExitStack() as stack:
        inputs = {}
        for one in bound:
            checkout = stack.enter_context(store.checkouts.lay_out([Layer(one.tree)]))
            (lower,) = checkout.lowers
            inputs[one.target] = lower / "file" if one.is_file else lower
        yield Mounted(inputs, tuple(empty))


def _bound(
    derived: DerivedStep, tree: Tree, stated: Stated, written: WrittenSteps
) -> tuple[list[_Bound], list[str]]:
    step = derived.step
    assert isinstance(step, Run)
    bound, empty = [], []
    for mount in mounts_of(step):
        target = _target(step, stated.folder(word(step, mount.target, stated)), tree)
        if mount.kind == "empty":
            empty.append(target)
            continue
        source = word(step, mount.source, stated) if mount.whence else mount.source
        whole = written.stage(mount.whence) if mount.whence else Tree(derived.entries)
        bound.append(_part(step, target, whole, source))
    return bound, empty


def _target(step: Run, path: str, tree: Tree) -> str:
    try:
        real = tree.resolve(path)
    except TreeError as error:
        raise RecipeError(f"{step.where}: {step.title}: {error.message}") from None
    if not real:
        raise RecipeError(f"{step.where}: {step.title}: a mount at / hides everything")
    return f"/{real}"


def _part(step: Run, target: str, whole: Tree, source: str) -> _Bound:
    path = whole.resolve(source)
    entry = whole.get(path)
    if path and entry is None:
        raise RecipeError(f"{step.where}: {step.title}: there is no {source} to mount")
    if entry is not None and entry.kind == "f":
        return _Bound(target, Tree([entry._replace(path="file")]), True)
    return _Bound(target, Tree(_rooted(whole, path)))


def _rooted(whole: Tree, path: str) -> Iterator[Entry]:
    start = len(path) + 1 if path else 0
    for one in whole.below(path):
        yield one._replace(path=one.path[start:])
