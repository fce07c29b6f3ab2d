"""git does not outlive whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import wait_until

PROGRAM = """
import os, sys
from pathlib import Path
from reprobuild.fetch.git_program import Git
git = Git(Path(sys.argv[1]), os.environ)
with open(0, "rb") as stdin:
    if sys.argv[2] == "run":
        git.run("hash-object", "--stdin", stdin=stdin)
    else:
        with git.reading("cat-file", "--batch", stdin=stdin) as answers:
            answers.read()
"""
COMMANDS = {"run": "hash-object", "reading": "cat-file"}
"""What git is told to do, after ``init``, which ends by itself."""
SECONDS = 120.0


def children(pid: int) -> dict[int, list[str]]:
    """Give the processes that a process has started, with their arguments."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text().rsplit(") ", 1)[1].split()[:2]
            if int(parent) == pid and state != "Z":
                found[int(entry.parent.name)] = (entry.parent / "cmdline").read_text().split("\0")
        except OSError:
            continue
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
@pytest.mark.parametrize("way", COMMANDS)
def test_git_ends_with_its_caller(tmp_path: Path, way: str, number: signal.Signals) -> None:
    reader, writer = os.pipe()  # held open here: git has something to wait for
    try:
        caller = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), way], stdin=reader, stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: any(COMMANDS[way] in argv for argv in children(caller.pid).values()))
            started = children(caller.pid)
            caller.send_signal(number)
            caller.wait(SECONDS)
            wait_until(lambda: not any(map(is_running, started)))
        finally:
            caller.kill()
            caller.wait()
    finally:
        os.close(reader)
        os.close(writer)
