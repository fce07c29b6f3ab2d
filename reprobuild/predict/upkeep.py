"""Looking after a prediction cache: what is kept by predictor, what goes when space or an age is asked for.

Nothing goes unless somebody asks: ``cache clear``, or ``gc`` with a limit. Knows nothing of settings.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence

from reprobuild.predict import bulk, makings
from reprobuild.predict.cache import PredictionCache
from reprobuild.value import Value

PART = 20_000
"""Predictions forgotten in one transaction: writers wait meanwhile."""
OVERHEAD = 150
"""Bytes of a row beside its value: two keys of 32, the tag, numbers, and what SQLite's pages need."""

_SIZE = f"ifnull(length(value), size) + {OVERHEAD}"


class Kept(Value):
    """What is kept of a predictor."""

    name: str
    """``RECIPE/PREDICTOR``."""
    predictions: int
    size: int
    """Bytes, about: of the values, and of what a row takes beside them."""
    makings: int
    """In how many ways they were made: images, parameters, devices."""
    oldest: float
    """Seconds since the epoch."""
    newest: float
    computed: int
    """Records that were computed, imported ones among them."""
    seconds: float
    """How long that took."""
    hits: int
    """Records that were answered from the cache."""
    saved: float
    """Seconds that computing those would have taken."""


class Chosen(Value):
    """Predictions that go, or would."""

    predictions: int
    size: int
    """Bytes, about."""


def summaries(cache: PredictionCache) -> list[Kept]:
    """Sum up what is kept, by the names of predictors."""
    made = {one.number: one for one in cache.makings()}
    with cache.connected() as connection:
        rows = connection.execute(
            f"SELECT tag, access_count, count(*), sum({_SIZE}), min(store_time), max(store_time)"
            " FROM Cache GROUP BY tag, access_count"
        ).fetchall()
    found: dict[str, Kept] = {}
    for tag, number, count, size, oldest, newest in rows:
        name = str(tag)
        before = found.get(name, Kept(name, 0, 0, 0, oldest, newest, 0, 0.0, 0, 0.0))
        making = made.get(number)
        found[name] = Kept(
            name,
            before.predictions + count,
            before.size + size,
            before.makings + (making is not None),
            min(before.oldest, oldest),
            max(before.newest, newest),
            before.computed + (making.items if making else 0),
            before.seconds + (making.seconds if making else 0.0),
            before.hits + (making.hits if making else 0),
            before.saved + (making.hits * making.pace if making else 0.0),
        )
    return [found[name] for name in sorted(found)]


def clear(
    cache: PredictionCache,
    names: Sequence[str] = (),
    *,
    before: float | None = None,
    dry_run: bool = False,
) -> Chosen:
    """Forget predictions: all, or those of predictors, or those that were kept before a time.

    ``names``: recipes, or ``RECIPE/PREDICTOR``; ``before``: seconds since the epoch.
    """
    where: list[str] = ["1"]
    values: list[object] = []
    if names:
        where.append(
            "(" + " OR ".join("tag = ?" if "/" in name else "substr(tag, 1, ?) = ?" for name in names) + ")"
        )
        for name in names:
            values += [name] if "/" in name else [len(name) + 1, f"{name}/"]
    if before is not None:
        where.append("store_time < ?")
        values.append(before)
    chosen = f"SELECT rowid, {_SIZE}, filename FROM Cache WHERE {' AND '.join(where)} ORDER BY rowid"
    return _take(cache, chosen, tuple(values), None, dry_run=dry_run)


def enforce(cache: PredictionCache, limit: int, *, dry_run: bool = False) -> Chosen:
    """Forget predictions until what is kept takes no more than ``limit`` bytes.

    First those that were made in the way that was not predicted with for longest; of these the oldest.
    """
    chosen = (
        f"SELECT rowid, {_SIZE}, filename FROM Cache LEFT JOIN Making ON number = access_count"
        " ORDER BY ifnull(used, store_time), store_time, Cache.rowid"
    )
    cache.flush()
    total = Chosen(0, 0)
    while (excess := cache.stats().size - limit) > 0:
        taken = _take(cache, chosen, (), excess, dry_run=dry_run)
        total = Chosen(total.predictions + taken.predictions, total.size + taken.size)
        if dry_run or not taken.predictions:
            break
    return total


def _take(
    cache: PredictionCache, chosen: str, values: tuple[object, ...], excess: int | None, *, dry_run: bool
) -> Chosen:
    """Forget the rows of a query, in its order; with ``excess``, until so many bytes are gone."""
    with cache.connected() as connection:
        rows: list[tuple[int, int, str | None]] = []
        size = 0
        for row in connection.execute(chosen, values):
            if excess is not None and size >= excess:
                break
            rows.append(row)
            size += row[1]
        if not dry_run and rows:
            for start in range(0, len(rows), PART):
                part = rows[start : start + PART]
                with bulk.transaction(connection):
                    bulk.delete_rows(connection, [rowid for rowid, _, _ in part])
                for _, _, filename in part:
                    bulk.remove_file(cache.folder, filename)
            with bulk.transaction(connection):
                makings.prune(connection)
            _shrink(connection)
    return Chosen(len(rows), size)


def _shrink(connection: sqlite3.Connection) -> None:
    """Give the space of the log back, where nobody is reading: else a later writer does it."""
    with contextlib.suppress(sqlite3.OperationalError), bulk.without_waiting(connection):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
