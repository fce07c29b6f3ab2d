"""What predictions were made with, kept once for all that share it, and a sample of their inputs.

Two tables beside diskcache's in its file; ``docs/predictions.md`` specifies them. A *making* is the canonical
JSON that the keys of a call have in common, so whoever has a record can tell its key under every making.
Knows nothing of what a making says, nor of outputs.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from reprobuild.value import Value

ALWAYS = 256
"""Inputs of a making that are kept in any case."""
SHARE = 16
"""Beyond that, inputs are kept whose keys begin with a byte below this: one in sixteen."""
LARGEST_INPUT = 1 << 20
"""Bytes of an input that is kept."""
LAST_TABLE = "Input"

TABLES = (
    "CREATE TABLE IF NOT EXISTS Making (number INTEGER PRIMARY KEY AUTOINCREMENT,"
    " digest BLOB NOT NULL UNIQUE, tag TEXT NOT NULL, body BLOB NOT NULL, used REAL NOT NULL,"
    " items INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0,"
    " hits INTEGER NOT NULL DEFAULT 0, inputs INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE IF NOT EXISTS Input (key BLOB PRIMARY KEY, making INTEGER NOT NULL, record BLOB NOT NULL)"
    " WITHOUT ROWID",
)
_FIELDS = "number, digest, tag, body, used, items, seconds, hits"


class Making(Value):
    """What some predictions share: all of their keys but the record."""

    number: int
    """Of its row; ``access_count`` of its predictions, a column that diskcache has no use for here."""
    digest: bytes
    """The sha256 of ``body``."""
    tag: str
    """What a person calls the predictor: ``tutorial/default``."""
    body: bytes
    """Canonical JSON."""
    used: float
    """When it was last predicted with, in seconds since the epoch; an hour or so late at times."""
    items: int
    """Records that were computed and kept."""
    seconds: float
    """How long that took."""
    hits: int
    """Records that were answered from the cache."""

    @property
    def is_whole(self) -> bool:
        """Whether the body is what was written."""
        return type(self.body) is bytes and hashlib.sha256(self.body).digest() == self.digest

    @cached_property
    def parts(self) -> Mapping[str, Any]:
        """What the body says; nothing where it is damaged."""
        found = json.loads(self.body) if self.is_whole else {}
        return found if isinstance(found, dict) else {}

    @property
    def pace(self) -> float:
        """Seconds that a record took."""
        return self.seconds / self.items if self.items else 0.0

    def key_of(self, record: bytes) -> bytes:
        """Give the key of a canonical record, or for batch scope of a canonical list of records."""
        return hashlib.sha256(b"%b\n%b" % (self.body, record)).digest()


class Input(NamedTuple):
    """An input of a prediction that was kept."""

    key: bytes
    making: int
    record: bytes
    """As it entered the key."""


def make_tables(connection: sqlite3.Connection) -> None:
    """Make what is missing; with a connection in autocommit mode."""
    for statement in TABLES:
        connection.execute(statement)


def number_of(connection: sqlite3.Connection, body: bytes, tag: str) -> int:
    """Give the number of a making, keeping it where it is new; inside a transaction."""
    digest = hashlib.sha256(body).digest()
    connection.execute(
        "INSERT INTO Making (digest, tag, body, used) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (digest) DO UPDATE SET used = excluded.used",
        (digest, tag, body, time.time()),
    )
    (number,) = connection.execute("SELECT number FROM Making WHERE digest = ?", (digest,)).fetchone()
    return int(number)


def keep_inputs(
    connection: sqlite3.Connection, number: int, keys: Sequence[bytes], records: Iterable[bytes]
) -> None:
    """Keep a sample of the inputs of predictions, inside a transaction: so that an audit can recompute.

    ``records``: empty ones are not known.
    """
    (kept,) = connection.execute("SELECT inputs FROM Making WHERE number = ?", (number,)).fetchone()
    rows = [
        Input(key, number, record)
        for place, (key, record) in enumerate(zip(keys, records, strict=True), start=kept)
        if (key[0] < SHARE or place < ALWAYS) and 0 < len(record) <= LARGEST_INPUT
    ]
    if rows:
        connection.executemany("INSERT OR IGNORE INTO Input VALUES (?, ?, ?)", sorted(rows))
        connection.execute("UPDATE Making SET inputs = inputs + ? WHERE number = ?", (len(rows), number))


def add_computed(connection: sqlite3.Connection, number: int, items: int, seconds: float) -> None:
    """Count records that were computed."""
    statement = "UPDATE Making SET items = items + ?, seconds = seconds + ? WHERE number = ?"
    connection.execute(statement, (items, seconds, number))


def add_hits(connection: sqlite3.Connection, hits: Mapping[bytes, int]) -> None:
    """Count records that were answered from the cache; ``hits``: by the digests of their makings."""
    now = time.time()
    connection.executemany(
        "UPDATE Making SET hits = hits + ?, used = ? WHERE digest = ?",
        [(count, now, digest) for digest, count in hits.items()],
    )


def makings(connection: sqlite3.Connection) -> list[Making]:
    """Give all makings, in the order in which they came."""
    found = connection.execute(f"SELECT {_FIELDS} FROM Making ORDER BY number")
    return [Making(*row) for row in found]


def making_of(connection: sqlite3.Connection, body: bytes) -> Making | None:
    """Give the making with a body, if it was kept."""
    digest = hashlib.sha256(body).digest()
    row = connection.execute(f"SELECT {_FIELDS} FROM Making WHERE digest = ?", (digest,)).fetchone()
    return None if row is None else Making(*row)


def inputs(connection: sqlite3.Connection, number: int | None = None) -> Iterator[Input]:
    """Give the inputs that are kept, in the order of their keys; or those of one making."""
    statement = "SELECT key, making, record FROM Input"
    if number is None:
        cursor = connection.execute(f"{statement} ORDER BY key")
    else:
        cursor = connection.execute(f"{statement} WHERE making = ? ORDER BY key", (number,))
    while rows := cursor.fetchmany(1024):
        yield from map(Input._make, rows)


def sample(connection: sqlite3.Connection, numbers: Sequence[int], count: int) -> list[Input]:
    """Give some inputs of makings, by chance, of those whose predictions are kept."""
    listed = ",".join(str(int(number)) for number in numbers)
    found = connection.execute(
        f"SELECT key, making, record FROM Input WHERE making IN ({listed})"
        " AND EXISTS (SELECT 1 FROM Cache WHERE Cache.key = Input.key AND raw = 1) ORDER BY random() LIMIT ?",
        (count,),
    )
    return [Input(*row) for row in found]


def forget_inputs(connection: sqlite3.Connection, keys: Iterable[bytes]) -> None:
    """Forget inputs, by their keys."""
    connection.executemany("DELETE FROM Input WHERE key = ?", [(key,) for key in keys])


def forget_makings(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Forget makings and their inputs: their predictions stay."""
    chosen = [(number,) for number in numbers]
    connection.executemany("DELETE FROM Input WHERE making = ?", chosen)
    connection.executemany("DELETE FROM Making WHERE number = ?", chosen)


def prune(connection: sqlite3.Connection) -> None:
    """Forget inputs and makings without predictions; inside a transaction."""
    connection.execute("DELETE FROM Input WHERE key NOT IN (SELECT key FROM Cache WHERE raw = 1)")
    connection.execute("DELETE FROM Making WHERE number NOT IN (SELECT access_count FROM Cache)")
    connection.execute(
        "UPDATE Making SET inputs = (SELECT count(*) FROM Input WHERE Input.making = Making.number)"
    )
