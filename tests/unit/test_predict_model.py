"""Predictions from Python: arguments, shapes of outputs, errors, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from reprobuild.derivation.predictors import Predictor, predictor
from reprobuild.errors import InputError, UsageError
from reprobuild.predict.call import Options
from reprobuild.predict.model import Model
from reprobuild.predict.target import split_name
from reprobuild.predict.testing import compare, run_examples
from tests.host_engine import HostEngine, make_target, reverser


def jq(expression: str, **more: Any) -> Predictor:
    """A predictor whose output is a Python expression over ``r``, the record."""
    command = (
        'python3 -c "import json, sys\n'
        f"for r in map(json.loads, open(sys.argv[1])): print(json.dumps({expression}))"
        '" {input} > {output}'
    )
    return predictor(command, **{"outputs": {"output": "any"}, "scope": "item", **more})


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(make_target(tmp_path, HostEngine()), "default")


def test_one_record_by_name_and_by_position(model: Model) -> None:
    assert model.predict(text="abc") == "cba"
    assert model.predict("abc") == "cba"


def test_batch_in_order(model: Model) -> None:
    assert model.predict_batch([{"text": "abc"}, {"text": "123"}]) == ["cba", "321"]
    assert model.predict_batch([]) == []
    outputs, summary = model.answer({"text": text} for text in ("new", "abc", "new"))
    assert outputs == ["wen", "cba", "wen"]
    assert (summary.items, summary.cached, summary.computed) == (3, 1, 1)


def test_positions_follow_the_order_of_the_inputs(tmp_path: Path) -> None:
    two = jq("{'output': [r['b'], r['a']]}", inputs={"b": str, "a": int})
    model = Model(make_target(tmp_path, HostEngine(), two=two), "two")
    assert model.predict("x", 1) == ["x", 1]
    assert model.predict("x", a=1) == ["x", 1]


def test_several_output_fields_are_a_dict_and_floats_stay_floats(tmp_path: Path) -> None:
    several = jq("{'x': 1.0, 'y': [2.0, 0.5]}", inputs={"a": str}, outputs={"x": float, "y": "list[float]"})
    model = Model(make_target(tmp_path, HostEngine(), several=several), "several")
    found = model.predict(a="")
    assert found == {"x": 1.0, "y": [2.0, 0.5]}
    assert [type(found["x"]), type(found["y"][0])] == [float, float]


def test_parameters_go_beside_fields(tmp_path: Path) -> None:
    times = predictor(
        'python3 -c "import json, sys\n'
        "for r in map(json.loads, open(sys.argv[1])):"
        " print(json.dumps({'output': r['text'] * int(sys.argv[2])}))\" {input} {n} > {output}",
        inputs={"text": str},
        outputs={"output": str},
        scope="item",
        parameters={"n": 2},
    )
    model = Model(make_target(tmp_path, HostEngine(), times=times), "times")
    assert model.predict("a") == "aa"
    assert model.predict("a", n=3) == "aaa"
    assert model.predict_batch([{"text": "b"}], n=1) == ["b"]


WRONG: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "too many": (("a", "b"), {}, "takes 1 values"),
    "twice": (("a",), {"text": "a"}, "text twice"),
    "missing": ((), {}, "item 0: the field text is missing"),
    "unknown": (("a",), {"txt": 1}, "item 0: the field 'txt' is not known"),
    "type": ((1,), {}, "item 0: the field text is an integer where a text is needed"),
    "surrogate": (("\ud800",), {}, "lone surrogate at text"),
    "bytes": ((b"a",), {}, "the field text is a bytes"),
}


@pytest.mark.parametrize("values, named, message", WRONG.values(), ids=WRONG)
def test_wrong_arguments(model: Model, values: tuple[Any, ...], named: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.predict(*values, **named)


@pytest.mark.parametrize("item", ["abc", ["abc"], None], ids=["text", "list", "nothing"])
def test_items_are_records(model: Model, item: Any) -> None:
    with pytest.raises(InputError, match=r"item 1: .* where a record"):
        model.predict_batch([{"text": "a"}, item])


def test_unknown_predictor_and_parameter(tmp_path: Path, model: Model) -> None:
    with pytest.raises(UsageError, match="no predictor 'nothing'"):
        Model(make_target(tmp_path, HostEngine()), "nothing")
    with pytest.raises(UsageError, match="no parameter 'beam'"):
        model.predict_batch([{"text": "a"}], beam=3)


def test_threads_share_a_model(model: Model) -> None:
    model.predict_batch([{"text": f"{n}x"} for n in range(50)])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: model.predict(f"{n % 50}x"), range(400)))
    assert found == [f"{n % 50}x"[::-1] for n in range(400)]


def test_model_is_used_again_after_close(model: Model) -> None:
    with model:
        assert model.predict("ab") == "ba"
    assert model.predict("ab") == "ba"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("tutorial", ("tutorial", "default")),
        ("tutorial/other", ("tutorial", "other")),
        ("tutorial/", ("tutorial", "default")),
        ("reprobuild/tutorial:1.0-abc", ("reprobuild/tutorial:1.0-abc", "default")),
        ("reprobuild/tutorial:1.0-abc/other", ("reprobuild/tutorial:1.0-abc", "other")),
        ("docker.io/user/tutorial:1.0-abc/other", ("docker.io/user/tutorial:1.0-abc", "other")),
        ("localhost:5000/a/b/tutorial:1.0-abc", ("localhost:5000/a/b/tutorial:1.0-abc", "default")),
        ("a/b:1@sha256:0123/other", ("a/b:1@sha256:0123", "other")),
        ("sha256:abcdef/other", ("sha256:abcdef", "other")),
    ],
)
def test_names(name: str, parts: tuple[str, str]) -> None:
    assert split_name(name) == parts


def test_examples_are_computed_and_compared(tmp_path: Path) -> None:
    good = ({"text": "abc"}, {"output": "cba"})
    bad = ([{"text": "a"}, {"text": "ab"}], [{"output": "a"}, {"output": "ab"}])
    engine = HostEngine()
    target = make_target(tmp_path, engine, default=reverser(examples=[good, bad]))
    for _ in range(2):
        passed, failed = run_examples(target)
        assert passed.passed
        assert failed.problem == "record 1: output is 'ba', expected 'ab'"
    assert len(engine.commands) == 4


def test_example_that_fails_to_run_is_an_outcome(tmp_path: Path) -> None:
    broken = predictor(
        "exit 4; : {input} {output}",
        inputs={"text": str},
        outputs={"output": str},
        examples=[({"text": "a"}, {"output": "a"})],
    )
    (outcome,) = run_examples(make_target(tmp_path, HostEngine(), default=broken))
    assert "exit code 4" in outcome.problem


def test_files_of_examples_are_in_the_folder_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe" / "tests").mkdir(parents=True)
    (tmp_path / "recipe" / "tests" / "one.txt").write_text("one")
    size = predictor(
        "cat {input} > /dev/null; echo '{\"output\":1}' > {output}",
        inputs={"path": "file"},
        outputs={"output": int},
        examples=[({"path": "tests/one.txt"}, {"output": 1})],
    )
    target = make_target(tmp_path, HostEngine(), default=size)
    assert [outcome.problem for outcome in run_examples(target, folder=tmp_path / "recipe")] == [""]
    (elsewhere,) = run_examples(target, folder=tmp_path)
    assert "does not exist" in elsewhere.problem


COMPARED: dict[str, tuple[Any, Any, float, str]] = {
    "equal": ({"a": [1, "x"]}, {"a": [1, "x"]}, 0.0, ""),
    "more at the top": ({"a": 1}, {"a": 1, "b": 2}, 0.0, ""),
    "more below": ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, 0.0, "a is {'b': 1, 'c': 2}, expected {'b': 1}"),
    "integer and float": ({"a": 1.0}, {"a": 1}, 0.0, ""),
    "within": ({"a": 100.0}, {"a": 100.9}, 0.01, ""),
    "without": ({"a": [100.0]}, {"a": [102.1]}, 0.01, "a[0] is 102.1, expected 100.0"),
    "truth is no number": ({"a": 1}, {"a": True}, 0.0, "a is True, expected 1"),
    "length": ({"a": [1]}, {"a": [1, 2]}, 0.0, "a is [1, 2], expected [1]"),
}


@pytest.mark.parametrize("expected, got, tolerance, problem", COMPARED.values(), ids=COMPARED)
def test_compare(expected: Any, got: Any, tolerance: float, problem: str) -> None:
    assert compare(expected, got, tolerance) == problem


def test_cache_off_computes_each_time(tmp_path: Path) -> None:
    engine = HostEngine()
    model = Model(make_target(tmp_path, engine), "default", Options(cache="off"))
    assert [model.predict("ab"), model.predict("ab")] == ["ba", "ba"]
    assert len(engine.commands) == 2


def test_a_model_that_was_not_loaded_is_not_pickled(model: Model) -> None:
    import pickle

    with pytest.raises(TypeError, match="load"):
        pickle.dumps(model)
