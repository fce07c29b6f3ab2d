"""A program that does not outlive its caller, however that ends: it and all that it starts.

The kernel's own signal for that (``PR_SET_PDEATHSIG``) reaches one process alone, comes when the *thread*
ends that started it, and has to be asked for between fork and exec, where other threads are a danger. So a
guard, a small process of the host's shell, waits for the end of a pipe that the caller holds open: the kernel
closes it when the caller is gone, and the guard ends the group of processes that it leads.

Knows nothing of what the program does.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

GUARD = "read -r nothing; kill -9 0"


@contextmanager
def guarded(
    argv: Sequence[str],
    *,
    stdin: int | IO[Any],
    stdout: int | IO[Any],
    stderr: int | IO[Any],
    cwd: Path,
    env: Mapping[str, str],
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program, in a process group that is gone when the context ends, or else the caller.

    Raises OSError where it cannot be started.
    """
    with subprocess.Popen(
        ["/bin/sh", "-c", GUARD],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
        process_group=0,
    ) as guard:
        process: subprocess.Popen[bytes] | None = None
        try:
            # Where the guard has ended the group by then, joining it fails, and the program never runs.
            process = subprocess.Popen(
                argv, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env, process_group=guard.pid
            )
            yield process
        finally:
            # Its number stays the group's until the guard is waited for.
            with suppress(ProcessLookupError):
                os.killpg(guard.pid, signal.SIGKILL)
            if process is not None:
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
