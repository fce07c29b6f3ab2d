"""Takes the time of commands, those that are compared in turns, so that drift of the machine hits all alike.

Knows nothing of what they do.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Work = Callable[[], object]


def command(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None, stdin: str = ""
) -> Work:
    """Give a function that runs a command and fails, with what it said, where the command fails."""

    def run() -> None:
        ended = subprocess.run(
            argv,
            env=None if env is None else dict(env),
            cwd=cwd,
            input=stdin.encode(),
            capture_output=True,
            check=False,
        )
        if ended.returncode != 0:
            said = (ended.stderr or ended.stdout).decode(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(argv)} ended with {ended.returncode}:\n{said}")

    return run


class Watched:
    """A command as work, which fails as ``command`` does, and the most memory that its process had."""

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> None:
        self._argv = argv
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self.peak = 0.0
        """Megabytes, over all runs; those of programs that it starts do not count."""
        self.said = ""
        """What it printed last."""

    def __call__(self) -> None:
        """Run the command."""
        with subprocess.Popen(
            self._argv,
            env=self._env,
            cwd=self._cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            watcher = threading.Thread(target=self._watch, args=(Path(f"/proc/{process.pid}/status"),))
            watcher.start()
            self.said, warned = process.communicate()
        watcher.join()
        if process.returncode != 0:
            said = (warned or self.said)[-2000:]
            raise RuntimeError(f"{' '.join(self._argv)} ended with {process.returncode}:\n{said}")

    def _watch(self, status: Path) -> None:
        """Look at the high-water mark until the process has ended."""
        while True:
            try:
                lines = status.read_text().splitlines()
            except OSError:
                return
            marks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
            if not marks:
                return
            self.peak = max(self.peak, int(marks[0]) * 1024 / 1000**2)
            time.sleep(0.02)


def medians(
    works: Mapping[str, Work | None], *, rounds: int, before: Mapping[str, Work] | None = None
) -> dict[str, float | None]:
    """Give the median seconds of each work over so many rounds, after one that does not count.

    A work that is None stays None; ``before`` is done, untimed, before each time of the work of its name.
    """
    times: dict[str, list[float]] = {name: [] for name, work in works.items() if work is not None}
    for number in range(rounds + 1):
        for name, work in works.items():
            if work is None:
                continue
            if before and name in before:
                before[name]()
            os.sync()  # what one has written must not slow the next one down
            started = time.perf_counter()
            work()
            if number:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(times[name]) if name in times else None for name in works}
