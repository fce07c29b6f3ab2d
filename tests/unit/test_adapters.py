"""Metrics of recipes as other libraries call them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reprobuild.adapters import Metric, huggingface_metric, metric
from reprobuild.derivation.predictors import Predictor, predictor
from reprobuild.errors import InputError, OutsideError, PredictionFailedError, UsageError
from reprobuild.predict.model import Model
from tests.host_engine import HostEngine, make_target

HIT = (
    'python3 -c "import json, sys\n'
    "for r in map(json.loads, open(sys.argv[1])):"
    " print(json.dumps({'hit': float(r['candidate'] in r['references']),"
    " 'n': {'words': len(r['references'])}}))"
    '" {input} {output} > {output}'
)


def hits(**more: Any) -> Predictor:
    """A metric: whether a candidate is among its references."""
    fields = {"references": "list[str]", "candidate": str}
    outputs = {"hit": float, "n": dict}
    return predictor(HIT, **{"inputs": fields, "outputs": outputs, "scope": "item", "macro": "mean", **more})


def model(folder: Path, **more: Any) -> Model:
    return Model(make_target(folder, HostEngine(), metric=hits(**more)), "metric")


@pytest.fixture
def own(tmp_path: Path) -> Metric:
    return metric(model(tmp_path))


def test_predictions_and_references_go_where_they_belong(own: Metric) -> None:
    found = own.compute(predictions=["a", "b"], references=[["a", "c"], ["x", "y"]])
    assert found == {"hit": 0.5, "n": {"words": 2.0}}
    assert [item["hit"] for item in own.evaluate(predictions=["a"], references=["a"]).items] == [1.0]


def test_what_was_added_is_measured_once(own: Metric) -> None:
    own.add(prediction="a", reference="a")
    own.add_batch(predictions=["b", "c"], references=["x", ["y", "c"]])
    assert own.compute()["hit"] == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="tutorial/metric needs"):
        own.compute()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no references": ({"predictions": ["a"]}, r"needs references"),
    "too few": ({"predictions": ["a", "b"], "references": ["a"]}, "2 predictions, 1 references"),
    "texts": ({"predictions": "abc", "references": "abc"}, "was given a text as predictions, where a list"),
    "one text": ({"predictions": ["a"], "references": "a"}, "was given a text as references, where a list"),
    "a dict": ({"predictions": {"a": 1}, "references": ["a"]}, "was given an object as predictions"),
    "a number": ({"predictions": 5, "references": ["a"]}, "was given an integer as predictions"),
    "nothing": ({"predictions": [], "references": []}, "was given no predictions"),
    "unknown": ({"predictions": ["a"], "references": ["a"], "beam": 3}, "no parameter 'beam'"),
}


@pytest.mark.parametrize("given, message", WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_named(own: Metric, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        own.compute(**given)


def test_what_is_added_are_lists_which_may_be_empty_until_all_are(own: Metric) -> None:
    with pytest.raises(InputError, match="was given a text as predictions, where a list"):
        own.add_batch(predictions="abc", references="abc")
    own.add_batch(predictions=[], references=[])
    with pytest.raises(InputError, match="was given no predictions"):
        own.compute()
    own.add(prediction="a", reference="a")
    own.add_batch(predictions=[], references=[])
    assert own.compute()["hit"] == 1.0


def test_one_text_where_lists_are_given(tmp_path: Path) -> None:
    single = metric(model(tmp_path, inputs={"candidate": str, "references": str}))
    assert single.compute(predictions=["a"], references=[["a"]])["hit"] == 1.0
    with pytest.raises(InputError, match="item 1 has 2 values of references"):
        single.compute(predictions=["a", "b"], references=["a", ["b", "c"]])


def test_fields_may_be_named(tmp_path: Path) -> None:
    swapped = metric(model(tmp_path), predictions="references", references="candidate")
    assert swapped.compute(predictions=[["a"]], references=["a"])["hit"] == 1.0
    with pytest.raises(UsageError, match="has no field source"):
        metric(model(tmp_path), references="source")


def test_a_result_that_each_output_repeats(tmp_path: Path) -> None:
    repeated = metric(model(tmp_path, macro="", scope="batch"), macro="same")
    assert repeated.compute(predictions=["a", "b"], references=["a", "b"])["hit"] == 1.0
    assert repeated.evaluate(predictions=["a"], references=["a"]).kind == "corpus"
    with pytest.raises(PredictionFailedError, match="item 1 is not the same as item 0"):
        repeated.compute(predictions=["a", "b"], references=["a", "x"])


def test_without_evaluate_it_says_so(own: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "evaluate", None)
    with pytest.raises(OutsideError, match="not installed") as caught:
        huggingface_metric(own.model)
    assert "reprobuild[evaluate]" in caught.value.hint


def test_with_evaluate_it_is_one_of_its_metrics(own: Metric, tmp_path: Path) -> None:
    evaluate = pytest.importorskip("evaluate", reason="evaluate is an extra")
    pytest.importorskip("datasets")
    wrapped = huggingface_metric(own.model, cache_dir=str(tmp_path / "cache"))
    assert isinstance(wrapped, evaluate.Metric)
    found = wrapped.compute(predictions=["a", "b"], references=[["a"], ["x"]])
    assert found == {"hit": 0.5, "n": {"words": 1.0}}
    wrapped.add_batch(predictions=["a"], references=[["a"]])
    assert wrapped.compute()["hit"] == 1.0
    assert evaluate.combine([wrapped]).compute(predictions=["a"], references=[["a"]])["hit"] == 1.0
