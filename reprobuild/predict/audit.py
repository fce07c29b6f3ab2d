"""The audit of remembered predictions: each against its own digest.

Knows nothing of how predictions are made: whether an output is what the predictor would give again
is for recomputing to say.
"""

from __future__ import annotations

from dataclasses import dataclass

from reprobuild.errors import ReprobuildError
from reprobuild.predict import bulk
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.sealed import unseal


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the cache that is not as it was written."""

    where: str
    """The prediction, by its key's first digits and its predictor, or the database."""
    problem: str
    hint: str
    rowid: int | None = None
    """Of the prediction, where it is one."""


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
    try:
        hint = f"rm -r {cache.folder}: everything in it can be computed again"
        findings += [Finding(str(cache.folder / bulk.DATABASE), line, hint) for line in cache.damage()]
        for row in cache.rows():
            checked += 1
            if finding := _check(cache, row):
                findings.append(finding)
        if repair:
            cache.discard([finding.rowid for finding in findings if finding.rowid is not None])
    except ReprobuildError as error:
        findings.append(Finding(str(cache.folder), error.message, error.hint))
    return Audit(checked, tuple(findings))


def _check(cache: PredictionCache, row: bulk.Row) -> Finding | None:
    hint = "reprobuild audit --repair forgets it; it is computed again when it is asked for"
    if type(row.key) is not bytes or len(row.key) != 32:
        return Finding(f"row {row.rowid}", f"its key {row.key!r} is no prediction's", hint, row.rowid)
    where = f"prediction {row.key.hex()[:16]} of {row.tag}"
    value = row.value if row.filename is None else bulk.read_file(cache.folder, row.filename)
    if value is None:
        return Finding(where, f"its file {row.filename} is missing", hint, row.rowid)
    if unseal(row.key, value) is None:
        return Finding(where, "it does not fit its own digest: changed after it was kept", hint, row.rowid)
    return None
