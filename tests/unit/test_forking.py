"""What a process that is forked off this one has of commands and locks: nothing that outlives their end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reprobuild.engine.forking import starting
from reprobuild.store.locks import acquire, try_acquire
from reprobuild.store.scratch import Scratch


@contextmanager
def child() -> Iterator[int]:
    """Fork off a process that waits until the end of a ``with`` block; 0 within that process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:
        yield pid
    finally:
        os.close(writer)
        os.close(reader)
        os.waitpid(pid, 0)


def test_a_fork_waits_while_commands_are_being_started() -> None:
    begun, order = threading.Barrier(3), list[str]()

    def start() -> None:
        with starting():
            begun.wait()
            time.sleep(0.2)
            order.append("started")

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    begun.wait()
    with child():
        order.append("forked")
        with starting():
            order.append("started again")
    for thread in threads:
        thread.join()
    assert order == ["started", "started", "forked", "started again"]


def test_a_lock_is_let_go_of_whoever_was_forked_off_meanwhile(tmp_path: Path) -> None:
    for shared in (True, False):
        lock = acquire(str(tmp_path / "lock"), shared=shared)
        with child():
            assert try_acquire(str(tmp_path / "lock")) is None
            lock.close()
            again = try_acquire(str(tmp_path / "lock"))
            assert again is not None
            again.close()


def test_a_process_that_was_forked_off_lets_go_of_nothing(tmp_path: Path) -> None:
    lock, scratch = acquire(str(tmp_path / "lock")), Scratch(str(tmp_path), "private", None)
    folder = scratch.make()
    pid = os.fork()
    if not pid:
        lock.close(remove=True)
        scratch.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert try_acquire(str(tmp_path / "lock")) is None
    assert os.path.isdir(folder) and try_acquire(folder + ".lock") is None
    scratch.close()
    lock.close(remove=True)
    assert os.listdir(tmp_path) == []
