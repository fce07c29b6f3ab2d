"""What a metric says of many records: one result over all, one for each; and how shards are joined.

Knows nothing of models and how they predict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reprobuild.errors import UsageError
from reprobuild.predict.macro import mean, weighted_mean
from reprobuild.value import NOTHING, Value, replace

Json = Any


class Evaluation(Value, kw_only=True):
    """The result of a metric. ``macro, items = evaluation`` takes it apart."""

    name: str
    """``RECIPE/PREDICTOR``."""
    kind: str
    """How ``macro`` came about: ``mean`` or ``corpus``."""
    count: int
    """Of the records that ``macro`` is over."""
    macro: Mapping[str, Json]
    """Over all records; ``{}`` where there are none."""
    items: Sequence[Mapping[str, Json]] = ()
    """Of each record, in order, its output fields; empty where they were left out."""
    signature: str = ""
    """What a paper can cite."""
    parameters: Mapping[str, Json] = NOTHING
    """Those that were given."""

    def __iter__(self) -> Iterator[Any]:
        yield self.macro
        yield self.items

    def as_json(self, *, with_items: bool = True) -> dict[str, Json]:
        """Give the evaluation as a JSON value; ``aggregate`` reads it."""
        items = {"items": [dict(item) for item in self.items]} if with_items else {}
        return {
            "schema": 1,
            "name": self.name,
            "kind": self.kind,
            "count": self.count,
            "signature": self.signature,
            "parameters": dict(self.parameters),
            "macro": dict(self.macro),
            **items,
        }


def aggregate(shards: Iterable[Evaluation | Mapping[str, Json]]) -> Evaluation:
    """Join the evaluations of shards into that of all their records, in the order of the shards.

    ``shards``: evaluations, or what their ``as_json`` gave. A mean is joined as the mean over all
    records, so shards count by their records; where they have their items, it is the same to the last
    bit as that of one call. Raises UsageError for shards of different metrics, and for those of a
    corpus metric, naming it: BLEU of a corpus is not the mean of its shards' BLEU.
    """
    given = [shard if isinstance(shard, Evaluation) else _read(shard) for shard in shards]
    if not given:
        raise UsageError("there is nothing to aggregate", "give the evaluations of at least one shard")
    first = given[0]
    for shard in given:
        for field in ("name", "kind", "signature", "parameters"):
            if getattr(shard, field) != getattr(first, field):
                raise UsageError(
                    f"the shards are not of one metric: {field} {getattr(first, field)!r} and "
                    f"{getattr(shard, field)!r}",
                    "evaluate all of them with the same recipe, predictor and parameters",
                )
    filled = [shard for shard in given if shard.count]
    if len(filled) < 2:
        return filled[0] if filled else first
    if first.kind != "mean":
        raise UsageError(
            f"{first.name} is a corpus metric: its results on {len(filled)} shards can't be joined",
            "evaluate all records in one call: model.evaluate(items)",
        )
    items = [item for shard in filled for item in shard.items]
    count = sum(shard.count for shard in filled)
    if len(items) == count:
        macro = mean(first.name, items)
    else:
        # Of some shards the items were left out: then all of them are.
        macro, items = weighted_mean(first.name, [(shard.macro, shard.count) for shard in filled]), []
    return replace(first, count=count, macro=macro, items=items)


def _read(value: Mapping[str, Json]) -> Evaluation:
    """Read what ``Evaluation.as_json`` gave. Raises UsageError."""
    try:
        name, kind, count, macro = value["name"], value["kind"], value["count"], value["macro"]
    except (KeyError, TypeError, IndexError):
        raise UsageError(
            f"a shard is no evaluation: {ascii(value)[:80]}", "give what model.evaluate(items) gave"
        ) from None
    items = value.get("items", [])
    fits = isinstance(items, list) and len(items) in (0, count) and isinstance(macro, Mapping)
    if not fits or not isinstance(count, int) or count < 0:
        raise UsageError(f"a shard of {name} does not fit itself: its count is {count!r}")
    return Evaluation(
        name=name,
        kind=kind,
        count=count,
        macro=macro,
        items=items,
        signature=value.get("signature", ""),
        parameters=value.get("parameters", {}),
    )
