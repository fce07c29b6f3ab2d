"""A group of writes: the whole of it comes into the store, or what counts of it does not.

All bytes go to ``tmp/`` while they are hashed. At the end: sync, rename all blobs to their names,
sync, and only then the records that make them count, synced and renamed the same way. Whatever kills
us on the way, no record ever names a blob that is not there whole. Knows nothing of what is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import threading
import time

from reprobuild.canonical import canonical
from reprobuild.digest import BUFFER_SIZE, Digest
from reprobuild.errors import OutsideError
from reprobuild.store.blobs import BLOB_MODE, TIMES, missing
from reprobuild.store.disk import FEW, sync_all, sync_paths, trouble, write_whole
from reprobuild.store.locks import acquire
from reprobuild.store.realisations import bodies_of_listing, needed_blobs, needed_listings
from reprobuild.store.scratch import Scratch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Any, BinaryIO

    from reprobuild.images.tar_layer import Stream
    from reprobuild.store.store import Store

SETTLED = 120.0
"""Seconds after which the kernel has written a rename out by itself, with room to spare
(``dirty_expire_centisecs`` is 30 s)."""


class Transaction:
    """A group of writes; use it as a context manager. Threads may share one.

    When the block ends normally, blobs and records are in the store, synced. When it ends with an
    exception the records are dropped, while blobs that were finished stay, under their digests:
    bytes that failed their pin are not fetched twice, and ``gc`` takes what nobody comes to need.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._blobs = store.blobs
        self._begun = 0.0
        self._scratch: Scratch | None = None
        self._numbers = itertools.count()
        self._buffers: list[bytearray] = []
        self._mutex = threading.Lock()
        self._pending: dict[Digest, str] = {}
        self._records: dict[Digest, bytes] = {}
        self._needed: set[Digest] = set()
        self._listings: set[Digest] = set()
        self._safe: set[str] = set()
        """Hex digits of blobs that are in the store and that gc leaves alone until this group ends."""

    def __enter__(self) -> Transaction:
        # Held from the beginning: it tells gc that what we find in the store is about to be used.
        self._scratch = Scratch(self._store.tmp, "group", self._store.owner)
        self._begun = time.time()
        return self

    def __exit__(self, kind: type[BaseException] | None, *reason: object) -> None:
        assert self._scratch is not None
        try:
            if kind is None:
                self._publish_blobs()
                self._publish_records()
            else:
                self._keep_what_is_finished()
        finally:
            self._scratch.close()

    def has(self, digest: Digest) -> bool:
        """Tell whether a blob is in the store or in this group; if so, ``gc`` leaves it alone."""
        return digest in self._pending or digest.hex in self._safe or self._reuse(digest)

    def read(self, digest: Digest) -> bytes:
        """Give a small blob's bytes, of this group or of the store; raises as ``Blobs.read``."""
        path = self._pending.get(digest)
        if path is None:
            return self._blobs.read(digest)
        try:
            with open(path, "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise self._trouble(error) from error

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob of this group or of the store, unbuffered; raises as ``Blobs.open``."""
        path = self._pending.get(digest)
        if path is None:
            return self._blobs.open(digest)
        try:
            return open(path, "rb", buffering=0)
        except OSError as error:
            raise self._trouble(error) from error

    def add_bytes(self, data: bytes | memoryview) -> Digest:
        """Add bytes that are in memory."""
        digest = Digest.of(data)
        if not self.has(digest):
            descriptor, path = self._create()
            try:
                write_whole(descriptor, data)
                self._finish(descriptor)
            except OSError as error:
                raise self._trouble(error) from error
            finally:
                os.close(descriptor)
            self._join(digest, path)
        return digest

    def add_stream(self, file: Stream) -> tuple[Digest, int]:
        """Add what a binary file gives until its end; gives digest and size in bytes."""
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = bytearray(BUFFER_SIZE)
        view = memoryview(buffer)
        try:
            filled = 0
            while filled < BUFFER_SIZE and (count := _read_into(file, view[filled:])):
                filled += count
            if filled < BUFFER_SIZE:
                return self.add_bytes(view[:filled]), filled
            with self.writer() as writer:
                while filled:
                    writer.write(view[:filled])
                    filled = _read_into(file, view)
                return writer.commit(), writer.size
        finally:
            view.release()
            self._buffers.append(buffer)

    def writer(self, resume: Path | None = None) -> BlobWriter:
        """Begin a blob of unknown digest; ``resume``: a file of ``Store.partial`` to go on from."""
        return BlobWriter(self, None if resume is None else str(resume))

    def adopt(self, path: Path, digest: Digest) -> None:
        """Take over a file of ``Store.partial`` whose bytes the caller has hashed; it is not copied."""
        try:
            descriptor = _open_partial(str(path))
            try:
                self._finish(descriptor)
            finally:
                os.close(descriptor)
            if self.has(digest):
                os.unlink(path)
                return
            number, place = self._create()
            os.close(number)
            os.replace(path, place)
        except OSError as error:
            raise self._trouble(error) from error
        self._join(digest, place)

    def record(self, key: Digest, record: Mapping[str, Any]) -> None:
        """Add a realisation: written when all blobs of the group are in the store.

        At the end of the group MissingBlobError is raised if a blob that it needs is nowhere, be it
        named by the record itself or by a listing that it names.
        """
        data = canonical(record) + b"\n"
        with self._mutex:
            self._records[key] = data
            self._needed |= needed_blobs(record)
            self._listings |= needed_listings(record)

    def _create(self) -> tuple[int, str]:
        if self._scratch is None:
            raise RuntimeError("a transaction takes writes inside its `with` block only")
        with self._mutex:
            folder = self._scratch.make()
        path = f"{folder}/{next(self._numbers)}"
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, BLOB_MODE), path
        except OSError as error:
            raise self._trouble(error) from error

    def _finish(self, descriptor: int) -> None:
        """Give a written file the looks of a blob."""
        owner = self._store.owner
        if owner is not None:
            os.fchown(descriptor, owner, owner)
        os.fchmod(descriptor, BLOB_MODE)
        os.utime(descriptor, ns=TIMES)

    def _join(self, digest: Digest, path: str) -> None:
        with self._mutex:
            surplus = self._pending.setdefault(digest, path) is not path
        if surplus:
            os.unlink(path)

    def _reuse(self, digest: Digest) -> bool:
        path = self._blobs.locate(digest)
        try:
            if os.stat(path).st_ctime < self._begun:
                # A fresh change time keeps gc away; gc moves things only while it has this lock alone.
                with self._mutex, acquire(self._store.lock_path("gc"), shared=True):
                    os.utime(path, ns=TIMES)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise trouble(error, f"looking for {digest}") from error
        self._safe.add(digest.hex)
        return True

    def _publish_blobs(self) -> None:
        if not self._pending:
            return
        try:
            _make_fan(self._blobs.folder, self._store.owner)
            places = {path: self._blobs.locate(digest) for digest, path in self._pending.items()}
            _sync(self._store, places)
            folders = set()
            for path, place in places.items():
                if os.path.exists(place):  # another process was faster
                    os.unlink(path)
                else:
                    os.rename(path, place)
                    folders.add(os.path.dirname(place))
            _sync(self._store, folders)
        except OSError as error:
            raise self._trouble(error) from error
        self._safe.update(digest.hex for digest in self._pending)
        self._pending.clear()

    def _publish_records(self) -> None:
        if not self._records:
            return
        files = {self._store.realisations.locate(key): data for key, data in self._records.items()}
        # While we have this lock gc moves nothing, and afterwards it sees the records.
        with acquire(self._store.lock_path("gc"), shared=True):
            # Another process may have renamed a blob a moment ago and not have synced that yet.
            write_synced(self._store, files, sync_first=self._check_needed())

    def _check_needed(self) -> bool:
        """Look whether all that the records need is there; tell whether some of it came a moment ago."""
        needed = {digest.hex: "a record" for digest in self._needed}
        for listing in self._listings:
            with self._blobs.open(listing) as file:
                needed.update(dict.fromkeys(bodies_of_listing(file.read()), f"the listing {listing}"))
        unsettled = False
        for digest, by in needed.items():
            try:
                changed = os.stat(f"{self._blobs.folder}/{digest[:2]}/{digest}").st_ctime
            except FileNotFoundError:
                raise missing(Digest(digest), by) from None
            unsettled = unsettled or self._begun - SETTLED < changed < self._begun
        return unsettled

    def _keep_what_is_finished(self) -> None:
        """After an exception: it must not be hidden by another."""
        with contextlib.suppress(OutsideError):
            self._publish_blobs()

    def _trouble(self, error: OSError) -> Exception:
        return trouble(error, f"writing to the store {self._store.path}")


class BlobWriter:
    """Hashes bytes while it writes them; one thread at a time, any number of writers in a group.

    As a context manager it aborts what was not committed.
    """

    def __init__(self, group: Transaction, resume: str | None) -> None:
        self.size = 0
        """Bytes so far; with ``resume``, those found there count."""
        self._group = group
        self._hasher = hashlib.sha256()
        self._resume = resume
        if resume is None:
            self._descriptor, self._path = group._create()
        else:
            self._descriptor, self._path = _open_partial(resume), resume
            try:
                self._take_up()
            except OSError as error:
                os.close(self._descriptor)
                raise group._trouble(error) from error

    def _take_up(self) -> None:
        buffer = memoryview(bytearray(BUFFER_SIZE))
        while count := os.readv(self._descriptor, [buffer]):
            self._hasher.update(buffer[:count])
            self.size += count

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, *reason: object) -> None:
        if self._descriptor >= 0:
            self.abort()

    @property
    def digest(self) -> Digest:
        """The digest of the bytes so far."""
        return Digest(self._hasher.hexdigest())

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes; raises OutsideError where the disk refuses them."""
        self._hasher.update(data)
        try:
            write_whole(self._descriptor, data)
        except OSError as error:
            raise self._group._trouble(error) from error
        self.size += len(data)
        return len(data)

    def restart(self) -> None:
        """Throw away the bytes so far: a server that cannot resume sends them again."""
        try:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        except OSError as error:
            raise self._group._trouble(error) from error
        self._hasher = hashlib.sha256()
        self.size = 0

    def commit(self) -> Digest:
        """Add the bytes to the group; give their digest."""
        digest = self.digest
        descriptor, self._descriptor = self._descriptor, -1
        try:
            self._group._finish(descriptor)
            if self._resume is not None:
                number, path = self._group._create()
                os.close(number)
                os.replace(self._path, path)
                self._path = path
        except OSError as error:
            raise self._group._trouble(error) from error
        finally:
            os.close(descriptor)
        if self._group.has(digest):
            os.unlink(self._path)
        else:
            self._group._join(digest, self._path)
        return digest

    def abort(self) -> None:
        """Throw the bytes away; with ``resume`` they stay, to go on from another time."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
            if self._resume is None:
                os.unlink(self._path)


def write_synced(store: Store, files: Mapping[str, bytes], *, sync_first: bool = False) -> None:
    """Write small files of the store, path → content, each appearing whole and synced."""
    with Scratch(store.tmp, "records", store.owner) as scratch:
        folder = scratch.make()
        try:
            drafts = {}
            for number, (place, data) in enumerate(files.items()):
                draft = f"{folder}/{number}"
                descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                try:
                    write_whole(descriptor, data)
                    if store.owner is not None:
                        os.fchown(descriptor, store.owner, store.owner)
                finally:
                    os.close(descriptor)
                drafts[draft] = place
            _sync(store, drafts, everything=sync_first)
            for draft, place in drafts.items():
                os.replace(draft, place)
            _sync(store, {os.path.dirname(place) for place in files})
        except OSError as error:
            raise trouble(error, f"writing to the store {store.path}") from error


def _sync(store: Store, paths: Iterable[str], *, everything: bool = False) -> None:
    paths = list(paths)
    if not everything and len(paths) <= FEW:
        sync_paths(paths)
        return
    descriptor = os.open(store.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_all(descriptor)
    finally:
        os.close(descriptor)


def _make_fan(folder: str, owner: int | None) -> None:
    """Make the 256 folders ``00`` to ``ff``; the last one tells that all are there."""
    from reprobuild.store.store import make_folder

    if not os.path.isdir(f"{folder}/ff"):
        for number in range(256):
            make_folder(f"{folder}/{number:02x}", owner, own=True)


def _open_partial(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, BLOB_MODE)
    except OSError as error:
        raise trouble(error, f"opening {path}") from error


def _read_into(file: Stream, view: memoryview) -> int:
    read_into = getattr(file, "readinto", None)
    if read_into is not None:
        return read_into(view) or 0
    data = file.read(len(view))
    view[: len(data)] = data
    return len(data)
