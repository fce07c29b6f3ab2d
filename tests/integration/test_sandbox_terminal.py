"""A shell on the caller's terminal: size, job control, interrupts."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator

import pytest

from tests.sandboxes import PROJECT, Sandboxes

CALLER = """
import json, os, sys
from pathlib import Path
from reprobuild.engine.protocol import Command
from reprobuild.engine.sandbox import SandboxEngine
from reprobuild.store.checkouts import Checkout
from reprobuild.store.owner import choose_owner
from tests.sandboxes import become, docker_engine, layers_of

home, daemon = Path(sys.argv[2]), json.loads(sys.argv[3])
command = Command(("/bin/sh", "-i"), terminal=True, env={"PS1": "prompt> "})
if daemon:
    engine = docker_engine(home / "store", tuple(daemon.items()))
    with engine.ground(layers_of([home / "root"], engine.store)) as ground:
        result = engine.run(ground, command)
else:
    become(int(sys.argv[1]))
    result = SandboxEngine(home / "scratch", choose_owner()).run(Checkout((home / "root",)), command)
print("ended with", result.exit_code, os.tcgetpgrp(0) == os.getpgrp())
"""


class Terminal:
    """The other end of a terminal."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def wait_for(self, text: str) -> str:
        """Read until a text comes; give what came before it since the last time."""
        deadline = time.monotonic() + 30
        while text not in self.seen:
            ready, _, _ = select.select([self.descriptor], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"{text!r} did not come: {self.seen!r}"
            try:
                self.seen += os.read(self.descriptor, 4096).decode()
            except OSError:
                raise AssertionError(f"{text!r} did not come: {self.seen!r}") from None
        before, _, self.seen = self.seen.partition(text)
        return before


@pytest.fixture
def start(worlds: Sandboxes) -> Iterator[Callable[[], Terminal]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    started = []

    def begin() -> Terminal:
        uid = worlds.uid if worlds.identity == "user" else 0
        argv = [sys.executable, "-c", CALLER, str(uid), str(worlds.home), json.dumps(worlds.daemon)]
        # A process of its own, in a session of its own whose terminal this is.
        helper = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
            " os.execv(sys.argv[1], sys.argv[1:])"
        )
        import subprocess

        process = subprocess.Popen(
            [sys.executable, "-c", helper, *argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=PROJECT,
            start_new_session=True,
        )
        started.append(process)
        return Terminal(ours)

    yield begin
    for process in started:
        process.kill()
        process.wait()
    os.close(ours)
    os.close(theirs)


def test_a_shell_has_the_terminal(start: Callable[[], Terminal]) -> None:
    terminal = start()
    terminal.wait_for("prompt> ")
    # A daemon is told the size when the shell has begun, which may then show its prompt again.
    terminal.type("until [ \"$(stty size)\" = '33 77' ]; do sleep 0.1; done; echo 'its ''size'\n")
    terminal.wait_for("its size")
    terminal.wait_for("prompt> ")
    terminal.type("sleep 1000\n")
    terminal.wait_for("\n")
    time.sleep(0.3)
    terminal.type("\x03")
    terminal.wait_for("prompt> ")
    terminal.type("echo after $?\n")
    terminal.wait_for("after 130")
    terminal.wait_for("prompt> ")
    terminal.type("sleep 1000\n")
    terminal.wait_for("\n")
    time.sleep(0.3)
    terminal.type("\x1a")
    assert "Stopped" in terminal.wait_for("prompt> ")
    terminal.type("fg\n")
    terminal.wait_for("\n")
    time.sleep(0.3)
    terminal.type("\x03")
    terminal.wait_for("prompt> ")
    terminal.type("exit 5\n")
    terminal.wait_for("ended with 5 True")
