"""Machines with a stand-in for NVIDIA's driver (``cuda/libcuda.c``): a root folder with nodes and libraries.

Nothing here is a GPU: what is found, shown and asked is tested, and not what a GPU computes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from reprobuild.engine.nvidia import Machine
from tests.require import require

LIBRARY = Path(__file__).resolve().parent / "cuda" / "libcuda.so.1"
VERSION = "550.54.15"
FOLDER = "usr/lib/x86_64-linux-gnu"


def require_stand_in() -> None:
    """Go on only where the stand-in's library can be loaded: it was built for one processor."""
    machine = os.uname().machine
    require("x86_64", "" if machine == "x86_64" else f"the stand-in for a driver is not built for {machine}")


def make_root(root: Path, minors: Sequence[int] = (0,), folder: str = FOLDER) -> Path:
    """Lay out what a machine with a driver has: nodes, ``/proc``, ``/sys`` and libraries."""
    require_stand_in()
    dev = root / "dev"
    dev.mkdir(parents=True)
    for name in ("nvidiactl", "nvidia-uvm", *(f"nvidia{minor}" for minor in minors)):
        (dev / name).symlink_to("/dev/zero")  # a device that anybody may open for reading and writing
    for minor in minors:
        about = root / f"proc/driver/nvidia/gpus/0000:{0xA0 + minor:02x}:00.0/information"
        about.parent.mkdir(parents=True)
        about.write_text(f"Model: \t\t Stand-in {minor}\nDevice Minor: \t {minor}\n")
    (root / "sys/module/nvidia").mkdir(parents=True)
    (root / "sys/module/nvidia/version").write_text(f"{VERSION}\n")
    place_libraries(root / folder)
    return root


def place_libraries(folder: Path) -> None:
    """Lay out the libraries of a driver as its installer does, with links, and others beside them."""
    folder.mkdir(parents=True)
    for name in ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler"):
        shutil.copy(LIBRARY, folder / f"{name}.so.{VERSION}")
        (folder / f"{name}.so.1").symlink_to(f"{name}.so.{VERSION}")
    for name in ("libnvidia-container.so.1", "libcudart.so.12", "libc.so.6"):
        shutil.copy(LIBRARY, folder / name)
    (folder / "libnvidia-gone.so.1").symlink_to("nowhere")
    (folder / "libnvidia-text.so.1").write_text("GROUP ( libnvidia-ml.so.1 )\n")
    for name, place, value in (("libnvidia-small.so.1", 4, 1), ("libnvidia-strange.so.1", 18, 183)):
        body = bytearray(LIBRARY.read_bytes())
        body[place] = value  # of 32 bits; of another processor
        (folder / name).write_bytes(body)


def machine(root: Path, **environment: str) -> Machine:
    """Give a machine; ``environment`` is what the stand-in's settings are in, too."""
    return Machine(root, stand_in(root, environment), patience=20)


def stand_in(root: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Give the environment of a process that asks the stand-in outside of a sandbox."""
    return {"FAKE_CUDA_DEV": str(root / "dev"), **environment}
