"""What others keep results in: each as it is used, in batches where it can, without digests and provenance.

Knows nothing of predictions of ours.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

BATCH = 8192
SLOW_COUNT = 5000
"""Items for peers that take one call, or one file, for each."""

Pairs = Sequence[tuple[bytes, bytes]]


class Peer(Protocol):
    """Something that keeps values under keys."""

    needs: str
    """The module without which it can't be measured."""
    is_slow: bool

    def __init__(self, folder: Path) -> None: ...

    def write(self, pairs: Pairs) -> None:
        """Keep a batch."""

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Give what is kept; None for what is not."""

    def close(self) -> None:
        """Let go."""


class Diskcache:
    """diskcache as it comes: one call for each item."""

    needs = "diskcache"
    is_slow = True

    def __init__(self, folder: Path) -> None:
        import diskcache  # type: ignore[import-untyped]

        self._cache = diskcache.Cache(str(folder))

    def write(self, pairs: Pairs) -> None:
        for key, value in pairs:
            self._cache[key] = value

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._cache.get(key) for key in keys]

    def close(self) -> None:
        self._cache.close()


class Joblib:
    """joblib.Memory: one file for each item, looked up by calling a function that is remembered."""

    needs = "joblib"
    is_slow = True

    def __init__(self, folder: Path) -> None:
        import joblib  # type: ignore[import-not-found]

        self._values: dict[bytes, bytes] = {}
        self._remembered = joblib.Memory(str(folder), verbose=0).cache(self._values.__getitem__)

    def write(self, pairs: Pairs) -> None:
        self._values.update(pairs)
        for key, _ in pairs:
            self._remembered(key)

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._remembered(key) if self._remembered.check_call_in_cache(key) else None for key in keys]

    def close(self) -> None:
        self._values.clear()


class Sqlite:
    """A bare table of SQLite without rowid, in batches."""

    needs = "sqlite3"
    is_slow = False

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("CREATE TABLE kept (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

    def write(self, pairs: Pairs) -> None:
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT INTO kept VALUES (?, ?)", sorted(pairs))
        self._connection.execute("COMMIT")

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        statement = f"SELECT key, value FROM kept WHERE key IN ({','.join('?' * len(keys))})"
        found = dict(self._connection.execute(statement, keys).fetchall())
        return [found.get(key) for key in keys]

    def close(self) -> None:
        self._connection.close()


class Lmdb:
    """LMDB, in batches."""

    needs = "lmdb"
    is_slow = False

    def __init__(self, folder: Path) -> None:
        import lmdb  # type: ignore[import-not-found]

        folder.mkdir(parents=True)
        self._environment = lmdb.open(str(folder), map_size=1 << 32)

    def write(self, pairs: Pairs) -> None:
        with self._environment.begin(write=True) as transaction:
            for key, value in pairs:
                transaction.put(key, value)

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._environment.begin() as transaction:
            return [transaction.get(key) for key in keys]

    def close(self) -> None:
        self._environment.close()


class JsonLines:
    """A JSON Lines file that is read into a dict: the whole of it for any look-up."""

    needs = "json"
    is_slow = False

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._path = folder / "kept.jsonl"
        self._path.touch()
        self._kept: dict[str, str] | None = None

    def write(self, pairs: Pairs) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            for key, value in pairs:
                file.write(json.dumps([key.hex(), value.decode()]) + "\n")
        self._kept = None

    def read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if self._kept is None:
            with open(self._path, encoding="utf-8") as file:
                self._kept = dict(map(json.loads, file))
        found = (self._kept.get(key.hex()) for key in keys)
        return [None if value is None else value.encode() for value in found]

    def close(self) -> None:
        self._kept = None


PEERS: dict[str, type[Peer]] = {
    "diskcache": Diskcache,
    "joblib.Memory": Joblib,
    "SQLite": Sqlite,
    "LMDB": Lmdb,
    "JSON Lines and a dict": JsonLines,
}


def measure(kind: type[Peer], folder: Path, pairs: Pairs) -> tuple[float, float] | None:
    """Give items a second that a peer keeps, and looks up; None where it is not installed."""
    if importlib.util.find_spec(kind.needs) is None:
        return None
    pairs = pairs[:SLOW_COUNT] if kind.is_slow else pairs
    peer = kind(folder)

    def write() -> None:
        for part in batches(pairs):
            peer.write(part)

    def read() -> None:
        for part in batches(pairs):
            assert peer.read([key for key, _ in part]) == [value for _, value in part]

    try:
        return timed(len(pairs), write), timed(len(pairs), read)
    finally:
        peer.close()


def file_to_file(kind: type[Peer], folder: Path, source: Path) -> tuple[float, float] | None:
    """Do the least that a prediction does: read records, make keys, look them up in a peer, keep what is new
    (a record is its own result), write the results in order.

    Gives items a second for new ones and for cached ones, within a process that runs already.
    """
    if importlib.util.find_spec(kind.needs) is None:
        return None
    limit = SLOW_COUNT if kind.is_slow else None
    folder.parent.mkdir(parents=True, exist_ok=True)
    peer = kind(folder)
    destination = folder.parent / "out.jsonl"
    try:
        rates = []
        for _ in range(2):
            started = time.perf_counter()
            count = _predict(peer, source, destination, limit)
            rates.append(count / (time.perf_counter() - started))
        return rates[0], rates[1]
    finally:
        peer.close()


def _predict(peer: Peer, source: Path, destination: Path, limit: int | None) -> int:
    count = 0
    with open(source, "rb") as given, open(destination, "wb") as written:
        lines = itertools.islice(given, limit)
        while chunk := list(itertools.islice(lines, BATCH)):
            records = [orjson.dumps(orjson.loads(line), option=orjson.OPT_SORT_KEYS) for line in chunk]
            keys = [hashlib.sha256(record).digest() for record in records]
            found = peer.read(keys)
            new = [
                (key, record) for key, record, kept in zip(keys, records, found, strict=True) if kept is None
            ]
            if new:
                peer.write(new)
            outputs = (kept or record for record, kept in zip(records, found, strict=True))
            written.write(b"\n".join(outputs) + b"\n")
            count += len(chunk)
    return count


def timed(count: int, work: Callable[[], Any]) -> float:
    """Give items a second."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def batches(pairs: Pairs) -> Iterator[Pairs]:
    """Cut pairs into what one call takes."""
    return (pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH))
