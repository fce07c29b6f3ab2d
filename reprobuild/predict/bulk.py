"""Many predictions at once, straight on diskcache's table, so that diskcache still reads each.

Knows nothing of what the values mean, nor of how the table came to be (``cache``). diskcache spends
some 50 microseconds on a write and 13 on a read; a statement for thousands of keys spends 7 and 2.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

DATABASE = "cache.db"
"""diskcache's own file name."""
LARGEST_ROW = 128 * 1024
"""Bytes: larger values are files of their own, as diskcache keeps them."""
LOG_PAGES = 8192
"""Of the write-ahead log, before it goes into the database: a transaction of thousands of keys touches most
pages of the index, and each that is touched again meanwhile is copied once."""
BUSY_SECONDS = 60.0
"""How long a writer waits for another one."""
MAPPED_BYTES = 64 * 1024 * 1024
"""Of the database that a reader maps: counted as memory of ours, and more is hardly faster."""

RAW = 1
"""diskcache's mode of values that stand in the row."""
BINARY = 2
"""diskcache's mode of values that are files."""

COUNTED = "WHEN NEW.access_count = 0"
"""Which new rows the triggers count."""
_VARIABLES = 8192 if sqlite3.sqlite_version_info >= (3, 32) else 999
"""Keys of one SELECT: sqlite.org/limits.html, number 9."""

_INSERT = (
    "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, access_count, tag, size, mode,"
    " filename, value) VALUES"
)
_UPDATE = (
    "UPDATE SET store_time = excluded.store_time, access_time = excluded.access_time,"
    " access_count = excluded.access_count, expire_time = NULL, tag = excluded.tag,"
    " size = excluded.size, mode = excluded.mode, filename = excluded.filename, value = excluded.value"
)


class Written(NamedTuple):
    """Values that are on their way into the table."""

    small: Sequence[tuple[bytes, bytes]]
    """Keys with values that will stand in their rows."""
    large: Sequence[tuple[bytes, int, str]]
    """Keys with the sizes and the names of files."""


class Row(NamedTuple):
    """One row of diskcache's table."""

    rowid: int
    key: bytes
    tag: str
    mode: int
    filename: str | None
    value: bytes | None


def connect(folder: Path) -> sqlite3.Connection:
    """Open the database of a diskcache folder, which must be there; usable from one thread at a time."""
    connection = sqlite3.connect(
        f"file:{_quoted(folder / DATABASE)}?mode=rw",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA cache_size = -32768")
    connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}")
    return connection


def read_many(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, object]:
    """Give what is kept under keys, in any order: bytes, or a text that names the file of a large value."""
    found: dict[bytes, object] = {}
    for start in range(0, len(keys), _VARIABLES):
        part = keys[start : start + _VARIABLES]
        marks = ",".join("?" * len(part))
        statement = f"SELECT key, ifnull(filename, value) FROM Cache WHERE raw = 1 AND key IN ({marks})"
        found.update(connection.execute(statement, part).fetchall())
    return found


def missing(connection: sqlite3.Connection, keys: Sequence[bytes]) -> set[bytes]:
    """Give those of some keys under which nothing is kept."""
    left = set(keys)
    for start in range(0, len(keys), _VARIABLES):
        part = keys[start : start + _VARIABLES]
        marks = ",".join("?" * len(part))
        found = connection.execute(f"SELECT key FROM Cache WHERE raw = 1 AND key IN ({marks})", part)
        left.difference_update(key for (key,) in found)
    return left


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do a block of writes whole or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def without_waiting(connection: sqlite3.Connection) -> Iterator[None]:
    """Let statements in a block fail at once where somebody else is writing."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")


def write_files(folder: Path, items: Iterable[tuple[bytes, bytes]]) -> Written:
    """Write and sync what becomes files; give all values by their keys, in the order of keys."""
    ordered = sorted(items)
    if all(len(value) < LARGEST_ROW for _, value in ordered):
        return Written(ordered, [])
    small = [pair for pair in ordered if len(pair[1]) < LARGEST_ROW]
    large = [
        (key, len(value), _write_file(folder, value)) for key, value in ordered if len(value) >= LARGEST_ROW
    ]
    return Written(small, large)


def write_rows(
    connection: sqlite3.Connection, written: Written, *, tag: str, making: int, replace: bool
) -> None:
    """Keep values under keys, inside a transaction.

    ``making``: the number of what they were made with, 0 where that is not known (``makings``);
    ``replace``: whether a value that is there already gives way (its file stays, for ``gc``: a reader
    may be at it).
    """
    now = repr(time.time())
    quoted = "'" + tag.replace("'", "''").replace("\0", "") + "'"
    same = f"?, 1, {now}, NULL, {now}, {int(making)}, {quoted}"  # of all rows: binding them takes a tenth
    then = " ON CONFLICT (key, raw) DO " + (_UPDATE if replace else "NOTHING")
    count = size = 0
    new: Collection[bytes] = ()
    if replace:
        keys = {*(key for key, _ in written.small), *(key for key, _, _ in written.large)}
        new = keys - read_many(connection, list(keys)).keys()
    if written.small:
        done = connection.executemany(f"{_INSERT} ({same}, 0, {RAW}, NULL, ?){then}", written.small)
        count = done.rowcount
    for key, length, filename in written.large:
        values = (key, length, filename)
        done = connection.execute(f"{_INSERT} ({same}, ?, {BINARY}, ?, NULL){then}", values)
        count += done.rowcount
        size += length if (key in new if replace else done.rowcount) else 0
    if making:
        changes = [(len(new) if replace else count, "count"), (size, "size")]
        connection.executemany("UPDATE Settings SET value = value + ? WHERE key = ?", changes)


def replace_triggers(connection: sqlite3.Connection) -> None:
    """Let diskcache's counters leave rows of makings to ``write_rows``, which counts many at once.

    Two triggers for each row took a third of the time of writing it.
    """
    with transaction(connection):
        for name, change in (("size", "NEW.size"), ("count", "1")):
            connection.execute(f"DROP TRIGGER IF EXISTS Settings_{name}_insert")
            connection.execute(
                f"CREATE TRIGGER Settings_{name}_insert AFTER INSERT ON Cache FOR EACH ROW {COUNTED}"
                f" BEGIN UPDATE Settings SET value = value + {change} WHERE key = '{name}'; END"
            )


def read_all(
    connection: sqlite3.Connection, tag: str | None = None, making: int | None = None
) -> Iterator[Row]:
    """Give every row, in the order in which they lie in the file; or those with a tag and a making, in that
    of keys.
    """
    statement = "SELECT rowid, key, tag, mode, filename, value FROM Cache"
    asked = {"tag": tag, "access_count": making}
    chosen = {column: value for column, value in asked.items() if value is not None}
    where = " AND ".join(f"{column} = ?" for column in chosen)
    order = f"WHERE {where} ORDER BY key" if chosen else "ORDER BY rowid"
    cursor = connection.execute(f"{statement} {order}", tuple(chosen.values()))
    while rows := cursor.fetchmany(1024):
        yield from map(Row._make, rows)


def delete_rows(connection: sqlite3.Connection, rowids: Iterable[int]) -> None:
    """Forget rows, inside a transaction; their files stay for ``stray_files``."""
    connection.executemany("DELETE FROM Cache WHERE rowid = ?", [(rowid,) for rowid in rowids])


def read_file(folder: Path, filename: object) -> bytes | None:
    """Read the file of a value; None where there is none, or where its name leads elsewhere."""
    if not _is_inside(filename):
        return None
    try:
        return (folder / str(filename)).read_bytes()
    except OSError:
        return None


def remove_file(folder: Path, filename: object) -> None:
    """Remove the file of a value, if there is one, and its name does not lead elsewhere."""
    if _is_inside(filename):
        with contextlib.suppress(OSError):
            (folder / str(filename)).unlink()


def _is_inside(filename: object) -> bool:
    return isinstance(filename, str) and ".." not in filename.split("/") and not filename.startswith("/")


def stray_files(connection: sqlite3.Connection, folder: Path, *, age: float) -> list[Path]:
    """Give the value files that no row names and that are older than ``age`` seconds.

    A kill between file and row leaves one, and so does a value that gave way. Younger ones may be
    the work of a process that has not come to its rows yet.
    """
    kept = {name for (name,) in connection.execute("SELECT filename FROM Cache WHERE filename IS NOT NULL")}
    oldest = time.time() - age
    files = (path for path in folder.glob("??/??/*.val") if str(path.relative_to(folder)) not in kept)
    return sorted(path for path in files if path.is_file() and path.stat().st_ctime < oldest)


def _write_file(folder: Path, value: bytes) -> str:
    """Write a value as diskcache does, ``xx/yy/<28 hex digits>.val``, and sync it; give its name."""
    name = os.urandom(16).hex()
    relative = f"{name[:2]}/{name[2:4]}/{name[4:]}.val"
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb", buffering=0) as file:
        view = memoryview(value)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())
    return relative


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path.absolute()))
