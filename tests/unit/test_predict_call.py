"""How a call computes what is missing: in chunks that are kept, several at once, past failures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reprobuild.derivation.predictors import predictor
from reprobuild.errors import ItemFailedError, PredictionFailedError
from reprobuild.events import ItemsProgressed, Note
from reprobuild.predict import computation
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.call import Options, Summary
from reprobuild.predict.chunks import FIRST
from reprobuild.predict.files import predict_file
from tests.host_engine import HostEngine, make_target
from tests.streaming import streamer

PICKY = (
    'python3 -c "import json, sys\n'
    "texts = [json.loads(line)['text'] for line in open(sys.argv[1])]\n"
    "if any(text.startswith('bad') for text in texts): sys.exit('cannot do that')\n"
    "with open(sys.argv[2], 'w') as out:\n"
    "    for text in texts:\n"
    "        print(json.dumps({'output': 5 if text.startswith('odd') else text.upper()}), file=out)"
    '" {input} {output}'
)
"""Writes texts in capitals; ends at once for a bad one, and writes no text for an odd one."""

MEETING = (
    "cp {input} $MEETING/$$; n=0; "
    'until [ "$(ls $MEETING | wc -l)" -ge {count} ] || [ $n -gt 600 ]; do sleep 0.05; n=$((n+1)); done; '
    '[ "$(ls $MEETING | wc -l)" -ge {count} ] && cp {input} {output}'
)
"""Copies its input once so many of it are at work at the same time."""


class Bench:
    """A target on the host that is given texts, and what came of them."""

    def __init__(self, folder: Path, command: str, outputs: Any = None, **more: Any) -> None:
        self.folder = folder
        self.engine = HostEngine()
        made = predictor(
            command, inputs={"text": str}, outputs=outputs or {"output": str}, **{"scope": "item", **more}
        )
        self.target = make_target(folder, self.engine, default=made)
        self.progress: list[ItemsProgressed] = []
        self.notes: list[str] = []

    def predict(self, texts: Sequence[str], **options: Any) -> Summary:
        source = self.folder / "in.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        destination = str(self.folder / "out.jsonl")
        return predict_file(
            self.target, "default", str(source), destination, options=Options(**options), tell=self._tell
        )

    def outputs(self) -> list[Any]:
        lines = (self.folder / "out.jsonl").read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def given(self) -> list[list[str]]:
        """Give the texts of each run of the command."""
        return [[json.loads(line)["text"] for line in given.splitlines()] for given in self.engine.inputs]

    def kept(self) -> int:
        with PredictionCache.open(self.target.store) as cache:
            return cache.stats().predictions

    def _tell(self, event: Any) -> None:
        if isinstance(event, ItemsProgressed):
            self.progress.append(event)
        if isinstance(event, Note):
            self.notes.append(event.text)


def texts(count: int, **others: str) -> list[str]:
    """Give ``t0``, ``t1``, …, some replaced: ``at7="bad"``."""
    return [others.get(f"at{n}", f"t{n}") for n in range(count)]


def test_many_records_go_in_chunks_of_which_the_first_is_small(tmp_path: Path) -> None:
    bench = Bench(tmp_path, PICKY)
    summary = bench.predict(texts(5000))
    sizes = [len(given) for given in bench.given()]
    assert sizes[0] == FIRST and len(sizes) > 1
    assert [text for given in bench.given() for text in given] == texts(5000)
    assert bench.outputs() == [{"output": text.upper()} for text in texts(5000)]
    assert (summary.computed, bench.kept()) == (5000, 5000)


def test_what_was_computed_before_a_failure_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, PICKY)
    with pytest.raises(ItemFailedError) as caught:
        bench.predict(texts(300, at250="bad one", at270="bad two"))
    assert "cannot do that" in caught.value.message
    assert f'it was given line 251 of {tmp_path}/in.jsonl, {{"text":"bad one"}}' in caught.value.message
    assert caught.value.index == 250
    assert bench.kept() == 250
    assert bench.notes == [
        "250 of 300 new records were computed, and are kept: the same call goes on from there"
    ]
    bench.engine.inputs.clear()
    bench.predict(texts(300))
    assert [text for given in bench.given() for text in given] == texts(300)[250:]
    assert bench.outputs() == [{"output": text.upper()} for text in texts(300)]


def test_what_fails_in_no_smaller_part_is_still_a_failure(tmp_path: Path) -> None:
    bench = Bench(tmp_path, f"[ $(wc -l < {{input}}) -lt 40 ] || exit 3; {PICKY}")
    with pytest.raises(PredictionFailedError) as caught:
        bench.predict(texts(60))
    assert "ended with exit code 3" in caught.value.message
    assert "from line 1 of" in caught.value.message
    assert "in smaller parts they do not fail" in caught.value.hint


def test_a_run_that_took_long_is_not_run_again_to_find_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computation, "SEARCHED", 0.0)
    bench = Bench(tmp_path, PICKY)
    with pytest.raises(PredictionFailedError) as caught:
        bench.predict(texts(300, at250="bad one"))
    assert f"from line 101 of {tmp_path}/in.jsonl to line 300 of {tmp_path}/in.jsonl" in caught.value.message
    assert "--keep-going" in caught.value.hint
    assert bench.kept() == FIRST


def test_a_record_alone_is_named_with_what_it_holds(tmp_path: Path) -> None:
    bench = Bench(tmp_path, PICKY)
    for text in ("bad thing\x1b[31m", "odd thing"):
        with pytest.raises(ItemFailedError) as caught:
            bench.predict(["fine", text] if text.startswith("odd") else ["fine", "fine", text][2:])
        assert f'in.jsonl, {{"text":"{text[:9]}' in caught.value.message
        assert "\x1b" not in caught.value.message
    assert caught.value.index == 1
    assert "the field output is an integer" in caught.value.message


def test_keep_going_computes_the_others_and_shifts_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, PICKY)
    given = texts(400, at0="bad a", at130="odd b", at131="bad c", at133="bad c", at399="bad d")
    summary = bench.predict(given, keep_going=True)
    assert [(failure.index, failure.where.partition(" of ")[0]) for failure in summary.failed] == [
        (0, "line 1"), (130, "line 131"), (131, "line 132"), (399, "line 400"),
    ]  # fmt: skip
    assert json.loads(summary.failed[1].record) == {"text": "odd b"}
    assert "the field output is an integer" in summary.failed[1].reason
    assert "cannot do that" in summary.failed[3].reason
    outputs = bench.outputs()
    assert len(outputs) == 400
    for text, output in zip(given, outputs, strict=True):
        if text.startswith(("bad", "odd")):
            assert set(output) == {"_error"} and "\n" not in output["_error"]
        else:
            assert output == {"output": text.upper()}
    assert (summary.items, summary.computed, bench.kept()) == (400, 395, 395)
    assert json.loads(json.dumps(summary.as_json()))["failed"][0]["input"] == {"text": "bad a"}
    bench.engine.inputs.clear()
    again = bench.predict(given, keep_going=True)
    assert {text for given in bench.given() for text in given} == {"bad a", "odd b", "bad c", "bad d"}
    assert (again.cached, again.computed, len(again.failed)) == (395, 0, 4)


def test_keep_going_with_few_records_of_which_none_works(tmp_path: Path) -> None:
    bench = Bench(tmp_path, PICKY)
    summary = bench.predict(["bad 1", "bad 2", "odd 3"], keep_going=True)
    assert [failure.index for failure in summary.failed] == [0, 1, 2]
    assert all("_error" in output for output in bench.outputs())


def test_a_predictor_that_never_works_is_soon_given_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "echo no such library; exit 2; : {input} {output}")
    with pytest.raises(PredictionFailedError, match="no such library") as caught:
        bench.predict(texts(2000), keep_going=True)
    assert "8 records failed one by one, and none was computed" in caught.value.hint
    assert len(bench.engine.commands) < 40
    assert not (tmp_path / "out.jsonl").exists()


def test_records_that_fail_at_the_beginning_do_not_end_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, PICKY)
    summary = bench.predict([*(f"bad {n}" for n in range(12)), *texts(70)], keep_going=True)
    assert (len(summary.failed), summary.computed) == (12, 70)


def test_keep_going_does_not_divide_what_belongs_together(tmp_path: Path) -> None:
    bench = Bench(tmp_path, PICKY, scope="batch")
    with pytest.raises(PredictionFailedError, match="cannot do that"):
        bench.predict(["fine", "bad"], keep_going=True)
    assert len(bench.engine.commands) == 1


@pytest.mark.parametrize("jobs", [2, 3])
def test_jobs_are_at_work_at_once(tmp_path: Path, jobs: int) -> None:
    (tmp_path / "meeting").mkdir()
    command = MEETING.replace("$MEETING", str(tmp_path / "meeting")).replace("{count}", str(jobs))
    bench = Bench(tmp_path, command, outputs={"text": str})
    summary = bench.predict(texts(7), jobs=jobs)
    assert summary.computed == 7
    assert bench.outputs() == [{"text": text} for text in texts(7)]


def test_many_chunks_by_several_workers_come_out_in_order(tmp_path: Path) -> None:
    bench = Bench(tmp_path, PICKY)
    given = texts(3000, at7="bad", at1500="odd", at2999="bad too")
    summary = bench.predict(given, jobs=3, keep_going=True)
    assert [failure.index for failure in summary.failed] == [7, 1500, 2999]
    assert bench.kept() == 2997
    for text, output in zip(given, bench.outputs(), strict=True):
        assert output == {"output": text.upper()} or text.startswith(("bad", "odd"))
    assert bench.predict(given[8:1500], jobs=3).cached == 1492


def test_a_failure_ends_what_others_have_at_work(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    command = (
        f"if grep -q bad {{input}}; then until [ -e {begun} ]; do sleep 0.02; done; exit 4; fi; "
        f"touch {begun}; sleep 55; : {{output}}"
    )
    bench = Bench(tmp_path, command)
    with pytest.raises(ItemFailedError, match="exit code 4") as caught:
        bench.predict(["one", "bad", "three"], jobs=3)
    assert caught.value.index == 1
    assert len(bench.engine.commands) == 3


def test_progress_says_what_is_done_how_fast_and_for_how_long(tmp_path: Path) -> None:
    bench = Bench(tmp_path, PICKY)
    bench.predict(texts(50))
    bench.progress.clear()
    bench.predict(texts(2000))
    assert [one.done for one in bench.progress] == sorted(one.done for one in bench.progress)
    assert {one.cached for one in bench.progress} == {50}
    within = [one for one in bench.progress if 50 < one.done < 2000]
    assert within and all(one.rate > 0 and one.left > 0 for one in within)
    assert (bench.progress[-1].done, bench.progress[-1].count) == (2000, 2000)
    assert all(one.is_reading is (one.rate == 0) for one in bench.progress[:-1])


def test_what_the_cache_saved_is_summed_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "sleep 0.2; " + PICKY)
    first = bench.predict(texts(4))
    second = bench.predict([*texts(4), "more"])
    assert first.saved_seconds == 0.0
    assert 0.19 < second.saved_seconds <= first.seconds
    assert second.as_json()["saved_seconds"] == round(second.saved_seconds, 3)


def test_each_run_of_a_predictor_that_samples_has_a_seed_of_its_own(tmp_path: Path) -> None:
    command = "while read -r line; do echo '{\"output\":'{seed}'}'; done < {input} > {output}"
    bench = Bench(tmp_path, command, outputs={"output": int}, random=True)
    bench.predict(["same"] * 400)
    seeds = [output["output"] for output in bench.outputs()]
    assert len(set(seeds)) == len(bench.engine.commands) > 1
    bench.predict(["same"] * 400, parameters={"seed": 5})
    assert [output["output"] for output in bench.outputs()] == [5] * 400


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_process_that_lives_on_serves_all_chunks_of_a_call(tmp_path: Path, jobs: int) -> None:
    bench = Bench(tmp_path, PICKY)
    bench.target = make_target(tmp_path, bench.engine, default=streamer())
    given = texts(3000, at2500="fail for a reason")
    summary = bench.predict(given, jobs=jobs, keep_going=True)
    assert len(bench.engine.processes) == jobs
    assert all(process.poll() is not None for process in bench.engine.processes)
    assert [failure.reason for failure in summary.failed] == ["it said: for a reason"]
    outputs = [output.get("output") for output in bench.outputs()]
    assert outputs == [None if n == 2500 else text[::-1] for n, text in enumerate(given)]
