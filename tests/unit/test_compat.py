"""repro's names: registered models, models in parallel, what metrics measured, files, devices of tests."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reprobuild import compat
from reprobuild.compat import (
    ConfigurationError,
    Model,
    ParallelModel,
    Registrable,
    aggregate_metrics_by_group,
    aggregate_parallel_metrics,
    assert_dicts_approx_equal,
    check_for_single_texts,
    flatten,
    flatten_nested_dict,
    get_default_dict,
    get_testing_device_parameters,
    group_by_references,
    insert_empty_values,
    load_model,
    predict_with_model,
    read_jsonl_file,
    remove_empty_inputs,
    unflatten_dict,
    ungroup_values,
    write_to_jsonl_file,
    write_to_text_file,
)
from reprobuild.errors import InputError, PredictionFailedError, UsageError


class Times(Model):
    """Multiplies numbers."""

    def __init__(self, factor: int = 10) -> None:
        self.factor = factor

    def predict(self, number: int, *args: Any, **kwargs: Any) -> Any:
        return self.predict_batch([{"number": number}], *args, **kwargs)[0]

    def predict_batch(self, inputs: list[dict[str, Any]], *args: Any, **kwargs: Any) -> Any:
        return [one["number"] * self.factor + kwargs.get("more", 0) for one in inputs]


@pytest.mark.parametrize("name", compat.__all__)
def test_names_are_no_modules_and_are_there(name: str) -> None:
    assert importlib.util.find_spec(f"reprobuild.compat.{name}") is None
    assert callable(getattr(compat, name)) or name.endswith("Type")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'build_image'"):
        compat.build_image  # noqa: B018


@pytest.fixture
def registry() -> type[Registrable]:
    class Base(Registrable):
        pass

    return Base


def test_classes_are_found_by_name(registry: type[Registrable]) -> None:
    @registry.register("one")
    @registry.register("two-from", constructor="make")
    class One(registry):  # type: ignore[valid-type,misc]  # a class of its own for each test
        @classmethod
        def make(cls) -> str:
            return "made"

    assert registry.by_name("one") is One
    assert registry.by_name("two-from")() == "made"
    assert sorted(registry.list_available()) == ["one", "two-from"]
    assert registry.by_name("pathlib.PurePath")("a").name == "a"
    assert Model.list_available is not registry.list_available and "one" not in Model.list_available()
    registry.default_implementation = "two-from"
    assert registry.list_available()[0] == "two-from"


def test_a_name_is_given_once_unless_it_is_meant(registry: type[Registrable]) -> None:
    registry.register("a")(int)
    with pytest.raises(ConfigurationError, match="Base 'a': int is"):
        registry.register("a")(str)
    registry.register("a", exist_ok=True)(str)
    assert registry.by_name("a") is str
    registry.default_implementation = "b"
    with pytest.raises(ConfigurationError, match="default Base 'b'"):
        registry.list_available()


@pytest.mark.parametrize("name", ["none", "no.such.Class", "pathlib.Nothing"])
def test_names_that_are_not_there_are_errors(registry: type[Registrable], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name.split(".")[0]):
        registry.by_name(name)


def test_a_model_is_loaded_by_its_name_with_json() -> None:
    Model.register("times-model", exist_ok=True)(Times)
    model = load_model("times-model", '{"factor": 3}')
    assert model.predict(2) == 6
    assert predict_with_model(model, [{"number": 2, "instance_id": "a"}], {"more": 1}) == [7]
    for wrong in ("[1]", "{"):
        with pytest.raises(UsageError, match="kwargs are"):
            load_model("times-model", wrong)


def test_an_argument_that_is_missing_is_named_before_anything_is_done() -> None:
    with pytest.raises(InputError, match=r"instance 1 lacks number, which Times\.predict needs"):
        predict_with_model(Times(), [{"number": 2}, {"nubmer": 3}])


BASES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "answers": ("QuestionAnsweringModel", ("text", "what?")),
    "questions": ("QuestionGenerationModel", ("text", 0, 4)),
    "recipes": ("RecipeGenerationModel", ("bread", ["flour"])),
    "summaries": ("SingleDocumentSummarizationModel", ("text",)),
    "capitals": ("TruecasingModel", ("text",)),
}


@pytest.mark.parametrize("name, values", BASES.values(), ids=BASES)
def test_one_input_is_a_batch_of_one_with_all_arguments(name: str, values: tuple[Any, ...]) -> None:
    class Seen(getattr(compat, name)):  # type: ignore[misc]  # each of them
        def predict_batch(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            return [(list(inputs[0].values()), kwargs)]

    assert Seen().predict(*values, beam=3) == (list(values), {"beam": 3})


INPUTS = [{"number": number} for number in range(7)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_parts_are_contiguous_and_keep_their_arguments(count: int) -> None:
    parts = ParallelModel(Times, num_models=count).predict_batch(INPUTS, more=1)
    assert [value for part in parts for value in part] == [number * 10 + 1 for number in range(7)]
    assert 1 <= len(parts) <= count


def test_each_model_has_its_own_arguments_and_they_run_at_once() -> None:
    barrier = threading.Barrier(2, timeout=60)

    class Meeting(Times):
        def predict_batch(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            barrier.wait()
            return super().predict_batch(inputs)

    parts = ParallelModel(Meeting, [{"factor": 1}, {"factor": 2}]).predict_batch(INPUTS[:4])
    assert parts == [[0, 1], [4, 6]]


def test_no_inputs_are_no_parts() -> None:
    parts = ParallelModel(Times, num_models=3).predict_batch([])
    assert parts == []
    assert aggregate_parallel_metrics(parts) == ({}, [])


def test_what_goes_wrong_in_a_part_is_raised() -> None:
    with pytest.raises(KeyError, match="number"):
        ParallelModel(Times, num_models=2).predict_batch([{"number": 1}, {"nubmer": 2}])


@pytest.mark.parametrize("more", [{}, {"num_models": 0}, {"model_kwargs_list": []}], ids=str)
def test_parallel_models_are_at_least_one(more: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="ParallelModel"):
        ParallelModel(Times, **more)
    with pytest.raises(UsageError, match="either"):
        ParallelModel(Times, [{}], num_models=1)


MICRO = [{"f1": {"p": number, "r": 1.0}} for number in (0.0, 0.25, 1.0)]


def part(*micro: dict[str, Any]) -> tuple[Any, Any]:
    return ({"f1": {"p": sum(one["f1"]["p"] for one in micro) / len(micro), "r": 1.0}}, list(micro))


def test_parts_of_a_mean_are_joined_by_their_inputs() -> None:
    macro, micro = aggregate_parallel_metrics([part(*MICRO[:2]), part(MICRO[2])])
    assert_dicts_approx_equal(macro, {"f1": {"p": 1.25 / 3, "r": 1.0}})
    assert micro == MICRO
    assert aggregate_parallel_metrics([part(*MICRO)]) == part(*MICRO)


CORPUS: dict[str, list[tuple[Any, Any]]] = {
    "no inputs of their own": [({"bleu": 30.0}, []), ({"bleu": 40.0}, [])],
    "another number": [part(*MICRO[:2]), ({"f1": {"p": 0.9, "r": 1.0}}, MICRO[2:])],
    "another key": [part(*MICRO[:2]), ({"f1": {"p": 1.0, "r": 1.0, "n": 2}}, MICRO[2:])],
}


@pytest.mark.parametrize("outputs", CORPUS.values(), ids=CORPUS)
def test_parts_of_a_corpus_metric_are_refused(outputs: list[tuple[Any, Any]]) -> None:
    with pytest.raises(UsageError, match=r"^(bleu|f1)\S* of part \d is not the mean over its inputs"):
        aggregate_parallel_metrics(outputs)


def test_groups_are_averaged() -> None:
    values = [{"a": 1.0}, {"a": 5.0}, {"a": 3.0}]
    assert aggregate_metrics_by_group([0, 1, 0], values) == [{"a": 2.0}, {"a": 5.0}]
    assert aggregate_metrics_by_group([], []) == []
    for groups, message in (([0, 2, 2], "1 is not there"), ([0], "1 groups and 3 metrics")):
        with pytest.raises(UsageError, match=message):
            aggregate_metrics_by_group(groups, values)


def test_nested_dicts_there_and_back() -> None:
    value = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    flat = flatten_nested_dict(value)
    assert flat == {("a", "b"): 1, ("a", "c", "d"): 2, ("e",): 3}
    assert unflatten_dict(flat) == value
    assert get_default_dict(value, 0.0) == {"a": {"b": 0.0, "c": {"d": 0.0}}, "e": 0.0}
    assert compat.average_dicts([]) == {}
    with pytest.raises(PredictionFailedError, match="lacks the number e"):
        compat.average_dicts([value, {"a": value["a"]}])


NEAR: dict[str, tuple[Any, Any, dict[str, float], bool]] = {
    "equal": ({"a": {"b": 1.0}}, {"a": {"b": 1}}, {}, True),
    "near": ({"a": 1.0}, {"a": 1.0 + 1e-7}, {}, True),
    "far": ({"a": 1.0}, {"a": 1.0001}, {}, False),
    "absolute alone": ({"a": 1e6}, {"a": 1e6 + 0.5}, {"abs": 1e-4}, False),
    "within absolute": ({"a": 0.5}, {"a": 0.50009}, {"abs": 1e-4}, True),
    "the larger of both": ({"a": 100.0}, {"a": 101.0}, {"abs": 1e-4, "rel": 0.1}, True),
    "other keys": ({"a": 1.0, "b": 1.0}, {"a": 1.0}, {}, False),
    "not a number": ({"a": float("nan")}, {"a": 1.0}, {}, False),
    "texts": ({"a": "x"}, {"a": "y"}, {}, False),
}


@pytest.mark.parametrize("found, expected, how, is_near", NEAR.values(), ids=NEAR)
def test_how_near_numbers_are(found: Any, expected: Any, how: dict[str, float], is_near: bool) -> None:
    if is_near:
        assert_dicts_approx_equal(found, expected, **how)
        return
    with pytest.raises(AssertionError):
        assert_dicts_approx_equal(found, expected, **how)


DEVICES: dict[str, tuple[str | None, bool, list[tuple[int]]]] = {
    "not set": (None, False, [(-1,)]),
    "empty": ("", False, [(-1,)]),
    "several": ("-1,0,1", False, [(-1,), (0,), (1,)]),
    "GPUs": ("-1,0,1", True, [(0,), (1,)]),
    "no GPU": (None, True, []),
}


@pytest.mark.parametrize("text, gpu_only, devices", DEVICES.values(), ids=DEVICES)
def test_devices_of_tests(
    monkeypatch: pytest.MonkeyPatch, text: str | None, gpu_only: bool, devices: list[tuple[int]]
) -> None:
    monkeypatch.delenv("TEST_DEVICES", raising=False)
    if text is not None:
        monkeypatch.setenv("TEST_DEVICES", text)
    assert get_testing_device_parameters(gpu_only) == devices


def test_devices_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_DEVICES", "cpu")
    with pytest.raises(UsageError, match="TEST_DEVICES='cpu'"):
        get_testing_device_parameters()


def test_empty_texts_are_taken_out_and_put_back() -> None:
    empty, full, contexts = remove_empty_inputs(["a", " ", ["", "\n"], ["", "b"]], [1, 2, 3, 4])
    assert (empty, full, contexts) == ({1, 2}, ["a", ["", "b"]], [1, 4])
    assert insert_empty_values(["A", "B"], empty, "") == ["A", "", "", "B"]
    with pytest.raises(InputError, match="a context of 1"):
        remove_empty_inputs(["a", "b"], [1])
    with pytest.raises(InputError, match="no place 7"):
        insert_empty_values(["A"], {7}, "")


def test_all_texts_may_be_empty() -> None:
    assert remove_empty_inputs(["", []], [1, 2]) == ({0, 1}, [], [])
    assert insert_empty_values([], {0, 1}, 0.0) == [0.0, 0.0]
    assert remove_empty_inputs([]) == (set(), [])


def test_candidates_with_equal_references_are_one_group() -> None:
    references: list[list[Any]] = [["r"], [["r", "s"]], ["r"], [["r", "s"]]]
    grouped, kept, mapping = group_by_references(["a", "b", "c", "d"], references)
    assert (grouped, kept) == ([["a", "c"], ["b", "d"]], [["r"], [["r", "s"]]])
    assert ungroup_values([["A", "C"], ["B", "D"]], mapping) == ["A", "B", "C", "D"]
    with pytest.raises(InputError, match="2 candidates and 1"):
        group_by_references(["a", "b"], [["r"]])


def test_texts_of_several_sentences() -> None:
    assert [flatten("a b"), flatten(["a", "b"]), flatten(["a", "b"], "|")] == ["a b", "a b", "a|b"]
    assert check_for_single_texts([["a"], [["b", "c"]]]) == ["a", ["b", "c"]]
    with pytest.raises(InputError, match="item 1 has 2 texts"):
        check_for_single_texts([["a"], ["b", "c"]])


def test_json_lines_there_and_back(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "a.jsonl")
    texts: list[Any] = ["a\nb", "\u2028", "ü\r", ["x", "y"]]
    write_to_jsonl_file(texts, "text", path)
    assert read_jsonl_file(path) == [{"text": text} for text in texts]
    write_to_jsonl_file(texts, "text", path, flatten=True, separator="+")
    assert read_jsonl_file(path)[-1] == {"text": "x+y"}
    Path(path).write_text(' {"a": 1}{"a": 2}\n[3] ')
    assert read_jsonl_file(path, single_line=True) == [{"a": 1}, {"a": 2}, [3]]


WRONG_LINES: dict[str, tuple[str, bool, str]] = {
    "a line": ('{"a": 1}\nnothing\n', False, "line 2: no JSON"),
    "one after the other": ('{"a": 1}{"a": ', True, "character 1[45]: no JSON"),
}


@pytest.mark.parametrize("text, single_line, message", WRONG_LINES.values(), ids=WRONG_LINES)
def test_what_is_no_json_is_named(tmp_path: Path, text: str, single_line: bool, message: str) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(InputError, match=message):
        read_jsonl_file(str(tmp_path / "a"), single_line)


def test_a_text_that_would_be_two_lines_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "a.txt")
    write_to_text_file(["a", ["b", "c"]], path)
    assert Path(path).read_text() == "a\nb c\n"
    for text in ("a\nb", "a\rb", ["a", "b\n"]):
        with pytest.raises(InputError, match="item 1 holds a line end"):
            write_to_text_file(["x", text], path)


def test_folders_vanish_unless_they_persist(tmp_path: Path) -> None:
    for persist in (False, True):
        with compat.TemporaryDirectory(str(tmp_path), persist) as path:
            Path(path, "a").touch()
        assert Path(path, "a").exists() is persist


def test_a_folder_that_is_gone_does_not_hide_what_went_wrong(tmp_path: Path) -> None:
    def fail(path: str) -> None:
        Path(path).rmdir()
        raise ValueError("the reason")

    act: Callable[[str], None] = fail
    with pytest.raises(ValueError, match="the reason"), compat.TemporaryDirectory(str(tmp_path)) as path:
        act(path)
