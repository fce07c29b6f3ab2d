"""Whatever ends the caller ends everything inside, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reprobuild.engine.launcher import GUARD
from reprobuild.engine.protocol import Command
from reprobuild.engine.sandbox import SandboxEngine
from reprobuild.store.checkouts import Checkout
from reprobuild.store.owner import choose_owner
from tests.sandboxes import PROJECT, Sandboxes

CALLER = """
import os, signal, sys
from pathlib import Path
from reprobuild.engine.protocol import Command
from reprobuild.engine.sandbox import SandboxEngine
from reprobuild.store.checkouts import Checkout
from reprobuild.store.owner import choose_owner
from tests.gateways import AnsweringGateway
from tests.sandboxes import become

uid, home, marker = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
become(uid)
gateway = AnsweringGateway() if sys.argv[4] else None
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
text = f"(trap '' HUP TERM INT; sleep {marker}) & {sys.argv[4]} echo begun; sleep {marker}"
command = Command(("/bin/sh", "-c", text))
print("starting", flush=True)
try:
    SandboxEngine(home / "scratch", choose_owner()).run(
        Checkout((home / "root",)),
        command,
        gateway=gateway,
        output=lambda line: print(line.decode(), end="", flush=True),
    )
except KeyboardInterrupt:
    sys.exit(130)
finally:
    assert gateway is None or gateway.closed == 1
"""

ASKS = "wget -q -O /dev/null http://192.0.2.1/;"


@contextmanager
def caller(
    sandboxes: Sandboxes, marker: str, until: bytes = b"begun\n", *, asks: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that runs a long command, and go on when it says so.

    asks: what the command first asks of a gateway; without it there is no gateway.
    """
    uid = 0 if sandboxes.identity == "root" else sandboxes.uid
    argv = [sys.executable, "-c", CALLER, str(uid), str(sandboxes.home), marker, asks]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=PROJECT) as process:
        try:
            assert process.stdout is not None
            while (line := process.stdout.readline()) != until:
                assert line
            if until == b"begun\n":
                assert wait_until(lambda: len(inside(marker)) >= 2)
            yield process
        finally:
            process.kill()


def inside(marker: str) -> list[str]:
    """Give the processes of a sandbox, bubblewrap's included, whose arguments hold a marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", marker.encode()] or (
                b"--args" in words and f"sleep {marker}".encode() in words[-2]
            ):
                found.append(entry.name)
    return found


def openers() -> list[str]:
    """Give the processes that open a gateway's sockets, whosever they are: each lives for a moment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"-I" in words and any(
                    b"import opener" in word or b"network namespace" in word for word in words
                ):
                    found.append(entry.name)
    return found


def wait_until(is_so: Callable[[], bool]) -> bool:
    """Give whether something comes to be so within a generous time."""
    deadline = time.monotonic() + 20
    while not (so := is_so()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return so


def is_clean(sandboxes: Sandboxes) -> bool:
    return not os.listdir(sandboxes.home / "scratch")


def marker_of(number: int) -> str:
    """Give a number of seconds that no other test sleeps."""
    return f"{100_000 + os.getpid()}.{number}"


ORDERLY = {"interrupt": (signal.SIGINT, 130), "terminate": (signal.SIGTERM, 143)}


@pytest.mark.parametrize(("number", "code"), ORDERLY.values(), ids=ORDERLY)
@pytest.mark.parametrize("asks", ["", ASKS], ids=["without a gateway", "with a gateway"])
def test_an_orderly_end_leaves_nothing(
    sandboxes: Sandboxes, number: signal.Signals, code: int, asks: str
) -> None:
    marker = marker_of(1)
    with caller(sandboxes, marker, asks=asks) as process:
        process.send_signal(number)
        assert process.wait(20) == code
        assert inside(marker) == []
        assert os.listdir(sandboxes.home / "scratch") == []


@pytest.mark.parametrize("asks", ["", ASKS], ids=["without a gateway", "with a gateway"])
def test_a_kill_ends_everything_and_the_next_one_cleans_up(sandboxes: Sandboxes, asks: str) -> None:
    marker = marker_of(2)
    with caller(sandboxes, marker, asks=asks) as process:
        process.kill()
        process.wait(20)
        assert wait_until(lambda: not inside(marker))
        assert wait_until(lambda: not openers())
    assert os.listdir(sandboxes.home / "scratch")
    assert sandboxes.shell("true").result.exit_code == 0
    assert os.listdir(sandboxes.home / "scratch") == []


@pytest.mark.parametrize("asks", ["", ASKS], ids=["without a gateway", "with a gateway"])
@pytest.mark.parametrize("milliseconds", range(2, 38, 5))
def test_a_kill_while_a_sandbox_is_being_made_ends_it_too(
    sandboxes: Sandboxes, milliseconds: int, asks: str
) -> None:
    marker = marker_of(1000 + milliseconds)
    with caller(sandboxes, marker, until=b"starting\n", asks=asks) as process:
        time.sleep(milliseconds / 1000)
        process.kill()
        process.wait(20)
        time.sleep(0.5)  # what was forked and not yet started anew can't be told from the caller
        assert wait_until(lambda: not inside(marker))
        assert wait_until(lambda: not openers())
    # What was forked and not yet started anew holds the lock of the killed for a moment.
    assert wait_until(lambda: not sandboxes.shell("true").result.exit_code and is_clean(sandboxes))


def test_the_end_of_bubblewrap_itself_is_an_error(sandboxes: Sandboxes) -> None:
    """Somebody else may kill it: the command is gone then, and that is no exit code of its own."""
    if sandboxes.identity == "user" and os.geteuid() == 0:
        pytest.skip("the caller is another process then")
    caught: list[str] = []
    others = children_of(os.getpid())  # servers that serve other tests

    def kill_when_begun(line: bytes) -> None:
        for child in children_of(os.getpid()) - others:
            os.kill(child, signal.SIGKILL)

    engine = SandboxEngine(sandboxes.home / "scratch", choose_owner())
    try:
        engine.run(
            Checkout(sandboxes.lowers), Command(("/bin/sh", "-c", "echo; sleep 1000")), output=kill_when_begun
        )
    except Exception as error:  # noqa: BLE001 - the message is what matters
        caught.append(str(error))
    assert len(caught) == 1
    assert "ended from outside by signal 9" in caught[0]
    assert os.listdir(sandboxes.home / "scratch") == []


def children_of(parent: int) -> set[int]:
    children = Path(f"/proc/{parent}/task").glob("*/children")
    return {int(child) for one in children for child in one.read_text().split()}


def test_a_sandbox_outlives_the_thread_that_another_was_started_in(sandboxes: Sandboxes) -> None:
    if sandboxes.identity == "user" and os.geteuid() == 0:
        pytest.skip("the caller is another process then")
    engine = SandboxEngine(sandboxes.home / "scratch", choose_owner())
    codes: dict[int, int] = {}

    def one(number: int) -> None:
        command = Command(("/bin/sh", "-c", f"sleep 0.{number}; exit {number}"))
        codes[number] = engine.run(Checkout(sandboxes.lowers), command).exit_code

    threads = [threading.Thread(target=one, args=(number,)) for number in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {number: number for number in range(1, 7)}
    assert os.listdir(sandboxes.home / "scratch") == []


def test_an_error_of_whoever_listens_ends_everything(sandboxes: Sandboxes) -> None:
    if sandboxes.identity == "user" and os.geteuid() == 0:
        pytest.skip("the caller is another process then")
    marker = marker_of(3)

    def listen(line: bytes) -> None:
        raise ValueError("no more of this")

    engine = SandboxEngine(sandboxes.home / "scratch", choose_owner())
    with pytest.raises(ValueError, match="no more"):
        engine.run(
            Checkout(sandboxes.lowers), Command(("/bin/sh", "-c", f"echo; sleep {marker}")), output=listen
        )
    assert inside(marker) == []
    assert os.listdir(sandboxes.home / "scratch") == []


def test_a_guard_does_not_wait_for_a_bubblewrap_that_has_ended(tmp_path: Path) -> None:
    # As where the first process of a container waits for nobody's children.
    waits = tmp_path / "sleep"
    waits.write_text(f"#!/bin/sh\necho >> {tmp_path}/waited\n")
    waits.chmod(0o755)
    with subprocess.Popen(["/bin/true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        argv, told = ["/bin/sh", "-c", GUARD], f"{ended.pid}\n"
        subprocess.run(argv, input=told, text=True, env={"PATH": str(tmp_path)}, timeout=120, check=True)
    assert not (tmp_path / "waited").exists()
