"""Runs of protocol ``files`` that a model makes ready before their records are there."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reprobuild.engine.protocol import Result
from reprobuild.errors import EngineError, LostError, PredictionFailedError
from reprobuild.gateway.refusal import Refusal
from reprobuild.predict import held
from reprobuild.predict.call import Options
from reprobuild.predict.model import Model
from reprobuild.predict.spool import Spool
from reprobuild.predict.worker import Batch
from reprobuild.predict.workers import Workers
from tests.host_engine import REVERSE, HostEngine, HostGround, make_target, reverser
from tests.waiting import wait_until

FAIL = f"grep -q fail {{input}} && exit 3; {REVERSE}"
HANG = f"grep -q hang {{input}} && sleep 1000; {REVERSE}"


@dataclass
class Holding(HostEngine):
    """Counts the runs that wait to begin; ``lost``: what those find that begin after it was set."""

    waiting: int = 0
    made: int = 0
    lost: EngineError | None = None
    broken: EngineError | None = None
    """What comes once a command has begun."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    def run(self, *arguments: Any, hold: Callable[[], bool] | None = None, **more: Any) -> Result:
        assert hold is not None
        with self.changed:
            self.waiting += 1
            self.made += 1
            lost = self.lost
        begins = hold()
        with self.changed:
            self.waiting -= 1
        if begins and self.lost is not lost and self.lost is not None:
            raise self.lost
        result = super().run(*arguments, hold=lambda: begins, **more)
        if self.broken is not None:
            raise self.broken
        return result


class Bench:
    """A predictor that runs on the host, and models of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = Holding()
        self.models: list[Model] = []

    def model(self, command: str = REVERSE, **more: Any) -> Model:
        one = reverser(**more) if command == REVERSE else _saying(command, **more)
        target = make_target(self.folder, self.engine, default=one)
        model = Model(target, "default", Options(cache="off"))
        self.models.append(model)
        return model

    def waiting_model(self, command: str = REVERSE, **more: Any) -> Model:
        """Give a model with a run that waits: which is so from its second call on."""
        model = self.model(command, **more)
        for text in ("abc", "def"):
            assert model.predict(text) == text[::-1]
        wait_until(lambda: self.engine.waiting == 1)
        return model

    def folders(self) -> list[Path]:
        return list(self.folder.glob("predict*"))


def spool(records: bytes) -> Spool:
    made = Spool(None)
    made.write(records)
    return made


def _saying(command: str, **more: Any) -> Any:
    from reprobuild.derivation.predictors import predictor

    fields: dict[str, Any] = {"inputs": {"text": str}, "outputs": {"output": str}, "scope": "item"}
    return predictor(command, **{**fields, **more})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for model in made.models:
        model.close()
    assert made.engine.waiting == 0
    assert made.folders() == []


def test_another_run_waits_for_the_next_record(bench: Bench) -> None:
    with bench.model() as model:
        assert model.predict("abc") == "cba"
        assert bench.engine.made == 1, "one call is no sign that another will come"
        assert [model.predict(text) for text in ("def", "ghi", "")] == ["fed", "ihg", ""]
        assert model.predict_batch([{"text": "a1"}, {"text": "b2"}]) == ["1a", "2b"]
        wait_until(lambda: bench.engine.waiting == 1)
        assert bench.engine.made == len(bench.engine.commands) + 1
    assert bench.engine.waiting == 0
    assert bench.folders() == []
    assert model.predict("abc") == "cba", "a model that was closed begins anew"


def test_each_run_has_a_seed_of_its_own(bench: Bench) -> None:
    told = 'echo "{\\"output\\": \\"{seed}\\"}" > {output}; : {input}'
    model = bench.model(told, random=True)
    assert len({model.predict("a") for _ in range(4)}) == 4


def test_other_parameters_make_nothing_ready(bench: Bench) -> None:
    model = bench.model(f": {{word}}; {REVERSE}", parameters={"word": ""})
    for number in range(4):
        assert model.predict("abc", word=str(number)) == "cba"
    assert bench.engine.made == len(bench.engine.commands) == 4


def test_a_failure_ends_what_waits_and_the_next_call_begins_anew(bench: Bench) -> None:
    model = bench.waiting_model(FAIL)
    with pytest.raises(PredictionFailedError):
        model.predict("fail")
    assert bench.engine.waiting == 0
    assert model.predict("def") == "fed"


def test_what_was_lost_while_it_waited_is_made_again(bench: Bench) -> None:
    model = bench.waiting_model()
    bench.engine.lost = LostError("the container is gone")
    assert model.predict("def") == "fed"
    assert model.predict("ghi") == "ihg"


def test_a_command_that_has_begun_is_not_begun_again(bench: Bench) -> None:
    model = bench.waiting_model()
    begun = len(bench.engine.commands)
    bench.engine.broken = EngineError("the connection broke")
    with pytest.raises(EngineError, match="broke"):
        model.predict("def")
    assert len(bench.engine.commands) == begun + 1


@pytest.mark.parametrize(
    "error", [OSError(24, "Too many open files"), RuntimeError("can't start new thread")]
)
def test_what_can_not_be_made_ready_fails_no_prediction(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    model = bench.model()
    assert model.predict("abc") == "cba"
    made = held.HeldRun.__init__

    def make(*given: Any, ahead: bool = False, **more: Any) -> None:
        if ahead:
            raise error
        made(*given, **more)

    monkeypatch.setattr(held.HeldRun, "__init__", make)
    assert [model.predict(text) for text in ("def", "ghi")] == ["fed", "ihg"]


def test_what_cannot_be_made_at_all_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    model = bench.waiting_model()

    def refuse(*_: Any, **__: Any) -> Result:
        raise EngineError("no room for a sandbox")

    monkeypatch.setattr(Holding, "run", refuse)
    assert model.predict("xyz") == "zyx", "the one that waits was made before"
    with pytest.raises(EngineError, match="no room"):
        model.predict("ghi")


def test_each_run_tells_of_its_own_refusals(bench: Bench) -> None:
    refusal = Refusal("example.org", 443)
    with Workers(make_target(bench.folder, bench.engine), ahead=True).lend("default", {}) as worker:
        for refused in ((), (refusal,), (), (refusal,)):
            bench.engine.gate.refused = refused
            batch = Batch(spool(b'{"text":"abc"}\n'), 1, str)
            assert worker.compute(batch, lambda _, __: None).refused == worker.refused == len(refused)


def test_a_model_that_nobody_holds_ends_what_waits(bench: Bench) -> None:
    bench.waiting_model()
    bench.models.clear()
    gc.collect()
    wait_until(lambda: bench.engine.waiting == 0 and not bench.folders())


def test_what_nobody_asks_for_is_not_kept_for_ever(bench: Bench) -> None:
    model = bench.model()
    model._workers = Workers(model._target, idle=0.2, ahead=True)
    assert model.predict_batch([{"text": "abc"}]) == ["cba"]
    assert model.predict("def") == "fed"
    wait_until(lambda: bench.engine.waiting == 0 and not bench.folders())
    assert model.predict("def") == "fed"


def test_a_call_on_the_command_line_makes_no_run_that_it_does_not_need(bench: Bench) -> None:
    model = bench.model()
    model._workers = Workers(model._target)
    for _ in range(3):
        assert model.predict_batch([{"text": "abc"}]) == ["cba"]
    assert bench.engine.made == len(bench.engine.commands) == 3


def test_closing_ends_what_is_at_work_and_what_waits(bench: Bench) -> None:
    model = bench.waiting_model(HANG)
    failures: list[PredictionFailedError] = []

    def hang() -> None:
        try:
            model.predict("hang")
        except PredictionFailedError as error:
            failures.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    wait_until(lambda: len(bench.engine.commands) == 3 and bench.engine.waiting == 1)
    model.close()
    thread.join(60)
    assert failures and not thread.is_alive()
    assert bench.engine.waiting == 0


def test_laying_out_a_tree_can_be_interrupted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def ground(*_: Any) -> Iterator[HostGround]:
        signal.raise_signal(signal.SIGINT)
        yield HostGround()

    monkeypatch.setattr(Holding, "ground", ground)
    with pytest.raises(KeyboardInterrupt):
        bench.model().predict("abc")
    assert bench.engine.made == 0


def test_a_process_that_was_forked_off_leaves_its_parents_alone(bench: Bench) -> None:
    model = bench.waiting_model()
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if model.predict("ghi") == "ihg" else 2
            model.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bench.engine.waiting == 1
    assert model.predict("jkl") == "lkj"
