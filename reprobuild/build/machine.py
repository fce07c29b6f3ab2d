"""What this machine offers: each thing that the tool can use, whether it is there, what mends it.

Knows nothing of how findings are shown. Changes nothing but to make the store's folder, which
every verb would.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from reprobuild.build.project import Project, host_platform
from reprobuild.errors import ReprobuildError
from reprobuild.process import run_program
from reprobuild.store.file_system import NETWORK_FILE_SYSTEMS, file_system_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.engine.nvidia import Machine

Status = Literal["ok", "warn", "missing"]

LEAST_PYTHON = (3, 11)
PATIENCE = 10.0
"""Seconds that a program may take to say its version."""
ENOUGH_SPACE = 5 * 1000**3
"""Bytes: a small model with its Debian and Python packages."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing of the machine."""

    name: str
    status: Status
    what: str
    """What is there, or why it is not good enough."""
    mend: str = ""
    """A command or an edit; empty where nothing needs mending."""


def examine(project: Project) -> list[Finding]:
    """Look at everything; never raises for what it finds."""
    checks: tuple[Callable[[], Finding], ...] = (
        _platform,
        _python,
        lambda: _store(project),
        lambda: _space(project),
        lambda: _file_system(project),
        lambda: _sandbox(project),
        gpus,
        _uv,
        lambda: _program("git", "git --version", "executable bits are taken from the file system instead"),
        lambda: _daemon(project),
        _podman,
        lambda: _program("diffoscope", "", "not needed: realize --check says less of how files differ"),
        _pytest,
    )
    return [check() for check in checks]


def _platform() -> Finding:
    try:
        return Finding("platform", "ok", f"{host_platform()}, Linux {os.uname().release}")
    except ReprobuildError as error:
        return Finding("platform", "missing", error.message, "run it on a Linux machine")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < LEAST_PYTHON:
        return Finding("python", "missing", f"{version} is too old", "install Python 3.11 or later")
    return Finding("python", "ok", f"{version}, {sys.executable}")


def _store(project: Project) -> Finding:
    try:
        store = project.store
    except ReprobuildError as error:
        return Finding("store", "missing", error.message, error.hint)
    return Finding("store", "ok", str(store.root))


def _space(project: Project) -> Finding:
    free = shutil.disk_usage(_existing(Path(project.settings.store))).free
    what = f"{free / 1000**3:.1f} GB free"
    if free < ENOUGH_SPACE:
        return Finding("disk space", "warn", f"{what} where the store is", "reprobuild gc, or --store DIR")
    return Finding("disk space", "ok", what)


def _file_system(project: Project) -> Finding:
    kind = file_system_of(project.settings.store)
    if kind in NETWORK_FILE_SYSTEMS:
        return Finding(
            "file system",
            "warn",
            f"the store is on {kind}, a network file system: slow, and locks between machines may not hold; "
            "predictions are kept on local disk, in the folder of caches",
            "put it on a local disk: REPROBUILD_STORE=DIR, or store = … in reprobuild.toml",
        )
    return Finding("file system", "ok", kind or "unknown")


def _sandbox(project: Project) -> Finding:
    try:
        isolation = project.sandbox.probe()
    except ReprobuildError as error:
        return Finding("sandbox", "missing", error.message, error.hint)
    if not isolation.available:
        # What is left open falls to a daemon where one works.
        asked = project.settings.engine
        needed = asked == "sandbox" or (asked == "auto" and not project.docker.probe().available)
        return Finding("sandbox", "missing" if needed else "warn", isolation.missing, isolation.hint)
    return Finding("sandbox", "ok", isolation.name)


def gpus(machine: Machine | None = None) -> Finding:
    """Look for GPUs that predictors can be given; ``machine``: None: this one."""
    from reprobuild.engine.nvidia import Machine

    try:
        found = (machine or Machine()).gpus()
    except ReprobuildError as error:
        return Finding("gpus", "warn", error.message, error.hint)
    told = ", ".join(f"{gpu.number}: {gpu.name} (cuda:{gpu.capability})" for gpu in found)
    driver = f"; driver {found[0].driver}" if found and found[0].driver else ""
    return Finding("gpus", "ok", f"{told or 'none: predictors compute on the CPU'}{driver}")


def _uv() -> Finding:
    if util.find_spec("uv") is not None or shutil.which("uv"):
        version = metadata.version("uv") if util.find_spec("uv") is not None else shutil.which("uv")
        return Finding("uv", "ok", str(version))
    return Finding(
        "uv", "warn", "not installed: wheels(…) cannot be locked", f"{sys.executable} -m pip install uv"
    )


def _program(name: str, command: str, without: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name, "ok", f"not installed; {without}")
    if not command:
        return Finding(name, "ok", path)
    try:
        ended = run_program(command.split(), env=os.environ, limit=PATIENCE)
    except OSError as error:
        return Finding(name, "ok", f"{path} does not answer ({error}); {without}")
    return Finding(name, "ok", (ended.output.decode(errors="replace").strip().splitlines() or [path])[0])


def _daemon(project: Project) -> Finding:
    """Look for the container daemon that ``--engine docker`` and ``load`` would talk to."""
    from reprobuild.engine.docker.context import chosen
    from reprobuild.engine.docker.daemon import connect

    is_needed = project.settings.engine == "docker"
    is_chosen = True
    try:
        endpoint = chosen(os.environ)
        is_chosen = endpoint is not None
        with connect(os.environ) as daemon:
            origin = f" (of {endpoint.origin})" if endpoint is not None else ""
            found = f"{daemon.name}{origin}, for {daemon.platform}"
    except ReprobuildError as error:
        if is_needed:
            return Finding("docker", "missing", error.message, error.hint)
        without = "not needed, but by load and --engine docker"
        # Somebody who names a daemon wants it; without one the embedded engine takes its place.
        return Finding("docker", "warn" if is_chosen else "ok", f"{error.message}; {without}", error.hint)
    isolation = project.docker.probe()
    if not isolation.available:
        what = f"{found}, where commands can't run: {isolation.missing}"
        return Finding("docker", "missing" if is_needed else "warn", what, isolation.hint)
    return Finding("docker", "ok", found)


def _podman() -> Finding:
    from reprobuild.engine.docker.context import usual

    found = _program("podman", "podman --version", "not needed")
    if shutil.which("podman") is None:
        return found
    open_at = [path for path in usual(os.environ) if "podman" in path and os.path.exists(path)]
    if open_at:
        return Finding("podman", found.status, f"{found.what}; its socket is {open_at[0]}")
    mend = "to use it as a daemon: systemctl --user start podman.socket"
    return Finding("podman", found.status, f"{found.what}; its socket is not open", mend)


def _pytest() -> Finding:
    if util.find_spec("pytest") is None:
        mend = f"{sys.executable} -m pip install pytest"
        return Finding("pytest", "warn", "not installed: reprobuild test leaves out recipes' own tests", mend)
    return Finding("pytest", "ok", metadata.version("pytest"))


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
