"""From file to file: what comes out, what reaches the model, what is refused and how."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from reprobuild.derivation.predictors import File, predictor
from reprobuild.errors import (
    EngineError,
    InputError,
    OutsideError,
    PredictionFailedError,
    RefusedFetchError,
    ReprobuildError,
    UsageError,
)
from reprobuild.events import Event, Note, Warned
from reprobuild.gateway.refusal import Refusal
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.call import Call, Options, Summary
from reprobuild.predict.files import predict_file
from reprobuild.predict.worker import Limits
from tests.host_engine import HostEngine, make_target, reverser


class Bench:
    """A target on the host, an input file and an output file."""

    def __init__(self, folder: Path, **predictors: Any) -> None:
        self.folder = folder
        self.engine = HostEngine()
        self.target = make_target(folder, self.engine, **predictors)
        self.source = folder / "in.jsonl"
        self.destination = folder / "out.jsonl"
        self.events: list[Event] = []

    def write(self, *records: Any) -> None:
        self.source.write_text("".join(json.dumps(record) + "\n" for record in records))

    def texts(self, *texts: str) -> None:
        self.write(*({"text": text} for text in texts))

    def predict(self, name: str = "default", limit: int | None = None, **options: Any) -> Summary:
        return predict_file(
            self.target,
            name,
            str(self.source),
            str(self.destination),
            options=Options(**options),
            limit=limit,
            tell=self.events.append,
        )

    def outputs(self) -> list[Any]:
        return [json.loads(line)["output"] for line in self.destination.read_bytes().split(b"\n")[:-1]]

    def told(self, kind: type[Any]) -> Sequence[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_second_time_comes_from_the_cache(bench: Bench) -> None:
    bench.texts("abc", "123", "äöü")
    first = bench.predict()
    second = bench.predict()
    assert bench.outputs() == ["cba", "321", "üöä"]
    assert (first.items, first.cached, first.computed) == (3, 0, 3)
    assert (second.items, second.cached, second.computed) == (3, 3, 0)
    assert len(bench.engine.commands) == 1


def test_summary_is_what_a_paper_can_cite(bench: Bench) -> None:
    bench.texts("abc")
    summary = bench.predict().as_json()
    assert summary["signature"] == f"tutorial@{bench.target.input_hash.hex}|default|cpu|v1"
    assert set(summary) == {
        "schema",
        "items",
        "cached",
        "computed",
        "failed",
        "seconds",
        "saved_seconds",
        "signature",
    }


def test_only_distinct_misses_reach_the_model_and_order_is_kept(bench: Bench) -> None:
    bench.texts("b", "d")
    bench.predict()
    bench.texts("a1", "b", "c1", "a1", "d", "c1", "a1")
    summary = bench.predict()
    assert bench.engine.inputs[1] == b'{"text":"a1"}\n{"text":"c1"}\n'
    assert bench.outputs() == ["1a", "b", "1c", "1a", "d", "1c", "1a"]
    assert (summary.items, summary.cached, summary.computed) == (7, 2, 2)


@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\tb\rc", "\0", "\u2028\u2029\x85", "\\u0022\"'$(id)", "😀", "", "x" * 3_000_000],
    ids=["newline", "tab", "nul", "other line ends", "quotes", "astral", "empty", "3 MB"],
)
def test_texts_never_shift(bench: Bench, text: str) -> None:
    bench.texts("first", text, "last")
    bench.predict()
    bench.predict()
    assert bench.outputs() == ["tsrif", text[::-1], "tsal"]


def test_record_with_other_spelling_is_the_same_record(bench: Bench) -> None:
    bench.source.write_bytes(b'{"text":"\\u0061"}\n {"text" : "a"} \r\n{"text":"a"}')
    assert bench.predict().computed == 1
    assert bench.outputs() == ["a", "a", "a"]


def test_batch_scope_covers_the_whole_call(tmp_path: Path) -> None:
    bench = Bench(tmp_path, whole=reverser("batch"))
    for texts, computed in ((["a", "b"], 2), (["a", "b"], 0), (["b", "a"], 2), (["a"], 1), (["a", "a"], 2)):
        bench.texts(*texts)
        assert bench.predict("whole").computed == computed
        assert bench.outputs() == texts


@pytest.mark.parametrize("scope", ["item", "batch"])
def test_no_records_start_nothing(tmp_path: Path, scope: str) -> None:
    bench = Bench(tmp_path, default=reverser(scope))
    bench.write()
    assert bench.predict().items == 0
    assert bench.destination.read_bytes() == b""
    assert not bench.engine.commands


def test_limit_takes_the_first_lines(bench: Bench) -> None:
    bench.texts("ab", "cd", "ef")
    assert bench.predict(limit=2).items == 2
    assert bench.outputs() == ["ba", "dc"]


@pytest.mark.parametrize("mode, runs", [("use", 1), ("refresh", 2), ("off", 2)])
def test_cache_modes(bench: Bench, mode: str, runs: int) -> None:
    bench.texts("ab")
    bench.predict()
    bench.predict(cache=mode)
    assert len(bench.engine.commands) == runs


def test_cache_off_keeps_nothing(bench: Bench) -> None:
    bench.texts("ab")
    bench.predict(cache="off")
    assert not (bench.target.store / "predictions").exists()


def test_refresh_says_which_outputs_changed(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    answer.write_text("1")
    command = (
        f"for n in 1 2 3; do echo '{{\"output\":'\"$(cat {answer})\"'}}'; done > {{output}}; : {{input}}"
    )
    changing = predictor(command, inputs={"text": str}, outputs={"output": int}, scope="item")
    bench = Bench(tmp_path, default=changing)
    bench.texts("a", "b", "c")
    bench.predict()
    bench.predict(cache="refresh")
    assert not bench.told(Note)
    answer.write_text("2")
    bench.predict(cache="refresh")
    assert "line 1" in bench.told(Note)[0].text and "line 3" in bench.told(Note)[0].text
    bench.predict()
    assert bench.outputs() == [2, 2, 2]


def test_tampered_prediction_is_computed_again_and_told(bench: Bench) -> None:
    bench.texts("abc", "def")
    bench.predict()
    with PredictionCache.open(bench.target.store) as cache, cache.connected() as connection:
        connection.execute(
            "UPDATE Cache SET value = CAST(replace(CAST(value AS TEXT), 'cba', 'abc') AS BLOB)"
            " WHERE instr(value, CAST('cba' AS BLOB))"
        )
    summary = bench.predict()
    assert bench.outputs() == ["cba", "fed"]
    assert (summary.cached, summary.computed) == (1, 1)
    assert "do not fit their own digests" in bench.told(Warned)[0].text
    assert bench.predict().cached == 2


class FullCache(PredictionCache):
    """A cache on a disk that is full."""

    def put_many(self, *_: Any, **__: Any) -> None:
        raise OutsideError("database or disk is full")


@pytest.mark.parametrize("scope", ["item", "batch"])
def test_what_can_not_be_kept_is_still_given_out(tmp_path: Path, scope: str) -> None:
    bench = Bench(tmp_path, default=reverser(scope))
    cache = FullCache(PredictionCache.open(bench.target.store).folder)
    call = Call(bench.target, "default", Options(), bench.events.append, cache)
    assert b"".join(call.answer([[b'{"text":"abc"}']], str)) == b'{"output":"cba"}\n'
    assert bench.told(Warned)[0].text == "outputs of tutorial/default are not kept: database or disk is full"


def test_disk_that_fills_up_is_said_in_words(bench: Bench) -> None:
    def chunks() -> Iterator[list[bytes]]:
        yield [b'{"text":"abc"}']
        raise OSError(errno.ENOSPC, "No space left on device", "/store/tmp/x")

    call = Call(bench.target, "default", Options(), bench.events.append)
    with pytest.raises(OutsideError, match=r"default stopped: No space left on device \(/store/tmp/x\)"):
        list(call.answer(chunks(), str))


def test_input_is_checked_before_anything_starts(bench: Bench) -> None:
    bench.source.write_text('{"text": "a"}\n' * 20_000 + '{"txt": "b"}\n')
    bench.destination.write_text("as it was\n")
    with pytest.raises(
        InputError, match=r"in\.jsonl, line 20001: the field text is missing \(there is txt\)"
    ) as caught:
        bench.predict()
    assert caught.value.exit_code == 2
    assert not bench.engine.commands
    assert bench.destination.read_text() == "as it was\n"
    assert sorted(path.name for path in bench.folder.glob("*.jsonl*")) == ["in.jsonl", "out.jsonl"]


def shell(command: str, **more: Any) -> Any:
    kinds = {"inputs": {"text": str}, "outputs": {"output": str}, "scope": "item"}
    return predictor(f": {{input}} {{output}}; {command}", **{**kinds, **more})


FAILURES = {
    "exit code": ("echo broken; exit 3", "ended with exit code 3.*broken"),
    "no output": ("true", r"wrote no /out/output\.jsonl"),
    "too few": ('echo \'{"output":"x"}\' > {output}', r"1 of 2 outputs.*line 2 of .*in\.jsonl"),
    "too many": ('yes \'{"output":"x"}\' | head -3 > {output}', "more than the 2 records"),
    "far too many": ('yes \'{"output":"x"}\' | head -90000 > {output}', "more than the 2 records"),
    "no JSON": (
        "printf 'x\\ny\\n' > {output}",
        r"line 1 of .*in\.jsonl, {.text.:.a.} \(line 1 of /out.*: no JSON",
    ),
    "empty line": ("printf '\\n\\n' > {output}", "the line is empty"),
    "missing field": ("yes '{{}}' | head -2 > {output}", "the field output is missing"),
    "extra field": ('yes \'{"output":"","more":1}\' | head -2 > {output}', "the field 'more' is not known"),
    "wrong type": (
        "yes '{\"output\":1}' | head -2 > {output}",
        "the field output is an integer where a text",
    ),
    "NaN": ("yes '{\"output\":NaN}' | head -2 > {output}", "NaN is no JSON number"),
    "twice": ('yes \'{"output":"a","output":"a"}\' | head -2 > {output}', "the key 'output' is there twice"),
    "a link": ('echo \'{"output":""}\' > {output}.2; ln -s output.jsonl.2 {output}', "wrote no /out"),
    "a pipe": ("mkfifo {output}", "is no plain file"),
}


@pytest.mark.parametrize("scope", ["item", "batch"])
@pytest.mark.parametrize("command, message", FAILURES.values(), ids=FAILURES)
def test_failure_is_named_and_never_kept(tmp_path: Path, scope: str, command: str, message: str) -> None:
    bench = Bench(tmp_path, default=shell(command.replace("{{}}", "{}"), scope=scope))
    bench.texts("a", "b")
    with pytest.raises(PredictionFailedError) as caught:
        bench.predict()
    assert caught.value.exit_code == 1
    assert re.search(message, caught.value.message, re.DOTALL), caught.value.message
    assert not bench.destination.exists()
    with PredictionCache.open(bench.target.store) as cache:
        assert cache.stats().predictions == 0


OUTCOMES: dict[str, tuple[dict[str, Any], type[ReprobuildError], str]] = {
    "time": ({"exit_code": 137, "timed_out": True}, PredictionFailedError, "ended after 2 s"),
    "memory": ({"exit_code": 137, "out_of_memory": True}, PredictionFailedError, "out of memory"),
}


@pytest.mark.parametrize("outcome, kind, message", OUTCOMES.values(), ids=OUTCOMES)
def test_how_a_command_ended_is_not_lost(
    bench: Bench, outcome: dict[str, Any], kind: type[ReprobuildError], message: str
) -> None:
    bench.texts("a")
    bench.engine.outcome = outcome
    with pytest.raises(kind, match=message):
        bench.predict(limits=Limits(timeout=2.0, memory=1 << 20))
    assert bench.engine.commands[0].timeout == 2.0
    assert bench.engine.commands[0].memory == 1 << 20


REFUSED = Refusal("example.org", 443, "https://example.org/weights.bin", "GET", "wget", 3)


def test_what_was_refused_to_a_command_that_failed_is_the_error(bench: Bench) -> None:
    bench.texts("a")
    bench.engine.outcome = {"exit_code": 1}
    bench.engine.gate.refused = (REFUSED,)
    with pytest.raises(RefusedFetchError) as caught:
        bench.predict()
    assert "tutorial/default" in caught.value.message
    assert "https://example.org/weights.bin" in caught.value.message
    assert 'url("https://example.org/weights.bin"' in caught.value.hint


def test_network_that_was_coped_without_is_a_warning(bench: Bench) -> None:
    bench.texts("a")
    bench.engine.gate.refused = (REFUSED,)
    bench.predict()
    (told,) = bench.told(Warned)
    assert "https://example.org/weights.bin" in told.text
    assert 'url("https://example.org/weights.bin"' in told.hint


def test_parameters_are_quoted_and_in_the_key(tmp_path: Path) -> None:
    echo = shell('printf \'{"output":"%s"}\\n\' {word} > {output}', parameters={"word": "x", "n": 1})
    bench = Bench(tmp_path, default=echo)
    bench.texts("a")
    for word in ("two words", "$(id)", "'; exit 3; '"):
        bench.predict(parameters={"word": word})
        assert bench.outputs() == [word]
    assert bench.predict(parameters={"word": "$(id)"}).cached == 1
    assert bench.predict(parameters={"word": "$(id)", "n": 2}).cached == 0
    with pytest.raises(UsageError, match="no parameter 'words'") as caught:
        bench.predict(parameters={"words": "x"})
    assert caught.value.hint == "it has word, n"


def test_sampling_is_remembered_only_with_a_seed(tmp_path: Path) -> None:
    command = "for n in 1 2; do echo '{\"output\":'{seed}'}'; done > {output}"
    bench = Bench(tmp_path, default=shell(command, outputs={"output": int}, random=True))
    bench.texts("a", "a")
    first = bench.predict()
    assert (first.computed, bench.predict().cached) == (2, 0)
    bench.texts("a", "b")
    assert bench.predict(parameters={"seed": 7}).computed == 2
    assert bench.outputs() == [7, 7]
    assert bench.predict(parameters={"seed": 7}).cached == 2
    assert bench.predict(parameters={"seed": 8}).cached == 0


def test_files_travel_by_digest(tmp_path: Path) -> None:
    command = (
        'python3 -c "import json, sys\n'
        "for line in open(sys.argv[1]):\n"
        "    path = json.loads(line)['path'].replace('/in', sys.argv[1].rpartition('/')[0])\n"
        "    print(json.dumps({'output': open(path).read() + path[-4:]}))\" {input} > {output}"
    )
    bench = Bench(
        tmp_path, default=predictor(command, inputs={"path": File}, outputs={"output": str}, scope="item")
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.txt").write_text("one")
    (tmp_path / "same.txt").write_text("one")
    bench.write({"path": "data/one.txt"}, {"path": str(tmp_path / "same.txt")})
    assert bench.predict().computed == 1
    assert bench.outputs() == ["one.txt", "one.txt"]
    assert str(tmp_path).encode() not in bench.engine.inputs[0]
    (tmp_path / "same.txt").write_text("two")
    assert bench.predict().computed == 1
    assert bench.outputs() == ["one.txt", "two.txt"]
    bench.write({"path": "data/none.txt"})
    with pytest.raises(
        InputError, match=r"line 1: the field path names 'data/none\.txt', which does not exist"
    ):
        bench.predict()


NOT_BUILT = {
    "GPU": (shell("", cuda=True), {"device": "0"}, EngineError, "no GPU 0"),
    "GPU for nothing": (shell(""), {"device": "0"}, UsageError, "does not use a GPU"),
    "no device": (shell(""), {"device": "gpu"}, UsageError, "no device 'gpu'"),
    "cache mode": (shell(""), {"cache": "maybe"}, UsageError, "maybe"),
}


@pytest.mark.parametrize("made, options, kind, message", NOT_BUILT.values(), ids=NOT_BUILT)
def test_what_can_not_be_done_is_said_by_name(
    tmp_path: Path, made: Any, options: dict[str, Any], kind: type[ReprobuildError], message: str
) -> None:
    bench = Bench(tmp_path, default=made)
    bench.texts("a")
    with pytest.raises(kind, match=message):
        bench.predict(**options)
    assert not bench.engine.commands


def test_unknown_predictor_names_those_that_there_are(bench: Bench) -> None:
    with pytest.raises(UsageError) as caught:
        bench.predict("other")
    assert caught.value.hint == "one of tutorial/default"


def test_unusable_paths(bench: Bench) -> None:
    bench.texts("a")
    for source, destination, message in (
        (bench.folder / "none.jsonl", bench.destination, "none.jsonl can't be read: No such file"),
        (bench.folder, bench.destination, "the folder is no saved dataset"),
        (bench.source, bench.folder, "is a folder"),
        (bench.source, bench.folder / "no" / "out.jsonl", "can't be written: No such file"),
    ):
        with pytest.raises(ReprobuildError, match=message):
            predict_file(bench.target, "default", str(source), str(destination))
    assert not bench.engine.commands
