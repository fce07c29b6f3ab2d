"""What commands are given of a GPU, in the sandbox and by daemons: with a stand-in for NVIDIA's driver."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reprobuild.build.project import Project as Built
from reprobuild.build.realize import realize as build
from reprobuild.engine.docker.engine import DockerEngine
from reprobuild.engine.nvidia import INSIDE
from reprobuild.engine.protocol import Command, Result
from reprobuild.engine.sandbox import SandboxEngine
from reprobuild.errors import EngineError, PredictionFailedError, UsageError
from reprobuild.predict.call import Options
from reprobuild.predict.model import Model
from reprobuild.predict.target import make_target
from reprobuild.settings import load as load_settings
from reprobuild.store.checkouts import Checkout
from reprobuild.store.owner import choose_owner
from tests.daemons import Docker
from tests.gpus import LIBRARY, VERSION, machine, make_root
from tests.own_recipes import realize
from tests.projects import Project
from tests.require import require
from tests.sandboxes import Recorded, Sandboxes, layers_of, shared_folder


@pytest.fixture
def root() -> Iterator[Path]:
    """A machine with the nodes of two GPUs that are unlike."""
    with shared_folder(os.geteuid()) as folder:
        yield make_root(folder / "machine", (1, 2))


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


@pytest.fixture
def squares(own_recipes: Project, root: Path) -> Callable[..., Model]:
    """Gives models of the recipe ``cuda-smoke`` by a device of the stand-in's machine."""
    realize(own_recipes, "cuda-smoke")
    flags = {"store": str(own_recipes.store), "recipes": [str(own_recipes.folder / "recipes")]}
    project = Built(load_settings(flags, os.environ, str(own_recipes.folder)))
    store = project.store
    project.sandbox = SandboxEngine(Path(store.tmp), store.owner, store.checkouts, machine(root))
    project.engine = project.sandbox

    def model(name: str = "cuda-smoke", device: str = "0") -> Model:
        target = make_target(project, build(project, name, {}))
        return Model(target, "default", Options(device=device))

    return model


def test_a_predictor_computes_on_the_gpu_that_was_asked_for(squares: Callable[..., Model]) -> None:
    numbers = [[1, -2, 3], [], list(range(1000))]
    items = [{"numbers": one} for one in numbers]
    expected = [[number * number for number in one] for one in numbers]
    outputs, summary = squares().answer(items)
    assert outputs == expected
    assert summary.signature.endswith("|default|cuda:9.0|v1")
    outputs, summary = squares().answer(items)
    assert (outputs, summary.cached) == (expected, 3)
    outputs, summary = squares(device="1").answer(items)  # of another class: nothing is known of it
    assert (outputs, summary.cached) == (expected, 0)
    assert summary.signature.endswith("|default|cuda:8.6|v1")


def test_a_gpu_is_neither_the_cpu_nor_for_everybody(squares: Callable[..., Model]) -> None:
    with pytest.raises(PredictionFailedError, match="needs a GPU, and was given the CPU"):
        squares(device="cpu").predict(numbers=[5])
    with pytest.raises(UsageError, match="does not use a GPU"):
        squares("tutorial")
    with pytest.raises(UsageError, match=r"alike: 0 is cuda:9\.0, 1 is cuda:8\.6"):
        squares(device="0,1")
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
    assert hint == "hint: leave --device out to use the CPU"


# By a daemon.


def test_a_daemon_without_nvidias_tools_says_so(docker: Docker, root: Path, here: Sandboxes) -> None:
    from reprobuild.store.store import Store

    with shared_folder(os.geteuid()) as folder:
        engine = DockerEngine(Store.open(folder), "", docker.environment, machine=machine(root))
        assert engine.gpu("1").capability == "8.6"
        with engine.ground(layers_of(here.lowers, engine.store)) as ground:
            with pytest.raises(EngineError) as raised:
                engine.run(ground, Command(("/bin/true",), devices=("1",)))
            assert "could not select device driver" in raised.value.message
            assert "NVIDIA Container Toolkit" in raised.value.hint
            with pytest.raises(EngineError, match="there is no GPU 2 here"):
                engine.run(ground, Command(("/bin/true",), devices=("2",)))
        assert engine.daemon.client.containers(all=True) == []
        elsewhere = DockerEngine(Store.open(folder), "", docker.environment, machine=machine(root))
        elsewhere.daemon.host = "tcp://gpus.example:2376"
        with pytest.raises(EngineError, match="a daemon elsewhere"):
            elsewhere.gpu("0")
