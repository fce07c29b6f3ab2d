"""Protocol ``stream``, without any isolation: right answers, and predictors that do what they should not."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from reprobuild.derivation.predictors import predictor
from reprobuild.digest import Digest
from reprobuild.errors import ItemFailedError, PredictionFailedError, RecipeError, RefusedFetchError
from reprobuild.events import Event, OutputLine, Warned
from reprobuild.gateway.refusal import Refusal
from reprobuild.predict.spool import Spool
from reprobuild.predict.stream import WINDOW, StreamWorker
from reprobuild.predict.worker import Batch, Limits, Ran, start_worker
from reprobuild.value import replace
from tests.host_engine import HostEngine, make_target
from tests.projects import SOURCE
from tests.streaming import streamer

pytestmark = pytest.mark.once


class Bench:
    """A worker, and what it gave."""

    def __init__(self, folder: Path, mode: str = "", *, limits: Limits = Limits(), **more: Any) -> None:  # noqa: B008
        self.engine = HostEngine()
        self.target = make_target(folder, self.engine, default=streamer(mode, **more))
        self.events: list[Event] = []
        self.worker = self.start(limits)
        self.failed: dict[int, str] = {}
        self.outputs: dict[int, str] = {}

    def start(self, limits: Limits) -> StreamWorker:
        worker = start_worker(self.target, "default", {}, limits=limits, tell=self.events.append)
        assert isinstance(worker, StreamWorker)
        return worker

    def compute(self, *texts: str, keep_going: bool = False) -> dict[int, str]:
        """Give the outputs of texts, by index; what failed is in ``failed``."""
        self.outputs = {}

        def accept(index: int, output: bytes) -> None:
            assert index not in self.outputs
            self.outputs[index] = json.loads(output)["output"]

        with batch(texts) as made:
            self.ran = self.worker.compute(made, accept, self.failed.__setitem__ if keep_going else None)
        return self.outputs

    @property
    def ran_processes(self) -> int:
        return len(self.engine.processes)

    @property
    def log(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, OutputLine)]

    ran: Ran


@contextlib.contextmanager
def batch(texts: Sequence[str]) -> Iterator[Batch]:
    with Spool(None) as spool:
        for text in texts:
            spool.write(json.dumps({"text": text}).encode() + b"\n")
        yield Batch(spool, len(texts), lambda index: f"item {index}")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make_one(mode: str = "", **more: Any) -> Bench:
        made.append(Bench(tmp_path, mode, **more))
        return made[-1]

    yield make_one
    for bench in made:
        bench.worker.close()
        assert all(process.poll() is not None for process in bench.engine.processes)


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    return make()


def test_one_process_answers_many_calls(bench: Bench) -> None:
    assert bench.compute("abc", "123", "äöü") == {0: "cba", 1: "321", 2: "üöä"}
    first = bench.compute("pid x")
    assert bench.compute("pid x") == first
    assert bench.compute() == {}
    assert bench.ran_processes == 1
    assert bench.ran.engine == "host"


def test_more_records_than_are_on_their_way_at_once(bench: Bench) -> None:
    texts = [f"text {index}" for index in range(20 * WINDOW + 1)]
    assert bench.compute(*texts) == {index: text[::-1] for index, text in enumerate(texts)}


@pytest.mark.parametrize("size", [1 << 16, 3 << 20, 11 << 20])
def test_large_records_go_both_ways_at_once(bench: Bench, size: int) -> None:
    texts = [letter * size for letter in "abc"]
    assert bench.compute(*texts, f"huge {size}") == {**dict(enumerate(texts)), 3: size * "x"}


def test_answers_may_come_in_any_order(make: Callable[..., Bench]) -> None:
    bench = make("backwards")
    assert list(bench.compute("ab", "cd", "ef").items()) == [(2, "fe"), (1, "dc"), (0, "ba")]


@pytest.mark.parametrize(
    "text", ["a\nb", "a\tb\rc", "\0", "\u2028\u2029\x85", "\\u0022\"'$(id)", '{"_id": 0}', "😀", ""]
)
def test_texts_never_shift(bench: Bench, text: str) -> None:
    assert bench.compute("first", text, "last") == {0: "tsrif", 1: text[::-1], 2: "tsal"}


def test_everything_else_that_is_printed_is_log(bench: Bench) -> None:
    assert bench.compute("garbage", "unended", "x") == {0: "egabrag", 1: "dednenu", 2: "x"}
    assert '{"no": "id"}' in bench.log
    assert "\ufffd\0 [1, 2] garbage" in bench.log
    bench.worker.close()


def test_much_log_does_not_block(bench: Bench) -> None:
    assert bench.compute("log 100000", "x") == {0: "000001 gol", 1: "x"}
    assert bench.log.count("0123456789abcde") == 200000


FAILING = {
    "fail the reason": "it said: the reason",
    "fail": "it said: nothing more",
    "nan": "its output: the field output: NaN is no JSON number",
    "other": "its output: the field 'result' is not known",
    "more": "its output: the field 'more' is not known",
    "duplicate": "its output: the key 'output' is there twice",
    "surrogate": "its output: the field output: a text holds the lone surrogate",
}


@pytest.mark.parametrize("text", FAILING, ids=[text.replace(" ", "-") for text in FAILING])
def test_one_record_fails_by_name_and_the_process_lives(bench: Bench, text: str) -> None:
    bench.compute("first")
    with pytest.raises(ItemFailedError, match=FAILING[text]) as caught:
        bench.compute("ab", text, "cd")
    assert caught.value.index == 1
    assert f'item 1, {{"text": "{text}"}}' in caught.value.message
    assert bench.outputs[0] == "ba"
    assert bench.compute("ab", text, "cd", keep_going=True) == {0: "ba", 2: "dc"}
    assert list(bench.failed) == [1]
    assert re.match(FAILING[text], bench.failed[1])
    assert bench.ran_processes == 1


BROKEN = {
    "twice": "record 1 was answered twice",
    "unknown": "record 1000000 was answered, and never given to it",
    "below": "record -1 was answered, and never given to it",
    "named": "_id is the number of a record",
    "true": "_id is the number of a record",
    "torn": "no JSON",
}


@pytest.mark.parametrize("text", BROKEN)
def test_who_answers_wrongly_is_ended_and_nothing_shifts(bench: Bench, text: str) -> None:
    bench.compute("first")
    for keep_going in (False, True):
        with pytest.raises(PredictionFailedError, match=BROKEN[text].replace(" 1 ", r" \d+ ")) as caught:
            bench.compute(text, "ab", keep_going=keep_going)
        assert not isinstance(caught.value, ItemFailedError)
        assert bench.outputs.get(1, "ba") == "ba"
    assert bench.engine.processes[0].poll() is not None
    assert bench.compute("ab") == {0: "ba"}


def test_a_process_that_dies_names_the_record(bench: Bench) -> None:
    texts = [f"text {index}" for index in range(100)]
    texts[40] = "die of this"
    with pytest.raises(ItemFailedError, match=r"item 40, .*it ended with exit code 7") as caught:
        bench.compute(*texts)
    assert caught.value.index == 40
    assert "it is bad: of this" in caught.value.message
    done = bench.outputs
    assert set(range(40)) <= done.keys()
    assert all(done[index] == texts[index][::-1] for index in done)
    assert bench.compute("ab") == {0: "ba"}


def test_with_keep_going_only_those_fail_that_are_to_blame(bench: Bench) -> None:
    texts = [f"text {index}" for index in range(150)]
    bad = {0: "die a", 30: "die b", 31: "fail c", 149: "die d"}
    for index, text in bad.items():
        texts[index] = text
    expected = {index: text[::-1] for index, text in enumerate(texts) if index not in bad}
    assert bench.compute(*texts, keep_going=True) == expected
    assert bench.failed == {
        0: "it ended with exit code 7",
        30: "it ended with exit code 7",
        31: "it said: c",
        149: "it ended with exit code 7",
    }


def test_a_record_is_not_blamed_for_what_happened_by_chance(bench: Bench, tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    texts = ["ab", f"once {sign}", "cd"]
    assert bench.compute(*texts, keep_going=True) == {i: text[::-1] for i, text in enumerate(texts)}
    assert bench.failed == {}
    assert bench.ran_processes == 2


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_process_that_never_answers_is_no_records_fault(
    make: Callable[..., Bench], keep_going: bool
) -> None:
    bench = make("broken")
    with pytest.raises(PredictionFailedError, match="exit code 1, and had not answered") as caught:
        bench.compute("a", "b", keep_going=keep_going)
    assert not isinstance(caught.value, ItemFailedError)
    assert "no model here" in caught.value.message
    assert bench.failed == {}


@pytest.mark.parametrize("mode", ["", "mute"])
def test_a_process_that_ends_well_too_early_is_told(make: Callable[..., Bench], mode: str) -> None:
    bench = make(mode)
    if not mode:
        bench.compute("first")
    bench.worker.limits = Limits(timeout=0.5)
    with pytest.raises(PredictionFailedError, match=r"exit code 0|no answer within 0.5 s"):
        bench.compute("leave", "b")


def test_time_is_up_where_no_answer_comes(bench: Bench) -> None:
    bench.compute("first")
    bench.worker.limits = Limits(timeout=1)
    texts = ["ab", "hang", "cd"]
    with pytest.raises(ItemFailedError, match=r"item 1, .*no answer within 1 s") as caught:
        bench.compute(*texts)
    assert caught.value.hint == "give it more time with --timeout"
    assert bench.compute(*texts, keep_going=True) == {0: "ba", 2: "dc"}
    assert bench.failed == {1: "it gave no answer within 1 s"}


@pytest.mark.parametrize("mode", ["deaf", "mute"])
def test_time_is_up_where_nothing_is_read_or_answered(make: Callable[..., Bench], mode: str) -> None:
    bench = make(mode, limits=Limits(timeout=0.5))
    with pytest.raises(PredictionFailedError, match=r"no answer within 0.5 s of its start"):
        bench.compute("x" * 300_000, "y")
    with pytest.raises(PredictionFailedError, match=r"no answer within 0.5 s"):
        bench.compute("a", keep_going=True)


def test_who_closes_standard_output_is_late(bench: Bench) -> None:
    bench.compute("first")
    bench.worker.limits = Limits(timeout=0.5)
    with pytest.raises(PredictionFailedError, match=r"item 0, \{\"text\": \"close\"\}"):
        bench.compute("close")


def test_a_line_that_never_ends_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprobuild.predict.process.LONGEST_LINE", 1 << 20)
    with pytest.raises(PredictionFailedError, match="it wrote a line longer than 1048576 bytes"):
        bench.compute("huge 9000000")


def test_memory_that_ran_out_is_the_records(bench: Bench) -> None:
    bench.compute("first")
    bench.engine.outcome = {"out_of_memory": True}
    with pytest.raises(ItemFailedError, match=r"item 1, .*it ran out of memory"):
        bench.compute("ab", "die", "cd")


def test_batch_scope_is_answered_as_a_whole(make: Callable[..., Bench]) -> None:
    bench = make("batch", scope="batch")
    assert bench.compute("a", "b") == {0: "a of 2", 1: "b of 2"}
    many = [str(index) for index in range(1000)]
    assert bench.compute(*many) == {index: f"{index} of 1000" for index in range(1000)}
    assert bench.ran_processes == 1
    with pytest.raises(ItemFailedError, match=r"item 1, .*it said: no"):
        bench.compute("a", "fail", "c")
    with pytest.raises(PredictionFailedError, match="exit code 9, and had not answered 2 of its records; "):
        bench.compute("a", "halt", "c")
    assert bench.compute("a") == {0: "a of 1"}


@pytest.mark.parametrize(("scope", "processes"), [("item", 1), ("batch", 2)])
def test_who_samples_begins_each_batch_anew(make: Callable[..., Bench], scope: str, processes: int) -> None:
    bench = make("batch" if scope == "batch" else "", scope=scope, random=True)
    bench.compute("a")
    bench.compute("b")
    assert bench.ran_processes == processes


READER = """
import json, sys
for line in sys.stdin:
    record = json.loads(line)
    with open(sys.argv[1] + record["path"].rpartition("/")[2]) as file:
        print(json.dumps({"_id": record["_id"], "output": file.read()}), flush=True)
"""


def test_files_that_records_name_are_there_also_later_ones(tmp_path: Path) -> None:
    engine = HostEngine()
    fields: dict[str, Any] = {"inputs": {"path": "file"}, "outputs": {"output": str}}
    made = predictor(f"exec python3 -c '{READER}' /in/files/", protocol="stream", scope="item", **fields)
    target = make_target(tmp_path, engine, default=made)
    worker = start_worker(target, "default", {}, tell=lambda _: None)
    outputs: list[bytes] = []
    with contextlib.closing(worker):
        for text in "abab":
            source = tmp_path / text
            source.write_text(text)
            name = Digest.of(source.read_bytes()).hex
            with Spool(None) as spool:
                spool.write(json.dumps({"path": f"/in/files/{name}"}).encode() + b"\n")
                given = Batch(spool, 1, str, files={name: source})
                worker.compute(given, lambda _, output: outputs.append(output))
        folder = next(iter(engine.commands[0].inputs.values()))
        assert len(list((folder / "files").iterdir())) == 2
    assert outputs == [b'{"output":"a"}', b'{"output":"b"}'] * 2
    assert len(engine.processes) == 1
    assert not folder.exists()


def test_what_was_refused_is_told_once_and_counted(bench: Bench) -> None:
    bench.engine.gate.refused = (Refusal("example.org", 443),)
    bench.compute("a")
    bench.compute("b")
    assert [event.text.count("example.org") for event in bench.events if isinstance(event, Warned)] == [1]
    assert (bench.worker.refused, bench.ran.refused) == (1, 1)
    with pytest.raises(RefusedFetchError, match="exit code 7"):
        bench.compute("die")


def test_strict_network_gives_nothing_out(bench: Bench) -> None:
    bench.worker._target = replace(bench.target, strict_network=True)
    bench.engine.gate.refused = (Refusal("example.org", 443),)
    with pytest.raises(RefusedFetchError, match="coped without"):
        bench.compute("a")
    assert bench.outputs == {}


def test_input_and_output_are_no_placeholders() -> None:
    with pytest.raises(RecipeError, match="standard input"):
        predictor("run {input}", inputs={"a": str}, outputs={"b": str}, protocol="stream")


# The end.


def test_close_from_another_thread_ends_a_computation(bench: Bench) -> None:
    bench.compute("first")
    timer = threading.Timer(0.3, bench.worker.close)
    timer.start()
    with pytest.raises(PredictionFailedError, match="was closed"):
        bench.compute("hang")
    timer.join()
    bench.worker.close()
    with pytest.raises(PredictionFailedError, match="is closed"):
        bench.compute("a")


def test_an_interrupt_ends_the_process(bench: Bench) -> None:
    bench.compute("first")
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        bench.compute("hang")
    assert bench.engine.processes[0].poll() is not None
    assert bench.compute("ab") == {0: "ba"}


def test_what_takes_the_outputs_may_fail(bench: Bench) -> None:
    def accept(index: int, output: bytes) -> None:
        raise OSError("full")

    with batch(["a", "b"]) as made, pytest.raises(OSError, match="full"):
        bench.worker.compute(made, accept)
    assert bench.compute("ab") == {0: "ba"}


def test_nobody_holding_the_worker_is_its_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.compute("a")
    process = bench.engine.processes[0]
    del bench.worker
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "reprobuild-predictor":
            thread.join(timeout=20)
    assert process.poll() is not None


def test_a_process_that_was_forked_off_starts_its_own(bench: Bench) -> None:
    before = bench.compute("pid x")
    number = os.fork()
    if not number:
        code = 1
        with contextlib.suppress(BaseException):
            own = bench.compute("pid x")
            bench.worker.close()
            code = 0 if own != before and bench.ran_processes == 2 else 2
        os._exit(code)
    _, status = os.waitpid(number, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert bench.compute("pid x") == before


AT_EXIT = """
import pathlib, sys
from tests.unit.test_predict_stream import Bench
bench = Bench(pathlib.Path(sys.argv[1]))
print(bench.compute("pid x")[0], flush=True)
if sys.argv[2] == "raise":
    raise ValueError("on purpose")
"""


@pytest.mark.parametrize("how", ["return", "raise"])
def test_the_end_of_the_interpreter_is_its_end(tmp_path: Path, how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT, str(tmp_path), how],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == (1 if how == "raise" else 0), done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
