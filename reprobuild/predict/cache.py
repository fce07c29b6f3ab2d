"""The prediction cache: sealed outputs by key, in a diskcache folder of the store.

Knows nothing of predictors or of how keys are made. Any number of processes use one cache at once;
a prediction that does not fit its own digest counts as missing, and is told.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from reprobuild.errors import CheckFailedError, OutsideError, ReprobuildError
from reprobuild.predict import bulk, makings
from reprobuild.predict.makings import Input, Making
from reprobuild.predict.sealed import Prediction, facts_of, has_coped, seal_many, seconds_each, unseal
from reprobuild.store.file_system import MOUNTS, is_network_file_system
from reprobuild.value import Value

HITS_SECONDS = 1.0
"""How long hits are counted before they are written."""

MOST_DAMAGE = 100
"""What SQLite finds wrong with a file is counted so far."""


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
    """Bytes on disk that are in use, database and files."""


class PredictionCache:
    """Predictions by key (32 bytes). Safe for threads, forks, and processes at once."""

    def __init__(self, folder: Path) -> None:
        """Take a folder that ``open`` has made."""
        self.folder = folder
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._hits: dict[bytes, int] = {}
        self._hits_pid = os.getpid()
        self._flushed = 0.0  # what is counted first is written at once: a script may end without close()

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
        with self.connected() as connection:
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
        with self.connected() as connection:
            value = bulk.read_many(connection, [key]).get(key)
        return unseal(key, bulk.read_file(self.folder, value) if isinstance(value, str) else value)

    def put_many(
        self,
        outputs: Iterable[tuple[bytes, bytes]],
        provenance: bytes,
        *,
        tag: str,
        replace: bool = False,
        making: bytes = b"",
        records: Iterable[bytes] = (),
        imports: bool = False,
    ) -> None:
        """Keep outputs under keys, all or none.

        ``tag``: what a person calls the predictor; ``replace``: whether they take the place of what is there;
        ``making``: what their keys share, as ``KeyMaker`` has it; ``records``: the input of each output as it
        entered its key, of which a sample is kept for audits; or none; ``imports``: whether they come from
        elsewhere, so that those that are here count as computed already. Raises ValueError for what is
        no output: nothing, or lines of which the last has no end.
        """
        pairs = list(outputs)
        if wrong := next((key for key, output in pairs if output[-1:] != b"\n"), None):
            raise ValueError(f"the output for {wrong.hex()[:16]} is empty or cut off: it is not kept")
        sealed = seal_many(pairs, provenance)
        with self.connected() as connection:
            written = bulk.write_files(self.folder, sealed)
            with bulk.transaction(connection):
                number = makings.number_of(connection, making, tag) if making else 0
                computed = pairs
                if imports:
                    new = bulk.missing(connection, [key for key, _ in pairs])
                    computed = [pair for pair in pairs if pair[0] in new]
                bulk.write_rows(connection, written, tag=tag, making=number, replace=replace)
                if making and records:
                    makings.keep_inputs(connection, number, [key for key, _ in pairs], records)
                if making:
                    items = sum(output.count(b"\n") for _, output in computed)
                    seconds = items * seconds_each(facts_of(provenance))
                    makings.add_computed(connection, number, items, seconds)

    def hit(self, making: bytes, count: int) -> None:
        """Count records that were answered from the cache, for statistics and for what ``gc`` takes first.

        They are written once a second at most, and at the end; a lock is not waited for.
        """
        if not count:
            return
        with self._lock:
            if self._hits_pid != os.getpid():
                self._hits, self._hits_pid = {}, os.getpid()
            digest = hashlib.sha256(making).digest()
            self._hits[digest] = self._hits.get(digest, 0) + count
            if time.monotonic() - self._flushed > HITS_SECONDS:
                self._flush_hits()

    def makings(self) -> list[Making]:
        """Give what the predictions were made with, in the order in which that came."""
        self.flush()
        with self.connected() as connection:
            return makings.makings(connection)

    def pace(self, making: bytes) -> float | None:
        """Give the seconds that a record took when it was computed; None where nothing was yet."""
        with self.connected() as connection:
            found = makings.making_of(connection, making)
        return found.pace if found is not None and found.items else None

    def inputs(self, making: int | None = None) -> Iterator[Input]:
        """Give the sample of inputs that is kept, unchecked; or that of one making."""
        with self.connected() as connection:
            yield from makings.inputs(connection, making)

    def sample(self, numbers: Sequence[int], count: int) -> list[Input]:
        """Give some of the inputs that are kept of makings and whose predictions are, by chance."""
        with self.connected() as connection:
            return makings.sample(connection, numbers, count)

    def rows(self, tag: str | None = None, making: int | None = None) -> Iterator[bulk.Row]:
        """Give every row as it is kept, unchecked; or those of one predictor, or making, in the order of
        their keys.
        """
        with self.connected() as connection:
            yield from bulk.read_all(connection, tag, making)

    def damage(self) -> list[str]:
        """Give what SQLite finds wrong with its file: nothing where it is sound."""
        with self.connected() as connection:
            found = connection.execute(f"PRAGMA quick_check({MOST_DAMAGE})").fetchall()
        # Some rows hold many lines, under a heading of their own.
        lines = [line for (text,) in found for line in str(text).splitlines()]
        return [] if lines == ["ok"] else [line for line in lines if not line.startswith("***")]

    def discard(
        self, rowids: Iterable[int] = (), *, inputs: Iterable[bytes] = (), numbers: Iterable[int] = ()
    ) -> None:
        """Forget rows, inputs by their keys, and makings by their numbers."""
        with self.connected() as connection, bulk.transaction(connection):
            bulk.delete_rows(connection, rowids)
            makings.forget_inputs(connection, inputs)
            makings.forget_makings(connection, numbers)

    def sweep(self, *, age: float = 3600.0) -> int:
        """Remove the files that no prediction names and that are older than ``age`` seconds.

        Gives their bytes.
        """
        removed = 0
        with self.connected() as connection:
            for path in bulk.stray_files(connection, self.folder, age=age):
                size = path.stat().st_size
                path.unlink(missing_ok=True)
                removed += size
        return removed

    def stats(self) -> Stats:
        """Count what is kept."""
        with self.connected() as connection:
            (count,) = connection.execute("SELECT count(*) FROM Cache").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            (free,) = connection.execute("PRAGMA freelist_count").fetchone()
            (page,) = connection.execute("PRAGMA page_size").fetchone()
            (files,) = connection.execute("SELECT coalesce(sum(size), 0) FROM Cache").fetchone()
        return Stats(self.folder, count, (pages - free) * page + files)

    def flush(self) -> None:
        """Write what was counted, as far as nobody else is writing."""
        with self._lock:
            self._flush_hits()

    def close(self) -> None:
        """Let go of the database; the next use opens it again."""
        with self._lock:
            self._flush_hits()
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def __enter__(self) -> PredictionCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _flush_hits(self) -> None:
        """Statistics are worth no waiting and no failure: what can't be written now waits, or is lost."""
        self._flushed = time.monotonic()
        if not self._hits or self._hits_pid != os.getpid():
            return
        with contextlib.suppress(ReprobuildError, sqlite3.Error), self.connected() as connection:
            with bulk.without_waiting(connection), bulk.transaction(connection):
                makings.add_hits(connection, self._hits)
            self._hits = {}

    @contextlib.contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """Give the connection, in autocommit mode, for as long as the block lasts.

        Other threads wait; what SQLite raises inside becomes OutsideError or CheckFailedError.
        """
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


def cache_folder(
    store: Path, environment: Mapping[str, str] = os.environ, mounts: str | os.PathLike[str] = MOUNTS
) -> Path:
    """Give the folder of a store's predictions: in it, or on local disk where the store is on a network.

    SQLite's write-ahead log needs memory that all users share, which no network file system gives.
    """
    if not is_network_file_system(store, mounts):
        return store / "predictions"
    home = environment.get("HOME") or os.path.expanduser("~")
    caches = environment.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    base = Path(caches)
    if is_network_file_system(base, mounts):
        base = Path(environment.get("TMPDIR") or "/tmp") / f"reprobuild-{os.getuid()}"
    name = hashlib.sha256(os.fsencode(store.absolute())).hexdigest()[:16]
    return base / "reprobuild" / f"predictions-{name}"


def _is_complete(folder: Path) -> bool:
    """Whether the whole schema is here: diskcache's, our tables, and this trigger, which is made last."""
    if not (folder / bulk.DATABASE).exists():
        return False
    with contextlib.closing(bulk.connect(folder)) as connection:
        found = connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE (type = 'table' AND name = ?)"
            " OR (type = 'trigger' AND name = 'Settings_count_insert' AND instr(sql, ?))",
            (makings.LAST_TABLE, bulk.COUNTED),
        )
        return bool(found.fetchone()[0] == 2)


def _make(folder: Path) -> None:
    from reprobuild.predict.disk import open_diskcache

    open_diskcache(folder).close()
    with contextlib.closing(bulk.connect(folder)) as connection:
        makings.make_tables(connection)
        bulk.replace_triggers(connection)


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
    return CheckFailedError(f"the prediction cache {folder} is damaged: {error}", begin_anew(folder))


def begin_anew(folder: Path) -> str:
    """Give the hint for a cache that is damaged as a whole."""
    return (
        "predict --cache off does without it for now, and keeps nothing; "
        f"rm -r {shlex.quote(str(folder))} begins anew: "
        "what was kept is lost, to be computed or imported again"
    )
