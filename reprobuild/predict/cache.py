"""The prediction cache: sealed outputs by key, in a diskcache folder of the store.

Knows nothing of predictors or of how keys are made. Any number of processes use one cache at once;
a prediction that does not fit its own digest counts as missing, and is told.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from reprobuild.errors import CheckFailedError, OutsideError
from reprobuild.predict import bulk
from reprobuild.predict.sealed import Prediction, has_coped, seal, unseal
from reprobuild.store.file_system import is_network_file_system
from reprobuild.value import Value


class Found(Value):
    """What a look-up gave."""

    outputs: dict[bytes, bytes]
    """Key → output, whose digest has been checked."""
    broken: tuple[bytes, ...]
    """Keys whose predictions do not fit their digests: to be computed again, and replaced."""
    coped: tuple[bytes, ...] = ()
    """Keys whose predictions were made without something that was refused, where those are not wanted."""


class Stats(Value):
    """How much is kept, and where."""

    folder: Path
    predictions: int
    size: int
    """Bytes on disk, database and files."""


class PredictionCache:
    """Predictions by key (32 bytes). Safe for threads, forks, and processes at once."""

    def __init__(self, folder: Path) -> None:
        """Take a folder that ``open`` has made."""
        self.folder = folder
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    @classmethod
    def open(cls, store: Path, environment: Mapping[str, str] = os.environ) -> PredictionCache:
        """Open the cache of a store, making it where it is missing.

        Raises OutsideError where the folder can't be written to.
        """
        folder = cache_folder(store, environment)
        cache = cls(folder)
        try:
            if not _is_complete(folder):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                with _locked(store / "locks" / "predictions"):
                    if not _is_complete(folder):
                        _make(folder)
        except OSError as error:
            raise OutsideError(
                f"the prediction cache {folder} can't be used: {error.strerror or error}",
                "give --store a folder that you can write to, or use --cache off",
            ) from None
        except sqlite3.OperationalError as error:
            raise _unusable(folder, error) from None
        except sqlite3.DatabaseError as error:
            raise _damaged(folder, error) from None
        return cache

    def get_many(self, keys: Sequence[bytes], *, strict: bool = False) -> Found:
        """Look keys up, and check the digest of each prediction that is there.

        ``strict``: without those of commands that coped with a refusal.
        """
        with self._connected() as connection:
            kept = bulk.read_many(connection, keys)
        outputs: dict[bytes, bytes] = {}
        broken, coped = [], []
        begin = hashlib.sha256().copy
        for key, value in kept.items():
            # What unseal does, without a call for each: this loop is a third of a cached prediction.
            if type(value) is str:
                value = bulk.read_file(self.folder, value)
            if type(value) is bytes:
                hasher = begin()
                hasher.update(key + value[32:])
                if hasher.digest() == value[:32]:
                    end = value.find(b"\n", 32)
                    if strict and has_coped(value[32:end]):
                        coped.append(key)
                    else:
                        outputs[key] = value[end + 1 :]
                    continue
            broken.append(key)
        return Found(outputs, tuple(broken), tuple(coped))

    def get(self, key: bytes) -> Prediction | None:
        """Give one prediction with its provenance; None where there is none that fits its digest."""
        with self._connected() as connection:
            value = bulk.read_many(connection, [key]).get(key)
        return unseal(key, bulk.read_file(self.folder, value) if isinstance(value, str) else value)

    def put_many(
        self,
        outputs: Iterable[tuple[bytes, bytes]],
        provenance: bytes,
        *,
        tag: str,
        replace: bool = False,
    ) -> None:
        """Keep outputs under keys, all or none.

        ``tag``: what a person calls the predictor; ``replace``: whether they take the place of what is there.
        """
        sealed = [(key, seal(key, provenance, output)) for key, output in outputs]
        with self._connected() as connection:
            bulk.write_many(connection, self.folder, sealed, tag=tag, replace=replace)

    def rows(self, tag: str | None = None) -> Iterator[bulk.Row]:
        """Give every row as it is kept, unchecked; or those of one predictor, in the order of their keys."""
        with self._connected() as connection:
            yield from bulk.read_all(connection, tag)

    def damage(self) -> list[str]:
        """Give what SQLite finds wrong with its file: nothing where it is sound."""
        with self._connected() as connection:
            lines = [line for (line,) in connection.execute("PRAGMA quick_check(10)")]
        return [] if lines == ["ok"] else lines

    def discard(self, rowids: Iterable[int]) -> None:
        """Forget rows."""
        with self._connected() as connection:
            bulk.delete_rows(connection, rowids)

    def sweep(self, *, age: float = 3600.0) -> int:
        """Remove the files that no prediction names and that are older than ``age`` seconds.

        Gives their bytes.
        """
        removed = 0
        with self._connected() as connection:
            for path in bulk.stray_files(connection, self.folder, age=age):
                size = path.stat().st_size
                path.unlink(missing_ok=True)
                removed += size
        return removed

    def stats(self) -> Stats:
        """Count what is kept."""
        with self._connected() as connection:
            (count,) = connection.execute("SELECT count(*) FROM Cache").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (page,) = connection.execute("PRAGMA page_size").fetchone()
            (files,) = connection.execute("SELECT coalesce(sum(size), 0) FROM Cache").fetchone()
        return Stats(self.folder, count, pages * page + files)

    def close(self) -> None:
        """Let go of the database; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def __enter__(self) -> PredictionCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None or self._pid != os.getpid():
                    self._connection = bulk.connect(self.folder)
                    self._pid = os.getpid()
                yield self._connection
            except sqlite3.OperationalError as error:
                raise _unusable(self.folder, error) from None
            except sqlite3.DatabaseError as error:
                raise _damaged(self.folder, error) from None


def cache_folder(store: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Give the folder of a store's predictions: in it, or on local disk where the store is on a network.

    SQLite's write-ahead log needs memory that all users share, which no network file system gives.
    """
    if not is_network_file_system(store):
        return store / "predictions"
    home = environment.get("HOME") or os.path.expanduser("~")
    caches = environment.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    base = Path(caches)
    if is_network_file_system(base):
        base = Path(environment.get("TMPDIR") or "/tmp") / f"reprobuild-{os.getuid()}"
    name = hashlib.sha256(os.fsencode(store.absolute())).hexdigest()[:16]
    return base / "reprobuild" / f"predictions-{name}"


def _is_complete(folder: Path) -> bool:
    """Whether diskcache has made its whole schema here; the last thing that it makes is this trigger."""
    if not (folder / bulk.DATABASE).exists():
        return False
    with contextlib.closing(bulk.connect(folder)) as connection:
        found = connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name = 'Settings_size_delete'"
        )
        return bool(found.fetchone()[0])


def _make(folder: Path) -> None:
    from reprobuild.predict.disk import open_diskcache

    open_diskcache(folder).close()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unusable(folder: Path, error: sqlite3.OperationalError) -> OutsideError:
    return OutsideError(
        f"the prediction cache {folder} can't be used: {error}",
        "see whether the disk is full, or another process holds it; predict --cache off does without",
    )


def _damaged(folder: Path, error: sqlite3.DatabaseError) -> CheckFailedError:
    return CheckFailedError(
        f"the prediction cache {folder} is damaged: {error}",
        f"rm -r {folder}: everything in it can be computed again",
    )
