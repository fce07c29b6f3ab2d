"""What commands are given of a GPU, in the sandbox and by daemons: with a stand-in for NVIDIA's driver."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reprobuild.build.project import Project as Built
from reprobuild.build.realize import realize as build
from reprobuild.derivation.predictors import Example
from reprobuild.engine.docker.engine import DockerEngine
from reprobuild.engine.nvidia import INSIDE
from reprobuild.engine.protocol import Command, Ground, Result
from reprobuild.engine.sandbox import SandboxEngine
from reprobuild.errors import EngineError, PredictionFailedError, UsageError
from reprobuild.predict.call import Options
from reprobuild.predict.model import Model
from reprobuild.predict.target import make_target
from reprobuild.predict.testing import run_examples
from reprobuild.settings import load as load_settings
from reprobuild.store.checkouts import Checkout
from reprobuild.store.owner import choose_owner
from reprobuild.store.store import Store
from reprobuild.value import replace
from tests.daemons import Docker
from tests.gpus import LIBRARY, VERSION, machine, make_root
from tests.own_recipes import realize
from tests.projects import Project
from tests.require import require
from tests.sandboxes import Recorded, Sandboxes, layers_of, shared_folder


@pytest.fixture
def root() -> Iterator[Path]:
    """A machine with the nodes of three GPUs: the second is unlike the others."""
    with shared_folder(os.geteuid()) as folder:
        yield make_root(folder / "machine", (1, 2, 3))


@pytest.fixture
def here(all_sandboxes: dict[str, Sandboxes]) -> Sandboxes:
    return all_sandboxes["root" if os.geteuid() == 0 else "user"]


def shell(here: Sandboxes, root: Path, text: str, **changes: Any) -> tuple[Result, str, Recorded]:
    engine = SandboxEngine(here.home / "scratch", choose_owner(), machine=machine(root))
    printed: list[bytes] = []
    left = Recorded()
    command = Command(("/bin/sh", "-c", text), timeout=60, **changes)
    result = engine.run(Checkout(here.lowers), command, output=printed.append, capture=left)
    return result, b"".join(printed).decode(), left


LOOK = f"ls -d /dev/nv* {INSIDE}/* 2>/dev/null; echo $CUDA_VISIBLE_DEVICES/$LD_LIBRARY_PATH"


def test_a_command_sees_its_own_gpu_and_the_drivers_libraries(here: Sandboxes, root: Path) -> None:
    _, shown, left = shell(here, root, LOOK, devices=("1",), env={"LD_LIBRARY_PATH": "/opt/lib"})
    nodes = ["/dev/nvidia-uvm", "/dev/nvidia2", "/dev/nvidiactl"]
    names = [
        f"{INSIDE}/{name}.so.{ending}"
        for name in ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler")
        for ending in ("1", VERSION)
    ]
    assert shown.split() == [*nodes, *names, f"0/{INSIDE}:/opt/lib"]
    assert left.changes == []


def test_without_devices_there_is_nothing_of_it(here: Sandboxes, root: Path) -> None:
    assert shell(here, root, LOOK)[1] == "/\n"
    assert shell(here, root, "ls /usr/local/nvidia")[0].exit_code != 0


def test_what_is_given_works_and_cannot_be_changed(here: Sandboxes, root: Path) -> None:
    text = (
        f"cmp {INSIDE}/libcuda.so.1 /given && head -c 5 /dev/nvidia1 | wc -c || exit 1;"
        f"echo x > /dev/nvidiactl || exit 1;"
        f"for name in libcuda.so.1 new; do echo x > {INSIDE}/$name && exit 2; done;"
        f"rm -f {INSIDE}/libcuda.so.1 && exit 3; touch /made"
    )
    result, shown, left = shell(here, root, text, devices=("0",), inputs={"/given": LIBRARY})
    assert result.exit_code == 0, shown
    assert [path for path, _ in left.summary()] == ["made"]
    assert machine(root).gpu("0").name == "Stand-in 1"


def test_a_gpu_that_is_not_there_is_said_before_anything_starts(here: Sandboxes, root: Path) -> None:
    with pytest.raises(EngineError, match="there is no GPU 7 here"):
        shell(here, root, "true", devices=("7",))
    with pytest.raises(EngineError, match="no driver of NVIDIA's is loaded"):
        shell(here, root / "nowhere", "true", devices=("0",))
    assert here.leftovers() == []


# A predictor, from end to end.


@dataclass
class Squares:
    """The recipe ``cuda-smoke``, and an engine on the stand-in's machine."""

    project: Built
    engine: Watched

    def __call__(self, device: str = "0", name: str = "cuda-smoke") -> Model:
        target = make_target(self.project, build(self.project, name, {}))
        return Model(target, "default", Options(device=device))


class Watched(SandboxEngine):
    """Keeps which devices its commands had."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.had: list[tuple[str, ...]] = []

    def run(self, ground: Ground, command: Command, **more: Any) -> Result:
        self.had.append(command.devices)
        return super().run(ground, command, **more)


@pytest.fixture
def squares(own_recipes: Project, root: Path) -> Squares:
    realize(own_recipes, "cuda-smoke")
    flags = {"store": str(own_recipes.store), "recipes": [str(own_recipes.folder / "recipes")]}
    project = Built(load_settings(flags, os.environ, str(own_recipes.folder)))
    store = project.store
    engine = Watched(Path(store.tmp), store.owner, store.checkouts, machine(root))
    project.sandbox = project.engine = engine
    return Squares(project, engine)


def test_a_predictor_computes_on_the_gpu_that_was_asked_for(squares: Squares) -> None:
    numbers = [[1, -2, 3], [], list(range(1000))]
    items = [{"numbers": one} for one in numbers]
    expected = [[number * number for number in one] for one in numbers]
    outputs, summary = squares().answer(items)
    assert outputs == expected
    assert summary.signature.endswith("|default|cuda:9.0|v1")
    outputs, summary = squares("2").answer(items)
    assert (outputs, summary.cached) == (expected, 3)
    outputs, summary = squares("1").answer(items)  # of another class: nothing is known of it
    assert (outputs, summary.cached) == (expected, 0)
    assert summary.signature.endswith("|default|cuda:8.6|v1")
    assert squares.engine.had == [("0",), ("1",)]
    with sqlite3.connect(squares.project.store.root / "predictions/cache.db") as connection:
        kept = [bytes(value) for (value,) in connection.execute("SELECT value FROM Cache")]
    connection.close()
    for kind in ("cuda:9.0", "cuda:8.6"):
        told = [one for one in kept if f'"device":"{kind}","driver":"{VERSION}"'.encode() in one]
        assert len(told) == 3


def test_several_gpus_share_the_records_of_a_call(squares: Squares) -> None:
    items = [{"numbers": [number]} for number in range(2000, 2150)]
    outputs, summary = squares("0,2").answer(items)
    assert outputs == [[number * number] for number in range(2000, 2150)]
    assert summary.signature.endswith("|default|cuda:9.0|v1")
    assert sorted(squares.engine.had) == [("0",), ("2",)]


def test_examples_are_run_on_the_gpu_that_was_asked_for(squares: Squares) -> None:
    target = make_target(squares.project, build(squares.project, "cuda-smoke", {}))
    example = Example(items=(({"numbers": [7]}, {"squares": [49]}),))
    able = replace(target.predictor("default"), examples=(example,))
    target = replace(target, predictors={"default": able})
    assert [one.problem for one in run_examples(target, device="2")] == [""]
    assert [one.passed for one in run_examples(target)] == [False]
    assert squares.engine.had == [("2",), ()]


LIVE = """python3 -uc '
import json, run, sys
for line in sys.stdin:
    record = json.loads(line)
    squares = run.square(record["numbers"], {device})
    print(json.dumps(dict(_id=record["_id"], squares=squares)))
'"""


def test_a_process_that_lives_on_has_its_gpu(squares: Squares) -> None:
    target = make_target(squares.project, build(squares.project, "cuda-smoke", {}))
    live = replace(target.predictor("default"), protocol="stream", command=LIVE)
    target = replace(target, predictors={"default": live})
    with Model(target, "default", Options(device="2", cache="off")) as model:
        assert model.predict(numbers=[3, 4]) == [9, 16]
        assert model.predict_batch([{"numbers": [5]}, {"numbers": [-6]}]) == [[25], [36]]
    assert squares.engine.had == [("2",)]


def test_a_gpu_is_neither_the_cpu_nor_for_everybody(squares: Squares) -> None:
    with pytest.raises(PredictionFailedError, match="needs a GPU, and was given the CPU"):
        squares("cpu").predict(numbers=[5])
    assert squares.engine.had == [()]
    with pytest.raises(UsageError, match="does not use a GPU"):
        squares(name="tutorial")
    with pytest.raises(UsageError, match=r"alike: 0 is cuda:9\.0, 1 is cuda:8\.6"):
        squares("0,1")
    with pytest.raises(EngineError, match="there is no GPU 3 here"):
        squares("0,3")
    with pytest.raises(PredictionFailedError, match="94906266 is too large"):
        squares().predict(numbers=[94906266])


def test_on_the_command_line_it_is_exit_code_5_with_the_reason(own_recipes: Project) -> None:
    require("no GPU", "/dev/nvidiactl is there" if os.path.exists("/dev/nvidiactl") else "")
    realize(own_recipes, "cuda-smoke")
    asked = ("predict", "cuda-smoke", "--input", "-", "--output", "-", "--device", "0")
    ended = own_recipes.call(*asked, stdin='{"numbers": [1]}\n', check=False)
    assert (ended.code, ended.out) == (5, "")
    error, hint = ended.err.splitlines()
    assert error.startswith("error: there is no GPU here that can be used: no driver of NVIDIA's is loaded")
    # This one can't use the CPU: no hint may lead there and back.
    assert hint.startswith("hint: go to a machine that has one (reprobuild doctor names them)")
    assert hint.endswith("or leave --device out, where the predictor can use the CPU")
    tested = own_recipes.call("test", "cuda-smoke", "--device", "0", check=False)
    assert (tested.code, tested.err.splitlines()[-2]) == (5, error)
    assert own_recipes.call("test", "cuda-smoke", "--device", "gpu", check=False).code == 2


# By a daemon.


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("docker", "could not select device driver"),
        ("podman", "unresolvable CDI devices nvidia.com/gpu=GPU-"),
    ],
)
def test_a_daemon_without_nvidias_tools_says_so(
    name: str, said: str, root: Path, here: Sandboxes, request: pytest.FixtureRequest
) -> None:
    daemon = request.getfixturevalue(name)
    assert isinstance(daemon, Docker)
    with shared_folder(os.geteuid()) as folder:
        engine = DockerEngine(Store.open(folder), "", daemon.environment, machine=machine(root))
        assert engine.gpu("1").capability == "8.6"
        with engine.ground(layers_of(here.lowers, engine.store)) as ground:
            with pytest.raises(EngineError) as raised:
                engine.run(ground, Command(("/bin/true",), devices=("1",)))
            assert said in raised.value.message
            assert "NVIDIA Container Toolkit" in raised.value.hint
            with pytest.raises(EngineError, match="there is no GPU 3 here"):
                engine.run(ground, Command(("/bin/true",), devices=("3",)))
        assert engine.daemon.client.containers(all=True) == []
        engine.daemon.host = "tcp://gpus.example:2376"
        with pytest.raises(EngineError, match="a daemon elsewhere"):
            engine.gpu("0")
