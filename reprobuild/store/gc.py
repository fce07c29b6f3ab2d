"""Gives space back: marks what roots, users and the last hours need, and removes the rest.

``plan`` looks and gives a value; ``carry_out`` moves the victims below ``tmp/`` while it holds the
store's lock, and deletes them after. What became needed in between stays. Knows of records only what
``realisations`` knows: which fields point into the store.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.store.checkouts import LINKS, STACKS
from reprobuild.store.daemons import KeptTree
from reprobuild.store.disk import remove, trouble
from reprobuild.store.locks import acquire, try_acquire
from reprobuild.store.realisations import (
    SAYING,
    bodies_of_listing,
    files_of_listing,
    needed_blobs,
    needed_listings,
    needed_records,
)
from reprobuild.store.scratch import LOCK_SUFFIX, PARTIAL, TRASH, Scratch, abandoned, reap, since

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import Any, Literal

    from reprobuild.store.store import Store

GRACE = 24 * 3600.0
"""Seconds for which nothing is taken that was written, or found useful by a writer."""
PARTIAL_GRACE = 7 * 24 * 3600.0
"""Seconds for which the first part of a download is kept."""
TICK = 0.05
"""Seconds by which the clock that file systems read can lag behind the one that we read."""
BATCH = 1000
"""Files moved before others may have the store's lock."""


@dataclass(frozen=True, slots=True)
class Victim:
    """One thing that goes."""

    kind: Literal["blob", "realisation", "checkout", "leftover"]
    name: str
    """A digest, a key, a checkout's name, or a path below the store."""
    size: int
    """Bytes on the disk; links to blobs that stay do not count."""


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What goes, and until when a change spares a thing."""

    victims: tuple[Victim, ...]
    cutoff: float
    """Seconds since the epoch: what changed later stays."""
    kept: int = field(default=0)
    """Bytes of the blobs that stay."""
    idle_trees: tuple[KeptTree, ...] = ()
    """What daemons keep of the store and nothing needs: theirs to remove (``engine.docker.garbage``)."""

    def of_kind(self, kind: str) -> tuple[Victim, ...]:
        """Give the victims of one kind."""
        return tuple(victim for victim in self.victims if victim.kind == kind)

    @property
    def size(self) -> int:
        """Bytes that carrying it out gives back, about."""
        return sum(victim.size for victim in self.victims)


def plan(
    store: Store, *, grace: float = GRACE, all_checkouts: bool = False, now: float | None = None
) -> GcPlan:
    """Find what nothing needs.

    ``grace``: seconds for which what is new stays; ``all_checkouts``: give up those of kept images
    too, unless they are in use. Raises CheckFailedError while a root cannot be read.
    """
    now = time.time() if now is None else now
    begun = since(store.tmp)
    cutoff = min(now - grace, now if begun is None else begun) - TICK
    try:
        return _plan(store, cutoff, now, all_checkouts)
    except OSError as error:
        raise trouble(error, f"looking through the store {store.path}") from error


def carry_out(store: Store, planned: GcPlan) -> GcPlan:
    """Remove the victims of a plan; gives what really went."""
    try:
        return _carry_out(store, planned)
    except OSError as error:
        raise trouble(error, f"removing from the store {store.path}") from error


class _Marks:
    """What of a store is needed."""

    def __init__(self, store: Store, cutoff: float) -> None:
        self._store = store
        self.blobs: set[str] = set()
        """Hex digits."""
        self.records: set[Digest] = set()
        self.all: dict[Digest, dict[str, Any]] = {}
        fresh = set()
        for key in store.realisations:
            record = store.realisations.get(key)
            if record is not None:
                self.all[key] = record
                if changed(store.realisations.locate(key)) >= cutoff:
                    fresh.add(key)
        for root in store.roots:
            self._keep(root.keys)
        self._keep(fresh)
        self._keep_free_ones()

    def _keep(self, keys: Iterable[Digest]) -> None:
        todo = list(keys)
        while todo:
            key = todo.pop()
            if key in self.records or key not in self.all:
                continue
            record = self.all[key]
            self.records.add(key)
            self.blobs.update(blob.hex for blob in needed_blobs(record))
            for listing in needed_listings(record):
                self.mark_listing(listing)
            todo += needed_records(record)

    def stacks(self) -> Iterator[tuple[Digest, ...]]:
        """Give the layers of each image that is kept, lowest first, by their listings."""
        for key in self.records:
            layers = self.all[key].get("layers")
            if isinstance(layers, list):
                # As the record names them; a name that makes no sense keeps nothing.
                with suppress(ValueError, TypeError, KeyError, AttributeError):
                    yield tuple([Digest.parse(layer["layer"]) for layer in layers])

    def mark_listing(self, digest: Digest) -> None:
        """Keep a listing, and all bodies that it names."""
        self.blobs.add(digest.hex)
        self.blobs.update(self._bodies(digest))

    def _bodies(self, digest: Digest) -> dict[str, int]:
        try:
            with self._store.blobs.open(digest) as file:
                return bodies_of_listing(file.read())
        except CheckFailedError:
            return {}  # an audit names it

    def _keep_free_ones(self) -> None:
        """Keep records that save work later and need nothing that would go otherwise."""
        for key, record in self.all.items():
            if key in self.records:
                continue
            kind = record.get("kind")
            listings = needed_listings(record)
            if kind in SAYING:
                free = str(record.get("layer")).removeprefix("sha256:") in self.blobs
            elif kind in ("run", "placement") and listings:
                needed = {blob.hex for blob in needed_blobs(record) - listings}
                bodies = [self._bodies(listing) for listing in listings]
                free = all(bodies) and needed.union(*bodies) <= self.blobs
            else:
                free = False
            if free:
                self._keep((key,))


def _plan(store: Store, cutoff: float, now: float, all_checkouts: bool) -> GcPlan:
    unreadable = store.roots.unreadable()
    if unreadable:
        raise CheckFailedError(
            f"the root {unreadable[0]} cannot be read, so what it keeps is not known",
            "realize its recipe again, or remove the file",
        )
    marks = _Marks(store, cutoff)
    victims = [
        Victim("realisation", key.hex, _size(store.realisations.locate(key)))
        for key in store.realisations
        if key not in marks.records and changed(store.realisations.locate(key)) < cutoff
    ]
    checkouts = list(_idle_checkouts(store, marks, cutoff, all_checkouts))
    going = {victim.name for victim in checkouts}
    marks.blobs.update(_listings_of_checkouts(store, going))
    kept = 0
    for name, found in _blob_stats(store):
        if name in marks.blobs or found.st_ctime >= cutoff:
            kept += found.st_size
        else:
            victims.append(Victim("blob", name, found.st_size))
    idle = tuple(_idle_trees(store, marks, cutoff, all_checkouts))
    return GcPlan((*victims, *checkouts, *_leftovers(store, now)), cutoff, kept, idle)


def _listings_of_checkouts(store: Store, going: Collection[str] = ()) -> set[str]:
    """Give the listings, as hex digits, by which an audit checks the folders that stay."""
    return {store.checkouts.tree_of(name).hex for name in store.checkouts.names() if name not in going}


def _idle_checkouts(store: Store, marks: _Marks, cutoff: float, everything: bool) -> Iterator[Victim]:
    kept: set[str] = set()
    for layers in () if everything else marks.stacks():
        kept.update(store.checkouts.stack_of(layers) or ())
    for name in store.checkouts.names():
        path = os.path.join(store.checkouts.folder, name)
        if name in kept or changed(path) >= cutoff:
            continue
        lease = try_acquire(store.checkouts.lease_path(name))
        if lease is not None:
            with lease:  # as long as we look into it: another gc may be taking this folder too
                victim = Victim("checkout", name, _checkout_size(store, name))
            yield victim


def _idle_trees(store: Store, marks: _Marks, cutoff: float, everything: bool) -> Iterator[KeptTree]:
    kept = set() if everything else set(marks.stacks())
    for one in store.daemons:
        if one.layers not in kept and changed(store.daemons.locate(one.host, one.tree)) < cutoff:
            yield one


def _checkout_size(store: Store, name: str) -> int:
    """Give the bytes of what was copied into a checkout; 0 where that is not to be told any more."""
    try:
        with store.blobs.open(store.checkouts.tree_of(name)) as file:
            total = sum(size for _, size in files_of_listing(file.read()))
        return total - sum(size for _, size, _ in store.checkouts.links(name))
    except (CheckFailedError, FileNotFoundError, ValueError):
        return 0  # without its listing, or the list of its links: an audit names it


def _leftovers(store: Store, now: float) -> Iterator[Victim]:
    """Give what is below ``tmp/`` and of no use: dead processes' folders, trash, old parts of downloads."""
    dead = set(abandoned(store.tmp))
    for name in sorted(os.listdir(store.tmp)):
        path = os.path.join(store.tmp, name)
        if name in (TRASH, PARTIAL):
            for inner in sorted(os.listdir(path)):
                if name == TRASH or changed(f"{path}/{inner}") < now - PARTIAL_GRACE:
                    yield Victim("leftover", f"tmp/{name}/{inner}", _size(f"{path}/{inner}"))
        elif name in dead or (
            not os.path.exists(path + LOCK_SUFFIX)
            and not name.endswith(LOCK_SUFFIX)
            and changed(path) < now - PARTIAL_GRACE
        ):
            yield Victim("leftover", f"tmp/{name}", _size(path))


def _blob_stats(store: Store) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(store.blobs.folder) as fan:
        folders = [entry.path for entry in fan if entry.is_dir(follow_symlinks=False)]
    for folder in folders:
        with os.scandir(folder) as listing:
            for entry in listing:
                if len(entry.name) == 64:
                    try:
                        yield entry.name, entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue


def _carry_out(store: Store, planned: GcPlan) -> GcPlan:
    gone: list[Victim] = []
    # Before the blobs, since a checkout's listing is one.
    for victim in planned.of_kind("checkout"):
        lease = try_acquire(store.checkouts.lease_path(victim.name))
        if lease is not None:
            store.checkouts.discard(victim.name)
            lease.close(remove=True)
            gone.append(victim)
    with Scratch(store.tmp, "trash", store.owner) as trash:
        gone += _move_all(store, planned, trash.make())
        remove(trash.path)
    _forget_stacks(store)
    gone += _remove_leftovers(store, planned)
    _remove_free_locks(store)
    return replace(planned, victims=tuple(gone))


def _move_all(store: Store, planned: GcPlan, trash: str) -> list[Victim]:
    """Move blobs and records to the trash that nothing needs by now; give which."""
    gone: list[Victim] = []
    todo = [victim for kind in ("realisation", "blob") for victim in planned.of_kind(kind)]
    marks: _Marks | None = None
    before: object = None
    while todo:
        batch, todo = todo[:BATCH], todo[BATCH:]
        with acquire(store.lock_path("gc")):
            now = _fingerprint(store)
            if marks is None or now != before:
                marks, before = _Marks(store, planned.cutoff), now
                marks.blobs.update(_listings_of_checkouts(store))
            gone += [victim for victim in batch if _move(store, victim, planned.cutoff, marks, trash)]
            before = _fingerprint(store)
    return gone


def _remove_leftovers(store: Store, planned: GcPlan) -> list[Victim]:
    """Remove what is of no use below ``tmp/``; give which of the victims are gone."""
    for victim in planned.of_kind("leftover"):
        path = os.path.join(store.path, victim.name)
        # One with a lock file is left to reap, which takes the lock first.
        if os.path.lexists(path) and not os.path.exists(path + LOCK_SUFFIX):
            remove(path)
    reap(store.tmp)
    leftovers = planned.of_kind("leftover")
    return [victim for victim in leftovers if not os.path.lexists(os.path.join(store.path, victim.name))]


def _fingerprint(store: Store) -> tuple[object, ...]:
    """Give a value that changes when roots or records do."""
    roots = tuple((root.name, root.keys) for root in store.roots)
    return roots, frozenset(store.realisations)


def _move(store: Store, victim: Victim, cutoff: float, marks: _Marks, trash: str) -> bool:
    """Move a blob or a record to the trash, unless something needs it by now."""
    digest = Digest(victim.name)
    if victim.kind == "blob":
        path, needed = store.blobs.locate(digest), victim.name in marks.blobs
    else:
        path, needed = store.realisations.locate(digest), digest in marks.records
    try:
        if needed or os.stat(path).st_ctime >= cutoff:
            return False
        os.rename(path, f"{trash}/{victim.kind}-{victim.name}")
    except FileNotFoundError:
        return False
    return True


def _forget_stacks(store: Store) -> None:
    """Remove the notes on stacks whose folders are gone."""
    folder = os.path.join(store.checkouts.folder, STACKS)
    there = set(store.checkouts.names())
    for name in _list(folder):
        names = store.checkouts.recall(name)
        if names is None or not there.issuperset(names):
            remove(os.path.join(folder, name))
    for name in _list(store.checkouts.folder):
        if name.endswith(LINKS) and name.removesuffix(LINKS) not in there:
            lease = try_acquire(store.checkouts.lease_path(name.removesuffix(LINKS)))
            if lease is not None:
                if not os.path.exists(os.path.join(store.checkouts.folder, name.removesuffix(LINKS))):
                    remove(os.path.join(store.checkouts.folder, name))
                lease.close(remove=True)


def _remove_free_locks(store: Store) -> None:
    folder = os.path.join(store.path, "locks")
    for name in _list(folder):
        lock = try_acquire(os.path.join(folder, name))
        if lock is not None:
            lock.close(remove=True)


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def changed(path: str) -> float:
    """Give when a path last changed: modification times are all the normal time, change times are not."""
    try:
        return os.lstat(path).st_ctime
    except FileNotFoundError:
        return float("inf")


def _size(path: str) -> int:
    """Give the bytes of a file, or of all files in a folder as far as it can be read."""
    try:
        if not os.path.isdir(path) or os.path.islink(path):
            return os.lstat(path).st_size
        return sum(_size(entry.path) for entry in os.scandir(path))
    except OSError:
        return 0
