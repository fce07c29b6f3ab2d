"""What is found of a GPU's driver, and what is said where there is none: with a stand-in for the driver."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reprobuild.build.machine import gpus
from reprobuild.engine.nvidia import FOLDERS, INSIDE, Machine, told_where
from reprobuild.engine.protocol import Command, Gpu, environment
from reprobuild.errors import EngineError
from tests.gpus import FOLDER, VERSION, machine, make_root, place_libraries, stand_in
from tests.require import require

DRIVER = {
    f"{name}.so.{ending}"
    for name in ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler")
    for ending in ("1", VERSION)
}


def test_gpus_are_told_in_the_drivers_order(tmp_path: Path) -> None:
    here = machine(make_root(tmp_path, (1, 2)))
    uuid = "GPU-abababab-abab-abab-abab-ababababab0"
    assert here.gpu("0") == Gpu("0", "9.0", "Stand-in 1", f"{uuid}1", VERSION)
    assert here.gpu("1") == Gpu("1", "8.6", "Stand-in 2", f"{uuid}2", VERSION)


def test_doctor_tells_of_all_of_them(tmp_path: Path) -> None:
    found = gpus(machine(make_root(tmp_path / "both", (1, 2))))
    told = f"0: Stand-in 1 (cuda:9.0), 1: Stand-in 2 (cuda:8.6); driver {VERSION}"
    assert (found.status, found.what) == ("ok", told)
    without = gpus(machine(tmp_path / "none"))
    assert (without.status, without.what) == ("ok", "none: predictors compute on the CPU")
    broken = gpus(machine(make_root(tmp_path / "broken"), FAKE_CUDA_FAIL="999"))
    assert (broken.status, broken.mend[:20]) == ("warn", "see what nvidia-smi ")
    assert "an error of the stand-in (999)" in broken.what


def test_what_is_given_is_the_gpus_own_node_and_the_drivers(tmp_path: Path) -> None:
    root = make_root(tmp_path, (1, 2))
    given = machine(root).give(("1",))
    assert set(given.nodes) == {"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia2"}
    (root / "dev/nvidia-uvm-tools").symlink_to("/dev/zero")
    assert "/dev/nvidia-uvm-tools" in machine(root).give(("1",)).nodes
    assert set(given.libraries) == DRIVER
    assert given.libraries["libcuda.so.1"] == root / FOLDER / f"libcuda.so.{VERSION}"
    assert not machine(root).give(()).nodes


def test_what_the_user_has_said_of_visible_gpus_counts(tmp_path: Path) -> None:
    here = machine(make_root(tmp_path, (0, 1)), CUDA_VISIBLE_DEVICES="1")
    assert here.gpu("0").name == "Stand-in 1"
    assert "/dev/nvidia1" in here.give(("0",)).nodes
    with pytest.raises(EngineError, match=r"no GPU 1 here, but 0 \(Stand-in 1\)"):
        here.gpu("1")


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_library_is_found_in_the_usual_folders(folder: str, tmp_path: Path) -> None:
    root = make_root(tmp_path, folder=folder.format(machine="x86_64").lstrip("/"))
    assert set(machine(root).libraries()) == DRIVER


def test_the_library_is_found_where_the_linker_finds_it(tmp_path: Path) -> None:
    require("ldconfig")
    root = make_root(tmp_path / "root", folder="opt/odd")
    with pytest.raises(EngineError, match="is not on this machine"):
        machine(root).libraries()
    place_libraries(tmp_path / "own")
    assert machine(root, LD_LIBRARY_PATH=f"relative::{tmp_path}/own").libraries()["libcuda.so.1"] == (
        tmp_path / "own" / f"libcuda.so.{VERSION}"
    )
    (root / "etc").mkdir()
    (tmp_path / "conf").write_text(f"{root}/opt/odd\n")
    asked = ["/sbin/ldconfig", "-X", "-f", str(tmp_path / "conf"), "-C", str(root / "etc/ld.so.cache")]
    subprocess.run(asked, check=True, capture_output=True)
    assert set(machine(root).libraries()) == DRIVER


def _without_proc(root: Path) -> None:
    shutil.rmtree(root / "proc")
    (root / "dev/nvidiactl").unlink()


def _library(root: Path, source: Path) -> None:
    (root / FOLDER / f"libcuda.so.{VERSION}").unlink()
    shutil.copy(source, root / FOLDER / f"libcuda.so.{VERSION}")


MISSING: dict[str, tuple[Callable[[Path], object], dict[str, str], str]] = {
    "no driver": (_without_proc, {}, "no driver of NVIDIA's is loaded"),
    "no library": (lambda root: shutil.rmtree(root / FOLDER), {}, "(libcuda.so.1) is not on this machine"),
    "no node": (lambda root: (root / "dev/nvidia-uvm").unlink(), {}, "no CUDA-capable device is detected"),
    "what the driver says": (lambda root: None, {"FAKE_CUDA_FAIL": "999"}, "an error of the stand-in (999)"),
    "a driver that crashes": (lambda root: None, {"FAKE_CUDA_CRASH": "1"}, "the program that asked, with -6"),
    "a driver that hangs": (lambda root: None, {"FAKE_CUDA_HANG": "1"}, "did not end within 1 seconds"),
    "no driver in the library": (
        lambda root: _library(root, _module()),
        {},
        "NVIDIA's driver does not answer: ",
    ),
}


def _module() -> Path:
    """Give a library that is no driver's."""
    import _ctypes

    return Path(_ctypes.__file__)


@pytest.mark.parametrize(("change", "settings", "said"), MISSING.values(), ids=MISSING)
def test_what_is_missing_is_said(
    change: Callable[[Path], object], settings: dict[str, str], said: str, tmp_path: Path
) -> None:
    root = make_root(tmp_path)
    change(root)
    with pytest.raises(EngineError) as raised:
        Machine(root, stand_in(root, settings), patience=1).give(("0",))
    assert said in raised.value.message
    assert "leave --device out" in raised.value.hint
    assert raised.value.exit_code == 5


def test_a_node_that_is_none_is_said(tmp_path: Path) -> None:
    root = make_root(tmp_path, (0, 1))
    here = machine(root)
    assert here.gpu("1").name == "Stand-in 1"
    (root / "dev/nvidia1").unlink()
    (root / "dev/nvidia1").write_text("")
    with pytest.raises(EngineError, match="no node /dev/nvidia1"):
        here.give(("1",))


def test_a_node_that_commands_may_not_open_is_said(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    here = machine(root)
    (root / "dev/nvidia-uvm-tools").symlink_to("/dev/console")  # root's own
    assert set(here.give(("0",), owner=54321).nodes) == {"/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm"}
    (root / "dev/nvidia-uvm").unlink()
    (root / "dev/nvidia-uvm").symlink_to("/dev/console")
    with pytest.raises(EngineError, match="/dev/nvidia-uvm can't be opened") as raised:
        here.give(("0",), owner=54321)
    assert "chmod 0666 /dev/nvidia-uvm" in raised.value.hint


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\n",
            "535.129.03",
        ),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n", "570.86.15"),
        ("something else\n", ""),
    ],
    ids=["closed", "open", "neither"],
)
def test_the_drivers_version_is_that_of_its_module(text: str, version: str, tmp_path: Path) -> None:
    root = make_root(tmp_path)
    shutil.rmtree(root / "sys")
    (root / "proc/driver/nvidia/version").write_text(text)
    assert machine(root).gpu("0").driver == version


def test_a_command_is_told_where_libraries_are_and_which_gpus_it_sees() -> None:
    without = Command(("/bin/true",), env={"LD_LIBRARY_PATH": "/opt/lib"})
    assert told_where(without) is without
    assert "CUDA_VISIBLE_DEVICES" not in environment(without, {})
    own = Command(("/bin/true",), env={"CUDA_VISIBLE_DEVICES": "7"}, devices=("3", "4"))
    env = environment(told_where(own), {})
    assert (env["LD_LIBRARY_PATH"], env["CUDA_VISIBLE_DEVICES"]) == (INSIDE, "0,1")
    both = told_where(Command(("/bin/true",), env={"LD_LIBRARY_PATH": "/opt/lib"}, devices=("0",)))
    assert both.env["LD_LIBRARY_PATH"] == f"{INSIDE}:/opt/lib"
