"""Why a record is cached or not: its key, what it was made with, and what differs from what is kept.

A key is the sha256 of a making and a record. So for a record that is not cached, its keys under all makings
of the predictor that are kept tell whether it was computed otherwise, and how. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reprobuild.derivation.derive import Difference, differences
from reprobuild.derivation.predictors import Predictor
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.key import KeyMaker
from reprobuild.predict.makings import Making
from reprobuild.predict.sealed import facts_of
from reprobuild.value import NOTHING, Value


class Explained(Value):
    """What the cache has for a record, or for batch scope for a call."""

    first: int
    """Index of the record, or of the first one of the call."""
    count: int
    """Records that the key covers."""
    key: bytes
    is_cached: bool
    is_damaged: bool = False
    """Whether something is kept that does not fit its digest."""
    provenance: Mapping[str, Any] = NOTHING
    """Of the prediction that is kept."""
    nearest: Making | None = None
    """Where it is not cached: the making that differs least, of those that have this record if any has."""
    has_record: bool = False
    """Whether ``nearest`` has a prediction of this very record."""
    differences: tuple[Difference, ...] = ()
    """From ``nearest`` to what is asked for: the parts of the key."""


class Explainer:
    """Explains the records of one way to predict."""

    def __init__(self, cache: PredictionCache, keys: KeyMaker, predictor: Predictor, tag: str) -> None:
        """``tag``: ``RECIPE/PREDICTOR``; ``keys``: with the parameters that are asked for."""
        self._cache = cache
        self._keys = keys
        self._is_item = predictor.scope == "item"
        asked = facts_of(keys.making)
        kept = [one for one in cache.makings() if one.tag == tag and one.is_whole]
        others = [one for one in kept if one.body != keys.making]
        self.is_known = len(kept) > len(others)
        """Whether other records were predicted just so."""
        differing = [(tuple(differences(one.parts, asked)), one) for one in others]
        # Of equally near ones, the one that was used last.
        self._others = sorted(differing, key=lambda pair: (len(pair[0]), -pair[1].used))

    def explain(self, chunks: Iterable[Sequence[bytes]]) -> Iterator[Explained]:
        """Explain canonical records, in order; for batch scope all of them as one call."""
        if self._is_item:
            first = 0
            for records in chunks:
                yield from self._explain_items(records, first)
                first += len(records)
            return
        records = [record for chunk in chunks for record in chunk]
        if records:
            maker = self._keys.batch()
            maker.add(records)
            yield self._explain(maker.digest(), b"[" + b",".join(records) + b"]", 0, len(records))

    def _explain_items(self, records: Sequence[bytes], first: int) -> Iterator[Explained]:
        for place, (record, key) in enumerate(zip(records, self._keys.items(records), strict=True)):
            yield self._explain(key, record, first + place, 1)

    def _explain(self, key: bytes, record: bytes, first: int, count: int) -> Explained:
        kept = self._cache.get(key)
        if kept is not None:
            return Explained(first, count, key, True, provenance=facts_of(kept.provenance))
        is_damaged = bool(self._cache.get_many([key]).broken)
        if is_damaged or not self._others:
            return Explained(first, count, key, False, is_damaged)
        under = {making.key_of(record): (parts, making) for parts, making in self._others}
        found = self._cache.get_many(list(under)).outputs
        having = [pair for other, pair in under.items() if other in found]
        parts, nearest = having[0] if having else self._others[0]
        return Explained(first, count, key, False, False, NOTHING, nearest, bool(having), parts)
