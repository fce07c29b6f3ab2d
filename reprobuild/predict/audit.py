"""The audit of remembered predictions: each against its own digest.

Knows nothing of how predictions are made: whether an output is what the predictor would give again
is for recomputing to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reprobuild.errors import CheckFailedError, ReprobuildError
from reprobuild.predict import bulk
from reprobuild.predict.cache import MOST_DAMAGE, PredictionCache, begin_anew
from reprobuild.predict.sealed import unseal

FORGET_MAKING = "reprobuild cache verify --repair forgets it; the predictions stay"
FORGET_INPUT = "reprobuild cache verify --repair forgets it; only audits by recomputing need it"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the cache that is not as it was written."""

    where: str
    """The prediction, by its key's first digits and its predictor, or the database."""
    problem: str
    hint: str
    rowid: int | None = None
    """Of the prediction, where it is one."""
    input: bytes | None = None
    """The key of the input, where it is one."""
    making: int | None = None
    """The number of the making, where it is one."""
    details: tuple[str, ...] = ()
    """What others say of it: SQLite of its file."""

    @property
    def can_be_forgotten(self) -> bool:
        """Whether the cache is sound without it."""
        return (self.rowid, self.input, self.making) != (None, None, None)


@dataclass(frozen=True, slots=True)
class Audit:
    """What was checked and what was found."""

    checked: int
    findings: tuple[Finding, ...]


def audit_predictions(cache: PredictionCache, *, repair: bool = False) -> Audit:
    """Check every prediction that is kept.

    ``repair``: forget what does not fit; it is computed again when it is asked for.
    """
    findings: list[Finding] = []
    checked = 0
    damage: tuple[str, ...] = ()
    try:
        if damage := tuple(cache.damage()):
            more = " or more" if len(damage) >= MOST_DAMAGE else ""
            faults = f"{len(damage)}{more} {'fault' if len(damage) == 1 else 'faults'}"
            problem = f"the database is damaged: SQLite's own check finds {faults} in it"
            where = str(cache.folder / bulk.DATABASE)
            findings.append(Finding(where, problem, begin_anew(cache.folder), details=damage))
        for row in cache.rows():
            checked += 1
            if finding := _check(cache, row):
                findings.append(finding)
        findings += _check_makings(cache)
        if repair:
            cache.discard(
                [one.rowid for one in findings if one.rowid is not None],
                inputs=[one.input for one in findings if one.input is not None],
                numbers=[one.making for one in findings if one.making is not None],
            )
    except ReprobuildError as error:
        # Of a database that is damaged, this is said already.
        if not (damage and isinstance(error, CheckFailedError)):
            findings.append(Finding(str(cache.folder), error.message, error.hint))
    return Audit(checked, tuple(findings))


def _check_makings(cache: PredictionCache) -> Iterator[Finding]:
    """Check what predictions were made with, and the sample of their inputs."""
    made = {one.number: one for one in cache.makings()}
    for making in made.values():
        if not making.is_whole:
            where = f"what predictions of {making.tag} were made with"
            problem = "it does not fit its own digest: changed after it was kept"
            yield Finding(where, problem, FORGET_MAKING, making=making.number)
    for one in cache.inputs():
        making_of = made.get(one.making)
        if making_of is None or not making_of.is_whole:
            continue
        if type(one.key) is not bytes or making_of.key_of(one.record) != one.key:
            where = f"an input of {making_of.tag}"
            yield Finding(
                where, "it does not fit its key: changed after it was kept", FORGET_INPUT, input=one.key
            )


def _check(cache: PredictionCache, row: bulk.Row) -> Finding | None:
    hint = "reprobuild cache verify --repair forgets it; it is computed again when it is asked for"
    if type(row.key) is not bytes or len(row.key) != 32:
        return Finding(f"row {row.rowid}", f"its key {row.key!r} is no prediction's", hint, row.rowid)
    where = f"prediction {row.key.hex()[:16]} of {row.tag}"
    value = row.value if row.filename is None else bulk.read_file(cache.folder, row.filename)
    if value is None:
        return Finding(where, f"its file {row.filename} is missing", hint, row.rowid)
    if unseal(row.key, value) is None:
        return Finding(where, "it does not fit its own digest: changed after it was kept", hint, row.rowid)
    return None
