"""OCI layouts as carriers of images: a tar archive, or a folder (OCI image specification, image-layout.md).

Whoever made one may be a stranger: names are looked up, never followed, and all bytes are held against their
digests. Knows nothing of what is in an image.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from reprobuild.build.carrier import Carried, Wanted, check_limit
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, OutsideError
from reprobuild.events import FetchFinished, FetchStarted, Tell
from reprobuild.fetch.partial import Stopped
from reprobuild.images.archive import ArchiveError
from reprobuild.images.manifest import LARGEST, Descriptor, layout_path, read_artifact, read_descriptor
from reprobuild.images.tar_reader import index_tar
from reprobuild.store.store import Store

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
NAME = "org.opencontainers.image.ref.name"
"""The annotation of a manifest in the index that says what it is called."""
AGAIN = "have it exported and copied again"
MOST_MANIFESTS = 1000
MOST_MEMBERS = 100_000
MOST_THREADS = 4

_BLOB = re.compile(r"blobs/sha256/[0-9a-f]{64}")


class Layout:
    """An OCI layout that is open; for many threads."""

    def __init__(self, path: Path, places: Mapping[str, tuple[str, int, int]]) -> None:
        """``places``: the layout's files: name → the file that has it, where in that, bytes."""
        self.path = path
        self._places = places

    @property
    def name(self) -> str:
        return str(self.path)

    def index(self) -> list[Descriptor]:
        """Give the manifests that the layout begins with. Raises CheckFailedError for what is no index."""
        try:
            body = self._read(INDEX_FILE, LARGEST)
            found = json.loads(body)["manifests"]
            if len(found) > MOST_MANIFESTS:
                raise ValueError(f"{len(found):,} manifests")
            return list(map(read_descriptor, found))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._wrong(f"its {INDEX_FILE} makes no sense: {error!r}") from None

    def manifest(self, asked: str, *, attempts: int = 1) -> Carried | None:
        for one in self.index():
            if asked in (str(one.digest), one.annotations.get(NAME)):
                return Carried(self.read(one, LARGEST), one.media_type)
        return None

    def read(self, one: Descriptor, limit: int) -> bytes:
        check_limit(one, limit, self.name)
        body = self._read(layout_path(one.digest), limit)
        if Digest.of(body) != one.digest or len(body) != one.size:
            raise self._wrong(f"{one.digest} has other bytes than its name says")
        return body

    def referrers(self, subject: Digest) -> Sequence[Descriptor]:
        found = []
        for one in self.index():
            if one.digest == subject:
                continue
            artifact = read_artifact(self.read(one, LARGEST), self.name)
            if artifact.subject == subject:
                found.append(
                    Descriptor(
                        one.media_type,
                        one.digest,
                        one.size,
                        annotations=artifact.annotations,
                        artifact_type=artifact.artifact_type,
                    )
                )
        return found

    def bring(self, wanted: Sequence[Wanted], store: Store, tell: Tell) -> int:
        wanted = [one for one in wanted if one.take is not None or not store.blobs.has(one.digest)]
        for one in wanted:
            tell(FetchStarted(one.name, one.size))
        stop = threading.Event()
        with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
            jobs = [pool.submit(self._bring, one, store, stop) for one in wanted]
            try:
                for one, job in zip(wanted, jobs, strict=True):
                    job.result()
                    tell(FetchFinished(one.name, one.size))
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
        return sum(one.size for one in wanted)

    def _bring(self, one: Wanted, store: Store, stop: threading.Event) -> None:
        with self._opened(layout_path(one.digest)) as (file, size):
            if size != one.size:
                raise self._wrong(f"{one.digest} has {size:,} bytes where {one.size:,} are announced")
            checked = _Checked(file, one, self.name, stop)
            if one.take is not None:
                one.take(checked)
                return
            with store.transaction() as group:
                group.add_stream(checked)

    def _read(self, name: str, limit: int) -> bytes:
        with self._opened(name) as (file, size):
            if size > limit:
                raise self._wrong(f"{name} has {size:,} bytes; {limit:,} are read")
            data = file.read(size)
        if len(data) != size:
            raise self._wrong(f"{name} is cut off")
        return data

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[BinaryIO, int]]:
        """Give a file of the layout, and its size; the file may go on after it."""
        if name not in self._places:
            raise self._wrong(f"it has no {name}")
        path, offset, size = self._places[name]
        try:
            with open(path, "rb", buffering=0) as file:
                file.seek(offset)
                yield file, size
        except OSError as error:
            raise OutsideError(f"{path} cannot be read: {error.strerror or error}") from error

    def _wrong(self, what: str) -> CheckFailedError:
        return CheckFailedError(f"{self.path}: {what}", AGAIN)


def open_layout(path: Path) -> Layout | None:
    """Open an OCI layout; None for what is none, or is not even a file or folder.

    Raises CheckFailedError for an archive that begins as one and cannot be read to its end, or that has a
    name twice, OutsideError for what cannot be read at all.
    """
    try:
        if path.is_dir():
            return _open_folder(path)
        if not path.is_file():
            return None
        with open(path, "rb", buffering=0) as file:
            return _open_archive(path, file)
    except OSError as error:
        raise OutsideError(f"{path} cannot be read: {error.strerror or error}") from error


def _open_folder(path: Path) -> Layout | None:
    if not (path / LAYOUT_FILE).is_file():
        return None
    files = (path / INDEX_FILE, *(path / "blobs" / "sha256").glob("*"))
    places = {
        str(one.relative_to(path)): (str(one), 0, one.stat().st_size)
        for one in files
        if one.is_file() and not one.is_symlink()
    }
    return Layout(path, places)


def _open_archive(path: Path, file: BinaryIO) -> Layout | None:
    places: dict[str, tuple[str, int, int]] = {}
    is_layout = False
    try:
        for count, (member, offset) in enumerate(index_tar(file)):
            if count >= MOST_MEMBERS:
                raise ArchiveError(f"it has more than {MOST_MEMBERS:,} members")
            is_layout = is_layout or member.path == LAYOUT_FILE
            if member.kind != "f" or not (member.path == INDEX_FILE or _BLOB.fullmatch(member.path)):
                continue
            if member.path in places:
                raise ArchiveError(f"it has {member.path} twice")
            places[member.path] = (str(path), offset, member.size)
    except ArchiveError as error:
        if not is_layout:
            return None
        raise CheckFailedError(f"{path}: {error.message}", AGAIN) from None
    return Layout(path, places) if is_layout else None


class _Checked:
    """A part of a file, whose end is given only where all of it fits a digest."""

    def __init__(self, file: BinaryIO, wanted: Wanted, name: str, stop: threading.Event) -> None:
        self._file = file
        self._size = wanted.size
        self._digest = wanted.digest
        self._name = name
        self._stop = stop
        self._hasher = hashlib.sha256()
        self._position = 0
        self._hashed = 0
        """Bytes from the beginning that are hashed: whoever goes back reads some twice."""

    def read(self, size: int) -> bytes:
        """Give at most ``size`` bytes; ``b""`` at the end. Raises CheckFailedError instead of a wrong end."""
        if self._stop.is_set():
            raise Stopped
        data = self._file.read(min(size, self._size - self._position))
        new = self._position + len(data) - self._hashed
        if new > 0:
            self._hasher.update(memoryview(data)[-new:])
            self._hashed += new
        self._position += len(data)
        if not data and size:
            self._check_end()
        return data

    def seek(self, offset: int, whence: int) -> int:
        """Go back in what has been read."""
        assert whence == os.SEEK_CUR
        assert -self._position <= offset <= 0
        self._file.seek(offset, os.SEEK_CUR)
        self._position += offset
        return self._position

    def _check_end(self) -> None:
        if self._position < self._size:
            raise CheckFailedError(f"{self._name} is cut off", AGAIN)
        if self._hasher.hexdigest() != self._digest.hex:
            raise CheckFailedError(
                f"{self._name}: {self._digest} has other bytes than its name says",
                AGAIN,
            )
