"""A limit of memory for everything inside a sandbox together.

Through a control group where this user may make one: version 2 (a group that has the memory controller
for its children, as systemd gives to logged-in users and root), or version 1 (root). Elsewhere
through RLIMIT_DATA, which holds for each process by itself. Linux:
``Documentation/admin-guide/cgroup-v2.rst``, ``cgroup-v1/memory.rst``.

Knows nothing of sandboxes: it takes in a process.
"""

from __future__ import annotations

import contextlib
import os
import time

_ROOT = "/sys/fs/cgroup"
_SIGNS = ("MemoryError", "bad_alloc", "annot allocate memory", "ut of memory", "allocation failed")


class MemoryLimit:
    """A limit in bytes; a context manager that takes its control group away again."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._group = ""
        self._count = ""
        """The file that tells how many processes were killed."""

    def __enter__(self) -> MemoryLimit:
        for parent, settings, counter in (*_version_2(self._size), *_version_1(self._size)):
            group = os.path.join(parent, f"reprobuild-{os.getpid()}-{os.urandom(4).hex()}")
            with contextlib.suppress(OSError):
                os.mkdir(group)
                self._group, self._count = group, counter
                try:
                    for name, value in settings.items():
                        _write(os.path.join(group, name), value)
                    return self
                except OSError:
                    self._leave()
        return self

    def __exit__(self, *reason: object) -> None:
        self._leave()

    @property
    def prelude(self) -> str:
        """Words of ``sh`` that set the limit where there is no control group."""
        return "" if self._group else f"ulimit -d {max(self._size // 1024, 1)}; "

    def take_in(self, process: int) -> None:
        """Put a process, and so all that it will start, under the limit."""
        if self._group:
            _write(os.path.join(self._group, "cgroup.procs"), str(process))

    def was_exceeded(self, exit_code: int, tail: tuple[str, ...]) -> bool:
        """Tell whether something was killed for its memory (without a group: says that it got none)."""
        if self._group:
            with open(os.path.join(self._group, self._count), encoding="ascii") as file:
                counts = dict(line.split() for line in file)
            return int(counts.get("oom_kill", "0")) > 0
        return said_none(exit_code, tail)

    def _leave(self) -> None:
        group, self._group = self._group, ""
        for _ in range(50 if group else 0):
            try:
                os.rmdir(group)
                return
            except OSError:
                time.sleep(0.01)  # what has just ended may be counted for a moment


def said_none(exit_code: int, tail: tuple[str, ...]) -> bool:
    """Tell whether a command that ended said that it got no memory, where nobody else can tell."""
    return exit_code != 0 and any(sign in line for line in tail[-20:] for sign in _SIGNS)


def _version_2(size: int) -> list[tuple[str, dict[str, str], str]]:
    """Give the groups, nearest first, whose children can be limited."""
    own = _own_group("")
    if own is None or not os.path.exists(f"{_ROOT}/cgroup.controllers"):
        return []
    settings = {"memory.max": str(size), "memory.oom.group": "1"}
    if os.path.exists(f"{_ROOT}{own}/memory.swap.max"):
        settings["memory.swap.max"] = "0"
    found = []
    here = own.rstrip("/")
    while True:
        with (
            contextlib.suppress(OSError),
            open(f"{_ROOT}{here}/cgroup.subtree_control", encoding="ascii") as file,
        ):
            if "memory" in file.read().split():
                found.append((f"{_ROOT}{here}", settings, "memory.events"))
        if not here:
            return found
        here = here.rpartition("/")[0]


def _version_1(size: int) -> list[tuple[str, dict[str, str], str]]:
    own = _own_group("memory")
    if own is None or not os.path.isdir(f"{_ROOT}/memory"):
        return []
    settings = {"memory.limit_in_bytes": str(size)}
    if os.path.exists(f"{_ROOT}/memory/memory.memsw.limit_in_bytes"):
        settings["memory.memsw.limit_in_bytes"] = str(size)
    return [(f"{_ROOT}/memory{own}", settings, "memory.oom_control")]


def _own_group(controller: str) -> str | None:
    """Give the path of this process's group, from ``/proc/self/cgroup`` (cgroups(7))."""
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if controller in controllers.split(","):
                return path
    return None


def _write(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
