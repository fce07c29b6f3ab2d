"""Predictions from Python: arguments, shapes of outputs, errors, threads."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import typing
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from reprobuild.derivation.predictors import Predictor, predictor
from reprobuild.errors import InputError, ItemFailedError, PredictionFailedError, UsageError
from reprobuild.predict.call import Options
from reprobuild.predict.metrics import aggregate
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
    "too many": (("a", "b"), {}, r"takes 1 value \(text\), not 2"),
    "twice": (("a",), {"text": "a"}, "text twice"),
    "missing": ((), {}, "item 0: the field text is missing"),
    "unknown": (("a",), {"txt": 1}, "item 0: the field 'txt' is not known"),
    "type": ((1,), {}, "item 0: the field text is an integer where a text is needed"),
    "surrogate": (("\ud800",), {}, "lone surrogate at text"),
    "bytes": ((b"a",), {}, "the field text is bytes where a text is needed"),
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


def test_more_records_than_memory_are_read_as_they_are_answered(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reprobuild.predict.model.CHUNK", 10)
    taken = 0

    def endless() -> Iterator[dict[str, str]]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield {"text": f"{number}x"}

    outputs = model.predict_iter(endless())
    assert taken == 0
    found = list(itertools.islice(outputs, 25))
    assert found == [f"{number}x"[::-1] for number in range(25)]
    assert taken == 30


def test_what_is_wrong_with_records_to_come_is_said_by_their_place(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reprobuild.predict.model.CHUNK", 2)
    found = []
    with pytest.raises(InputError, match=r"item 4: the field text is missing"):
        for output in model.predict_iter([{"text": "ab"}] * 4 + [{}]):
            found.append(output)
    assert found == ["ba"] * 4
    with pytest.raises(UsageError, match="no parameter 'beam'"):
        model.predict_iter([], beam=3)


def test_records_of_one_call_are_one_batch_however_they_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reprobuild.predict.model.CHUNK", 2)
    engine = HostEngine()
    model = Model(make_target(tmp_path, engine, batch=reverser("batch")), "batch")
    texts = ["a" * 3_000_000 + "b", "cd", "", "ef"]
    found = list(model.predict_iter({"text": text} for text in texts))
    assert found == [text[::-1] for text in texts]
    assert found == model.predict_batch([{"text": text} for text in texts])
    assert len(engine.commands) == 1


def test_items_that_fail_stand_in_their_places_where_a_model_keeps_going(tmp_path: Path) -> None:
    picky = jq("{'output': 1 / r['n']}", inputs={"n": int}, outputs={"output": float})
    target = make_target(tmp_path, HostEngine(), picky=picky)
    model = Model(target, "picky", Options(keep_going=True))
    items = [{"n": n} for n in (1, 0, 2, 4)]
    outputs = model.predict_batch(items)
    assert outputs[::2] + outputs[3:] == [1.0, 0.5, 0.25]
    assert isinstance(outputs[1], ItemFailedError)
    assert outputs[1].index == 1 and "tutorial/picky, item 1: " in outputs[1].message
    assert [type(output) for output in model.predict_iter(items)] == [type(output) for output in outputs]
    for call in (lambda: model.predict(n=0), lambda: model.evaluate(items, macro="mean")):
        with pytest.raises(ItemFailedError, match="item"):
            call()
    with pytest.raises(PredictionFailedError):
        Model(target, "picky").predict_batch(items)


async def _both(model: Model) -> list[Any]:
    one = model.apredict("ab")
    several = model.apredict_batch([{"text": "cd"}, {"text": "ef"}])
    return list(await asyncio.gather(one, several))


def test_async_variants_run_beside_each_other(model: Model) -> None:
    assert asyncio.run(_both(model)) == ["ba", ["dc", "fe"]]


@pytest.mark.parametrize("scope", ["item", "batch"])
@pytest.mark.parametrize("comes", ["at once", "asynchronously"])
def test_outputs_come_in_order_to_an_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str, comes: str
) -> None:
    monkeypatch.setattr("reprobuild.predict.model.CHUNK", 3)
    engine = HostEngine()
    model = Model(make_target(tmp_path, engine, default=reverser(scope)), "default")
    texts = [f"{number}x" for number in range(8)]
    taken = 0

    async def later() -> AsyncIterator[dict[str, str]]:
        nonlocal taken
        for text in texts:
            await asyncio.sleep(0)
            taken += 1
            yield {"text": text}

    async def collect() -> list[Any]:
        items = later() if comes == "asynchronously" else ({"text": text} for text in texts)
        found = []
        async for output in model.apredict_iter(items):
            found.append(output)
            if comes == "asynchronously" and scope == "item":
                assert taken <= len(found) + 3
        return found

    assert asyncio.run(collect()) == [text[::-1] for text in texts]
    assert len(engine.commands) == (1 if scope == "batch" else 3)


async def _none(model: Model, **parameters: Any) -> list[Any]:
    return [output async for output in model.apredict_iter([{}], **parameters)]


def test_what_is_wrong_is_raised_in_an_event_loop_too(model: Model) -> None:
    with pytest.raises(InputError, match="item 0: the field text is missing"):
        asyncio.run(_none(model))
    with pytest.raises(UsageError, match="no parameter 'beam'"):
        asyncio.run(_none(model, beam=3))


def test_a_model_is_called_like_its_predict(model: Model) -> None:
    assert model("abc") == "cba" == model(text="abc")


SIGNATURES: dict[str, tuple[dict[str, Any], str]] = {
    "one output": ({}, "(text: str) -> str"),
    "types": (
        {"inputs": {"a": "list[str]", "b": "file", "c": "any"}, "outputs": {"x": float, "y": dict}},
        "(a: list[str], b: str, c: Any) -> dict[str, Any]",
    ),
    "parameters": (
        {"parameters": {"n": 2, "word": "x"}},
        "(text: str, *, n: int = 2, word: str = 'x') -> str",
    ),
    "seed": ({"random": True}, "(text: str, *, seed: int | None = None) -> str"),
    "no names": (
        {"inputs": {"a": int, "from": str, "b": int}},
        "(a: int, *, b: int, **named: Any) -> str",
    ),
}


@pytest.mark.parametrize("more, shown", SIGNATURES.values(), ids=SIGNATURES)
def test_signatures_are_the_fields(tmp_path: Path, more: dict[str, Any], shown: str) -> None:
    model = Model(make_target(tmp_path, HostEngine(), default=reverser(**more)), "default")
    assert str(inspect.signature(model)).replace("typing.", "") == shown
    assert inspect.signature(model) == inspect.signature(model.predict)
    hints = typing.get_type_hints(model.predict)
    assert hints["return"] == inspect.signature(model).return_annotation
    assert str(model.predict.__doc__).startswith("Predict one record")
    assert "values" in inspect.signature(Model.predict).parameters


def test_no_seed_is_as_good_as_none(tmp_path: Path) -> None:
    model = Model(make_target(tmp_path, HostEngine(), default=reverser(random=True)), "default")
    assert model.predict("ab", seed=None) == "ba" == model.predict("ab", seed=3)


LENGTHS: dict[str, Any] = {
    "inputs": {"text": str},
    "outputs": {"length": float, "of": dict},
    "command": 'python3 -c "import json, sys\n'
    "lines = list(map(json.loads, open(sys.argv[1])))\n"
    "for r in lines: print(json.dumps({'length': len(r['text']), 'of': {'letters': len(set(r['text']))}}))\n"
    "{more}"
    '" {input} {output} > {output}',
}
TOTAL = "print(json.dumps({'_macro': {'total': sum(len(r['text']) for r in lines)}}))"


def lengths(macro: str, more: str = "", **others: Any) -> Predictor:
    """A metric: how long each text is."""
    command = LENGTHS["command"].replace("{more}", more)
    return predictor(**{**LENGTHS, "command": command, "macro": macro, **others})


TEXTS = [{"text": "aab"}, {"text": "cc"}, {"text": "d"}, {"text": ""}]


def test_mean_over_records_and_shards(tmp_path: Path) -> None:
    model = Model(make_target(tmp_path, HostEngine(), metric=lengths("mean", scope="item")), "metric")
    macro, items = model.evaluate(TEXTS)
    assert macro == {"length": 1.5, "of": {"letters": 1.0}}
    assert items[0] == {"length": 3.0, "of": {"letters": 2}}
    assert aggregate([model.evaluate(TEXTS[:3]), model.evaluate(TEXTS[3:])]) == model.evaluate(TEXTS)
    assert (model.evaluate([]).macro, model.evaluate([]).count) == ({}, 0)


def test_corpus_metrics_write_one_record_more_which_is_cached_too(tmp_path: Path) -> None:
    engine = HostEngine()
    model = Model(make_target(tmp_path, engine, metric=lengths("corpus", TOTAL)), "metric")
    for _ in range(2):
        macro, items = model.evaluate(TEXTS)
        assert macro == {"total": 6}
        assert [item["length"] for item in items] == [3.0, 2.0, 1.0, 0.0]
    assert model.predict_batch(TEXTS) == items
    assert list(model.predict_iter(TEXTS)) == items
    assert len(engine.commands) == 1
    with pytest.raises(UsageError, match="tutorial/metric is a corpus metric"):
        aggregate([model.evaluate(TEXTS[:3]), model.evaluate(TEXTS[3:])])


NO_RESULT: dict[str, tuple[str, str]] = {
    "none": ("", r"the last line of /out/output.jsonl is not its result: the field 'length' is not known"),
    "no object": ("print('{\\\"_macro\\\": 3}')", "_macro is an integer where an object"),
    "two": (f"{TOTAL}\n{TOTAL}", r"wrote more than the 4 records"),
    "no JSON": ("print('done')", "not its result: no JSON"),
}


@pytest.mark.parametrize("more, message", NO_RESULT.values(), ids=NO_RESULT)
def test_results_that_corpus_metrics_do_not_write(tmp_path: Path, more: str, message: str) -> None:
    model = Model(make_target(tmp_path, HostEngine(), metric=lengths("corpus", more)), "metric")
    with pytest.raises(PredictionFailedError, match=message):
        model.evaluate(TEXTS)


def test_a_result_over_records_that_have_none_is_refused(tmp_path: Path) -> None:
    command = "echo '{\"_macro\":{}}' > {output}; : {input}"
    alone = predictor(command, inputs={"text": str}, outputs={"length": int}, macro="corpus")
    model = Model(make_target(tmp_path, HostEngine(), metric=alone), "metric")
    with pytest.raises(PredictionFailedError, match="wrote 0 of 4 outputs"):
        model.evaluate(TEXTS)


def test_an_extra_record_is_an_error_where_there_is_no_macro(tmp_path: Path) -> None:
    model = Model(make_target(tmp_path, HostEngine(), metric=lengths("mean", TOTAL)), "metric")
    with pytest.raises(PredictionFailedError, match=r"more than|'_macro' is not known"):
        model.evaluate(TEXTS)


def test_what_is_no_metric_has_a_mean_if_it_is_asked_for(model: Model, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tutorial/default does not say .*"):
        model.evaluate(TEXTS)
    with pytest.raises(PredictionFailedError, match=r"item 0: output is 'baa'"):
        model.evaluate(TEXTS, macro="mean")
    plain = Model(make_target(tmp_path, HostEngine(), metric=lengths("", scope="item")), "metric")
    assert plain.evaluate(TEXTS, macro="mean").macro["length"] == 1.5
    corpus = Model(make_target(tmp_path, HostEngine(), metric=lengths("corpus", TOTAL)), "metric")
    with pytest.raises(UsageError, match="is declared as 'corpus'"):
        corpus.evaluate(TEXTS, macro="mean")


def test_a_model_that_was_not_loaded_is_not_pickled(model: Model) -> None:
    import pickle

    with pytest.raises(TypeError, match="load"):
        pickle.dumps(model)
