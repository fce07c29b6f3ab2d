"""Checks all that a store holds against its names: blobs, listings, checkouts, realisations, leftovers.

Finds; what mends is ``set_aside``, after which the next ``realize`` brings back what is missing. Knows
nothing of images and locks, which ``build.audit`` checks, nor of predictions.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.events import Checked, Tell, ignore
from reprobuild.store.blobs import BLOB_MODE, TIMES
from reprobuild.store.disk import fresh_name, remove, trouble
from reprobuild.store.gc import GRACE, changed
from reprobuild.store.hash_pool import Hashing, Looks, hash_files, hash_folders
from reprobuild.store.lay_out import restore
from reprobuild.store.locks import acquire
from reprobuild.store.realisations import SUFFIX, bodies_of_listing, needed_blobs, needed_listings
from reprobuild.store.scratch import LOCK_SUFFIX, PARTIAL, TRASH, abandoned, reap
from reprobuild.tree import Entry, Layer, Tree, TreeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from reprobuild.store.store import Store

REPAIR = "`reprobuild audit --repair`"
_AGAIN = f"{REPAIR} moves it aside; `reprobuild realize NAME` then brings it back"
_CHECKOUT = f"{REPAIR} removes it; it is laid out again when it is needed"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    kind: str
    """``blob``, ``listing``, ``checkout``, ``realisation``, ``root``, ``leftover``; elsewhere more."""
    what: str
    """A digest, a name, a path inside a checkout after its name."""
    where: str
    """The path of the file or folder."""
    problem: str
    hint: str


def audit(store: Store, *, jobs: int | None = None, tell: Tell = ignore) -> Iterator[Finding]:
    """Check a store as fast as its disk and ``jobs`` processes (default: one a core) can; give what is wrong.

    Others may use the store meanwhile: what they remove is not missed, what they add is left for
    another time. Raises OutsideError where something cannot be read at all.
    """
    try:
        yield from _Audit(store, jobs or len(os.sched_getaffinity(0)), tell).findings()
    except OSError as error:
        raise trouble(error, f"checking the store {store.path}") from error


def set_aside(store: Store, finding: Finding) -> bool:
    """Take a finding of this module out of the way, or put it right; tell whether it is gone now.

    A damaged blob goes to ``tmp/trash``, and the records that need it are forgotten, so that the next
    ``realize`` brings it back, and checkouts that it is linked into are removed; so do records and
    listings that lack something. An edited checkout is removed. A blob with right bytes and changed mode
    or time gets these back.
    """
    try:
        return _set_aside(store, finding)
    except FileNotFoundError:
        return True  # what another finding needed to be set aside took this with it
    except OSError as error:
        raise trouble(error, f"moving {finding.where} aside") from error


class _Audit:
    def __init__(self, store: Store, jobs: int, tell: Tell) -> None:
        self._store = store
        self._jobs = jobs
        self._tell = tell
        self._sizes: dict[str, int] = {}
        """Blobs that were seen, by hex digits; bytes."""
        self._bad: set[str] = set()
        """Hex digits of those whose bytes are wrong: named once is enough."""

    def findings(self) -> Iterator[Finding]:
        yield from self._blobs()
        records, problems = self._records()
        yield from problems
        yield from self._listings(records)
        yield from self._checkouts()
        yield from self._leftovers()

    # Blobs: every byte against its name.

    def _blobs(self) -> Iterator[Finding]:
        root = self._store.blobs.folder
        folders = []
        for name in sorted(os.listdir(root)):
            if len(name) == 2 and os.path.isdir(f"{root}/{name}"):
                folders.append(name)
            else:
                yield self._strange(name)
        mode = stat.S_IFREG | BLOB_MODE
        hashing = hash_folders(root, folders, self._jobs, mtime_ns=TIMES[1], mode=mode, uid=self._owner())
        with contextlib.closing(hashing):
            yield from self._blob_findings(hashing, len(folders))

    def _blob_findings(self, hashing: Hashing, count: int) -> Iterator[Finding]:
        for done, (folder, found) in enumerate(hashing, 1):
            for name, looks in found:
                if isinstance(looks, int):
                    self._sizes[name] = looks
                elif len(name) == 64 and name.startswith(folder):
                    yield from self._blob(folder, name, looks)
                else:
                    yield self._strange(f"{folder}/{name}")
            self._tell(Checked("folders of blobs", done, count))

    def _blob(self, folder: str, name: str, looks: Looks) -> Iterator[Finding]:
        """Say what is wrong with a blob that is not sound."""
        where = f"{self._store.blobs.folder}/{folder}/{name}"
        if not looks.digest:
            if os.path.lexists(where):  # else gc took it
                self._bad.add(name)
                why = os.strerror(looks.errno) if looks.errno else "it is no file"
                yield Finding("blob", f"sha256:{name}", where, f"cannot be read: {why}", _AGAIN)
            return
        self._sizes[name] = looks.size
        problem = _blob_problem(name, looks, self._owner())
        if looks.digest != name:
            self._bad.add(name)
            yield Finding("blob", f"sha256:{name}", where, problem, _AGAIN)
        elif problem:
            yield Finding("blob", f"sha256:{name}", where, problem, f"{REPAIR} sets it right")

    def _strange(self, path: str) -> Finding:
        where = f"{self._store.blobs.folder}/{path}"
        return Finding("leftover", path, where, "is no blob", _remove_by_hand(where))

    def _owner(self) -> int:
        return os.geteuid() if self._store.owner is None else self._store.owner

    def _has(self, digest: str) -> bool:
        """Tell whether a blob is there; it may have come after we looked."""
        if digest in self._sizes or digest in self._bad:
            return True
        try:
            self._sizes[digest] = self._store.blobs.size(Digest(digest))
        except CheckFailedError:
            return False
        return True

    # Records: readable, and what they name is there.

    def _records(self) -> tuple[dict[Digest, dict[str, Any]], list[Finding]]:
        store = self._store
        records: dict[Digest, dict[str, Any]] = {}
        found = []
        folder = store.realisations.folder
        for name in sorted(os.listdir(folder)):
            where = f"{folder}/{name}"
            try:
                key = Digest(name.removesuffix(SUFFIX))
                with open(where, "rb") as file:
                    record = json.loads(file.read())
                if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
                    raise ValueError("it has no kind")
            except FileNotFoundError:
                continue
            except ValueError as error:
                found.append(Finding("realisation", name, where, f"makes no sense: {error}", _AGAIN))
                continue
            records[key] = record
            needed = sorted(needed_blobs(record))
            if lost := [digest for digest in needed if not self._has(digest.hex)]:
                problem = f"lacks {_count(lost)} that it needs: {lost[0]}"
                found.append(Finding("realisation", key.hex, where, problem, _AGAIN))
        for where in store.roots.unreadable():
            hint = "`reprobuild realize NAME` writes it again"
            found.append(Finding("root", os.path.basename(where), where, "makes no sense", hint))
        for root in store.roots:
            for key in root.keys:
                if key not in records and not os.path.exists(store.realisations.locate(key)):
                    problem = f"keeps {key}, of which there is no record"
                    hint = f"`reprobuild realize {root.name}` makes it again"
                    found.append(Finding("root", root.name, store.roots.locate(root.name), problem, hint))
        return records, found

    # Listings: sound, and every body that they name is there and as long as they say.

    def _listings(self, records: dict[Digest, dict[str, Any]]) -> Iterator[Finding]:
        wanted = {listing for record in records.values() for listing in needed_listings(record)}
        for digest in sorted(wanted):
            if digest.hex in self._bad or not self._has(digest.hex):
                continue
            where = self._store.blobs.locate(digest)
            with self._store.blobs.open(digest) as file:
                listing = file.read()
            try:
                (Layer if listing.startswith(b"layer ") else Tree).parse(listing)
            except TreeError as error:
                yield Finding("listing", str(digest), where, f"makes no sense: {error.message}", _AGAIN)
                continue
            bodies = bodies_of_listing(listing)
            lost = [body for body in sorted(bodies) if not self._has(body)]
            if lost:
                problem = f"lacks {_count(lost)} that it names: sha256:{lost[0]}"
                yield Finding("listing", str(digest), where, problem, _AGAIN)
            for body, size in sorted(bodies.items()):
                if body not in self._bad and self._sizes.get(body, size) != size:
                    problem = f"says {size:,} bytes of sha256:{body}, which has {self._sizes[body]:,}"
                    yield Finding("listing", str(digest), where, problem, _AGAIN)

    # Checkouts: every path against the listing that it was made from.

    def _checkouts(self) -> Iterator[Finding]:
        checkouts = self._store.checkouts
        names = checkouts.names()
        for done, name in enumerate(names, 1):
            with acquire(checkouts.lease_path(name), shared=True):
                where = os.path.join(checkouts.folder, name)
                if not os.path.isdir(where):
                    continue
                digest = checkouts.tree_of(name)
                try:
                    tree = Tree.parse(self._store.blobs.read(digest))
                except (CheckFailedError, TreeError):
                    problem = "its listing is missing or damaged, so it cannot be checked"
                    yield Finding("checkout", name, where, problem, _CHECKOUT)
                    continue
                yield from self._checkout(name, where, tree)
            self._tell(Checked("checkouts", done, len(names)))

    def _checkout(self, name: str, where: str, tree: Tree) -> Iterator[Finding]:
        def finding(path: str, problem: str) -> Finding:
            return Finding("checkout", f"{name}/{path}", where, f"/{path} {problem}", _CHECKOUT)

        try:
            self._store.checkouts.links(name)
        except (OSError, ValueError):
            yield Finding("checkout", name, where, "the list of its links is missing", _CHECKOUT)
        closed: set[str] = set()
        there = dict(_walk(where, closed))
        to_hash: dict[str, tuple[int, Digest]] = {}
        for entry in tree:
            found = there.pop(entry.path, None)
            if found is None:
                if closed.isdisjoint(_folders_of(entry.path)):
                    yield finding(entry.path, "is missing")
                continue
            problem = _entry_problem(entry, found, os.path.join(where, entry.path), self._owner())
            if problem:
                yield finding(entry.path, problem)
            elif (
                entry.digest is not None
                and entry.size
                and (entry.mode & 0o400 or os.geteuid() == 0)
                and not self._is_blob(entry.digest, found)
            ):
                to_hash[entry.path] = found.st_ino, entry.digest
        for path in there:
            yield finding(path, "does not belong there")
        ordered = sorted(to_hash, key=lambda path: to_hash[path][0])
        with contextlib.closing(hash_files(where, ordered, self._jobs)) as hashing:
            for path, looks in hashing:
                if looks.digest != to_hash[path][1].hex:
                    yield finding(path, "has other bytes" if looks.digest else "cannot be read")

    def _is_blob(self, digest: Digest, found: os.stat_result) -> bool:
        """Tell whether a file is the blob itself, whose bytes were looked at already."""
        if found.st_nlink < 2:
            return False
        try:
            blob = os.stat(self._store.blobs.locate(digest))
        except FileNotFoundError:
            return False
        return (blob.st_dev, blob.st_ino) == (found.st_dev, found.st_ino)

    # What is of no use to anybody.

    def _leftovers(self) -> Iterator[Finding]:
        tmp = self._store.tmp
        hint = "`reprobuild gc` removes it"
        reap(tmp)  # a process that was killed is no damage, unless what it left cannot be removed
        dead = set(abandoned(tmp))
        old = time.time() - GRACE
        for name in sorted(os.listdir(tmp)):
            where = os.path.join(tmp, name)
            if name in (TRASH, PARTIAL) or name.endswith(LOCK_SUFFIX):
                continue
            if name in dead:
                yield Finding("leftover", f"tmp/{name}", where, "was left by a process that died", hint)
            elif not os.path.exists(where + LOCK_SUFFIX) and changed(where) < old:
                yield Finding("leftover", f"tmp/{name}", where, "belongs to nobody", hint)


def _blob_problem(name: str, looks: Looks, owner: int) -> str:
    if looks.digest != name:
        return f"its {looks.size:,} bytes are those of sha256:{looks.digest}"
    if looks.mtime_ns != TIMES[1]:
        return "its bytes are right, and its time was changed: something wrote to it"
    if looks.mode != stat.S_IFREG | BLOB_MODE:
        return f"its bytes are right, and its mode was changed to {stat.S_IMODE(looks.mode):04o}"
    if looks.uid != owner:
        return f"its bytes are right, and it belongs to uid {looks.uid} instead of {owner}"
    return ""


def _entry_problem(entry: Entry, found: os.stat_result, path: str, owner: int) -> str:
    """Say what of a path of a checkout is not as its entry says; the bytes of files are not looked at."""
    kinds = {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l"}
    if kinds.get(stat.S_IFMT(found.st_mode)) != entry.kind:
        return "is of another kind"
    if entry.kind == "l":
        target = os.readlink(path)
        if target != entry.target:
            return f"points to {target!r} instead of {entry.target!r}"
    elif stat.S_IMODE(found.st_mode) != entry.mode:
        return f"has mode {stat.S_IMODE(found.st_mode):04o} instead of {entry.mode:04o}"
    if entry.kind == "f" and found.st_size != entry.size:
        return f"has {found.st_size:,} bytes instead of {entry.size:,}"
    if found.st_mtime_ns != TIMES[1]:
        return "was changed: it has another time"
    if found.st_uid != owner:
        return f"belongs to uid {found.st_uid} instead of {owner}"
    return ""


def _walk(folder: str, closed: set[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Give all paths below a folder, relative to it, without following links.

    ``closed`` gets the folders that may not be looked into: an image can have such, and only root can.
    """
    todo = [""]
    while todo:
        above = todo.pop()
        try:
            with os.scandir(os.path.join(folder, above)) as listing:
                found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in listing]
        except PermissionError:
            closed.add(above)
            continue
        for name, looks in found:
            path = f"{above}/{name}" if above else name
            yield path, looks
            if stat.S_ISDIR(looks.st_mode):
                todo.append(path)


def _folders_of(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _set_aside(store: Store, finding: Finding) -> bool:
    from reprobuild.store.store import make_folder

    if finding.kind == "checkout":
        name = os.path.basename(finding.where)
        with acquire(store.checkouts.lease_path(name)):
            store.checkouts.discard(name)
        return True
    if finding.kind == "leftover" and finding.what.startswith("tmp/"):
        store.reap()
        if os.path.lexists(finding.where):
            remove(finding.where)
        return True
    if finding.kind == "blob":
        digest = Digest.parse(finding.what)
        try:
            restore(store.blobs, digest, store.owner)
        except CheckFailedError:
            pass
        else:
            return True
    if finding.kind not in ("blob", "listing", "realisation", "root"):
        return False
    if finding.kind == "blob":
        _discard_links(store, finding.what.removeprefix("sha256:"))
    trash = os.path.join(store.tmp, TRASH)
    make_folder(trash, store.owner)
    with acquire(store.lock_path("gc")):
        if finding.kind in ("blob", "listing"):
            _forget_users(store, Digest.parse(finding.what))
        os.rename(finding.where, os.path.join(trash, fresh_name()))
    return True


def _discard_links(store: Store, lost: str) -> None:
    """Remove the checkouts that a blob with wrong bytes is linked into: its bytes are theirs."""
    for name in store.checkouts.names():
        with acquire(store.checkouts.lease_path(name)):
            try:
                linked = {digest for _, _, digest in store.checkouts.links(name)}
            except (OSError, ValueError):
                continue  # a finding of its own
            if lost in linked:
                store.checkouts.discard(name)


def _forget_users(store: Store, lost: Digest) -> None:
    """Remove the records that need a blob, so that the next ``realize`` makes it again."""
    for key in list(store.realisations):
        record = store.realisations.get(key) or {}
        needed = needed_blobs(record)
        bodies: set[str] = set()
        for listing in needed_listings(record):
            with contextlib.suppress(CheckFailedError), store.blobs.open(listing) as file:
                bodies.update(bodies_of_listing(file.read()))
        if lost in needed or lost.hex in bodies:
            store.realisations.remove(key)


def _count(things: list[Any]) -> str:
    return f"{len(things)} blob{'s' * (len(things) != 1)}"


def _remove_by_hand(path: str) -> str:
    import shlex

    return f"if it is not yours: rm -r {shlex.quote(path)}"
