"""What commands are given of a GPU, in the sandbox and by daemons: with a stand-in for NVIDIA's driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reprobuild.engine.nvidia import INSIDE
from reprobuild.engine.protocol import Command, Result
from reprobuild.engine.sandbox import SandboxEngine
from reprobuild.errors import EngineError
from reprobuild.store.checkouts import Checkout
from reprobuild.store.owner import choose_owner
from tests.gpus import LIBRARY, VERSION, machine, make_root
from tests.sandboxes import Recorded, Sandboxes, shared_folder


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
