"""Metrics: means over records, shards that are joined or refused, what a recipe may declare."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.derivation.predictor_codec import predictors_from_json, predictors_to_json
from reprobuild.derivation.predictors import predictor
from reprobuild.errors import PredictionFailedError, RecipeError, UsageError
from reprobuild.predict.macro import mean
from reprobuild.predict.metrics import Evaluation, aggregate

FIELDS: dict[str, Any] = {"inputs": {"text": str}, "outputs": {"score": float, "parts": dict}}
COMMAND = "score {input} {output}"


def evaluation(items: list[dict[str, Any]], kind: str = "mean", **more: Any) -> Evaluation:
    values = {"name": "rouge/default", "kind": kind, "count": len(items), "items": items}
    return Evaluation(**{**values, "macro": mean("rouge/default", items), **more})


def item(number: float) -> dict[str, Any]:
    return {"score": number, "parts": {"1": {"p": number * 3, "r": 1}}}


def test_shards_of_different_sizes_count_by_their_records() -> None:
    items = [item(n) for n in (1, 2, 3, 10)]
    joined = aggregate([evaluation(items[:3]), evaluation(items[3:])])
    assert joined.macro == {"score": 4.0, "parts": {"1": {"p": 12.0, "r": 1.0}}}
    assert (list(joined.items), joined.count) == (items, 4)
    assert joined == evaluation(items)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.integers(1, 7), st.randoms())
def test_joined_is_equal_to_one_call_bit_for_bit(
    numbers: list[float], size: int, order: random.Random
) -> None:
    items = [item(number) for number in numbers]
    shards = [evaluation(items[start : start + size]) for start in range(0, len(items), size)]
    assert aggregate(shards) == evaluation(items)
    order.shuffle(items)
    assert evaluation(items).macro == aggregate(shards).macro


def test_macro_and_items_are_taken_apart() -> None:
    macro, items = evaluation([item(1)])
    assert (macro, items) == ({"score": 1.0, "parts": {"1": {"p": 3.0, "r": 1.0}}}, [item(1)])


def test_shards_without_items_are_joined_by_their_counts() -> None:
    shards = [evaluation([item(1), item(2), item(3)]), evaluation([item(10)])]
    written = [
        json.loads(json.dumps(shard.as_json(with_items=index > 0))) for index, shard in enumerate(shards)
    ]
    joined = aggregate(written)
    assert joined.macro["score"] == pytest.approx(4.0)
    assert (joined.count, joined.items) == (4, [])


def test_empty_shards_change_nothing() -> None:
    full = evaluation([item(1), item(2)])
    assert aggregate([evaluation([]), full, evaluation([])]) == full
    assert aggregate([evaluation([])]).macro == {}
    with pytest.raises(UsageError, match="nothing to aggregate"):
        aggregate([])


def test_a_corpus_metric_is_refused_by_its_name() -> None:
    corpus: dict[str, Any] = {"kind": "corpus", "name": "post2018/default", "macro": {"bleu": 48.5}}
    shards = [evaluation([item(1)], **corpus), evaluation([item(2)], **corpus)]
    with pytest.raises(UsageError, match=r"post2018/default is a corpus metric: .* 2 shards can't be joined"):
        aggregate(shards)
    with pytest.raises(UsageError, match="post2018/default"):
        aggregate([shard.as_json() for shard in shards])
    assert aggregate([shards[0], evaluation([], **{**corpus, "macro": {}})]) == shards[0]


DIFFERENT: list[dict[str, Any]] = [
    {"name": "bleu/default"},
    {"signature": "rouge@1|default|cpu|v1"},
    {"parameters": {"stemmer": True}},
]


@pytest.mark.parametrize("more", DIFFERENT, ids=str)
def test_shards_of_different_metrics_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="not of one metric"):
        aggregate([evaluation([item(1)]), evaluation([item(2)], **more)])


NO_MEAN: dict[str, tuple[list[Any], str]] = {
    "text": ([{"score": 1, "parts": {"a": "high"}}], r"item 0: parts\.a is 'high'"),
    "nothing": ([{"score": 1}, {"score": None}], "item 1: score is None"),
    "truth": ([{"score": True}], "item 0: score is True"),
    "list": ([{"score": [1]}], "item 0: score is"),
    "less": ([item(1), {"score": 2, "parts": {"1": {"p": 1}}}], r"item 1 lacks the number parts\.1\.r"),
    "more": ([{"score": 1}, item(1)], r"item 1 has the number parts\.1\.p"),
}


@pytest.mark.parametrize("items, message", NO_MEAN.values(), ids=NO_MEAN)
def test_what_has_no_mean_is_named(items: list[Any], message: str) -> None:
    with pytest.raises(PredictionFailedError, match=message):
        mean("rouge/default", items)


@pytest.mark.parametrize(
    "shard", [{}, [], {"name": "a", "kind": "mean", "count": 2, "macro": {}, "items": [{}]}]
)
def test_what_is_no_evaluation_is_refused(shard: Any) -> None:
    with pytest.raises(UsageError, match="a shard"):
        aggregate([shard])


def test_macro_travels_and_is_left_out_where_there_is_none() -> None:
    plain = predictor(COMMAND, **FIELDS)
    means = predictor(COMMAND, **FIELDS, macro="mean")
    written = predictors_to_json({"plain": plain, "means": means})
    assert written["means"] == {**written["plain"], "macro": "mean"}
    assert predictors_from_json(written) == {"plain": plain, "means": means}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"macro": "median"}, "only 'mean' and 'corpus'"),
    "corpus of items": ({"macro": "corpus", "scope": "item"}, "scope 'batch'"),
    "corpus of a stream": (
        {"macro": "corpus", "protocol": "stream", "command": "python3 serve.py"},
        "protocol 'files'",
    ),
    "mean of texts": (
        {"macro": "mean", "outputs": {"score": float, "label": str}},
        "the output label is str",
    ),
    "no text": ({"macro": 1}, "macro=1"),
}


@pytest.mark.parametrize("more, message", WRONG.values(), ids=WRONG)
def test_macros_that_can_not_be(more: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        predictor(**{"command": COMMAND, **FIELDS, **more})
