"""Workers that live on between calls: who is lent one, how many there are, and that all of them end."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from reprobuild.derivation.predictors import predictor
from reprobuild.engine.protocol import Gpu
from reprobuild.errors import ItemFailedError, PredictionFailedError
from reprobuild.predict.call import Options
from reprobuild.predict.model import Model
from reprobuild.predict.workers import Workers
from tests.host_engine import HostEngine, make_target
from tests.projects import SOURCE
from tests.streaming import streamer
from tests.waiting import wait_until


class Bench:
    """A predictor that is a process on the host, and models of it."""

    def __init__(self, folder: Path) -> None:
        self.engine = HostEngine()
        self.target = make_target(folder, self.engine, default=streamer(parameters={"word": "x"}))
        self.models: list[Model] = []

    def model(self, jobs: int = 0) -> Model:
        model = Model(self.target, "default", Options(cache="off", jobs=jobs))
        self.models.append(model)
        return model

    def living(self) -> list[int]:
        return [process.pid for process in self.engine.processes if process.poll() is None]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for model in made.models:
        model.close()
    assert made.living() == []


def test_one_process_serves_the_calls_of_a_model(bench: Bench) -> None:
    with bench.model() as model:
        assert model.predict("pid") == model.predict("pid") == str(bench.living()[0])
        assert list(model.predict_iter({"text": f"count {n}"} for n in range(3))) == ["2", "3", "4"]
        assert len(bench.engine.processes) == 1
    assert bench.living() == []
    assert model.predict("abc") == "cba", "a model that was closed begins anew"
    assert len(bench.engine.processes) == 2


def test_a_failing_record_leaves_the_process_and_another_end_does_not(bench: Bench) -> None:
    model = bench.model()
    first = model.predict("pid")
    with pytest.raises(ItemFailedError):
        model.predict("fail for this reason")
    assert model.predict("pid") == first
    with pytest.raises(PredictionFailedError):
        model.predict("leave")
    assert model.predict("pid") != first


def test_another_parameter_is_another_process_which_takes_the_place(bench: Bench) -> None:
    model = bench.model()
    first = model.predict("pid", word="a")
    second = model.predict("pid", word="b")
    assert first != second
    assert [str(pid) for pid in bench.living()] == [second]


def test_threads_share_as_many_processes_as_there_are_jobs(bench: Bench) -> None:
    model = bench.model(jobs=2)
    with ThreadPoolExecutor(8) as pool:
        pids = set(pool.map(lambda _: model.predict("pid"), range(40)))
    assert pids <= {str(pid) for pid in bench.living()}
    assert len(bench.engine.processes) <= 2


def test_one_call_has_its_jobs_at_work_and_they_serve_the_next(bench: Bench) -> None:
    model = bench.model(jobs=3)
    for _ in range(2):
        outputs = model.predict_batch([{"text": f"t{number}"} for number in range(1000)])
        assert outputs == [f"t{number}"[::-1] for number in range(1000)]
    assert 1 < len(bench.engine.processes) <= 3


def test_who_is_not_used_for_a_while_ends(bench: Bench) -> None:
    workers = Workers(bench.target, idle=0.3)
    parameters = {"word": "x"}
    with workers.lend("default", parameters) as first:
        pass
    with workers.lend("default", parameters) as second:
        assert second is first
    model = Model(bench.target, "default", Options(cache="off"))
    model._workers = workers
    model.predict("abc")
    assert len(bench.living()) == 1
    wait_until(lambda: not bench.living())
    assert model.predict("abc") == "cba"
    wait_until(lambda: not bench.living())


def test_a_model_that_nobody_holds_ends_its_process(bench: Bench) -> None:
    model = Model(bench.target, "default", Options(cache="off"))
    model.predict("abc")
    assert len(bench.living()) == 1
    del model
    gc.collect()
    wait_until(lambda: not bench.living())


def test_closing_ends_what_is_at_work_in_another_thread(bench: Bench) -> None:
    model = bench.model()
    model.predict("abc")
    failures: list[PredictionFailedError] = []

    def hang() -> None:
        try:
            model.predict("hang")
        except PredictionFailedError as error:
            failures.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    time.sleep(0.2)
    model.close()
    thread.join(30)
    assert failures and not thread.is_alive()
    assert bench.living() == []


def test_a_process_that_was_forked_off_leaves_its_parents_alone(bench: Bench) -> None:
    model = bench.model()
    mine = model.predict("pid")
    child = os.fork()
    if not child:
        code = 1
        try:
            own = model.predict("pid")
            model.close()
            code = 0 if own != mine else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert model.predict("pid") == mine


ENDING = """
import sys
from pathlib import Path
from reprobuild.predict.call import Options
from reprobuild.predict.model import Model
from tests.host_engine import HostEngine, make_target
from tests.streaming import streamer

target = make_target(Path(sys.argv[1]), HostEngine(), default=streamer())
model = Model(target, "default", Options(cache="off"))
print(model.predict("pid"), flush=True)
if sys.argv[2] == "raises":
    raise SystemExit(3)
"""


@pytest.mark.parametrize("how, code", [("ends", 0), ("raises", 3)])
def test_the_end_of_python_ends_them(tmp_path: Path, how: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING, str(tmp_path), how],
        cwd=SOURCE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.returncode == code
    pid = int(done.stdout)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_nothing_starts_where_all_is_known(bench: Bench) -> None:
    for _ in range(2):
        with Model(bench.target, "default") as model:
            assert model.predict_batch([{"text": "abc"}, {"text": "abc"}]) == ["cba", "cba"]
    assert len(bench.engine.processes) == 1


@dataclass
class Equipped(HostEngine):
    """An engine whose commands run on the host, whatever GPU they are given."""

    def gpu(self, number: str) -> Gpu:
        return Gpu(number, "9.0", "a GPU", f"GPU-{number}", "550.54.15")


@pytest.mark.parametrize("jobs, expected", [(0, 1), (4, 2)], ids=["one each", "two each"])
def test_each_device_has_workers(tmp_path: Path, jobs: int, expected: int) -> None:
    (tmp_path / "meeting").mkdir()
    # Each goes on only once all of them are there.
    waiting = (
        f"touch {tmp_path}/meeting/$$; n=0; until [ $(ls {tmp_path}/meeting | wc -l) -ge {2 * expected} ] "
        "|| [ $n -gt 600 ]; do sleep 0.05; n=$((n+1)); done; cp {input} {output}"
    )
    copier = predictor(waiting, inputs={"text": str}, outputs={"text": str}, scope="item", cuda=True)
    engine = Equipped()
    model = Model(make_target(tmp_path, engine, default=copier), "default", Options(device="0,1", jobs=jobs))
    items = [{"text": str(number)} for number in range(2 * expected)]
    assert model.predict_batch(items) == [item["text"] for item in items]
    devices = [command.devices for command in engine.commands]
    assert sorted(devices) == sorted([("0",), ("1",)] * expected)
