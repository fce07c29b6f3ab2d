"""Marks what we make in a daemon, and takes away what killed processes of ours left there.

A container bears the mark of its store and the name of a lock that its process holds for as long as it
lives: where that lock is free, nobody needs the container any more. Nobody else's are touched. Knows
nothing of what containers are for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import SIG_BLOCK, SIG_SETMASK, SIGINT, SIGTERM, pthread_sigmask
from threading import Event, Thread, current_thread, main_thread
from typing import TypeVar

from reprobuild.store.locks import try_acquire
from reprobuild.store.scratch import LOCK_SUFFIX, Scratch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from reprobuild.store.store import Store

STORE = "org.reprobuild.store"
"""The label with the mark of a store."""
LOCK = "org.reprobuild.lock"
"""The label with the name of a lock in that store."""
PROCESS = "org.reprobuild.pid"
"""The label with the number of the process, for people who look."""

_MACHINE = "/etc/machine-id"

Given = TypeVar("Given")


def mark_of(store: Store) -> str:
    """Give the mark of a store: no other folder of this or another machine has it."""
    found = os.stat(store.path)
    machine = b""
    with contextlib.suppress(OSError):
        machine = Path(_MACHINE).read_bytes().strip()
    told = f"{found.st_dev}:{found.st_ino}:{os.path.realpath(store.path)}"
    return hashlib.sha256(machine + b"\0" + os.fsencode(told)).hexdigest()[:32]


class Alive:
    """That this process lives, as others can tell: a lock, which its end lets go of."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mark = mark_of(store)
        self._lock = Scratch(store.tmp, "docker", store.owner)

    @property
    def labels(self) -> Mapping[str, str]:
        """What everything in a daemon is to bear that ends with this process."""
        name = os.path.basename(self._lock.path)
        return {STORE: self._mark, LOCK: name, PROCESS: str(os.getpid())}

    def close(self) -> None:
        """Let go."""
        self._lock.close()

    def reap(self, client: Any) -> None:
        """Remove the containers of this store whose processes have died."""
        from docker.errors import APIError

        listed = client.containers(all=True, filters={"label": f"{STORE}={self._mark}"})
        dead = [found["Id"] for found in listed if self._is_dead(found)]
        # Twice: Podman removes no container whose network another one shares.
        for one in (*dead, *dead):
            with contextlib.suppress(APIError):  # it is gone; another process may be at it too
                client.remove_container(one, force=True, v=True)

    def _is_dead(self, found: Mapping[str, Any]) -> bool:
        name = (found.get("Labels") or {}).get(LOCK, "")
        return bool(name) and _is_free(os.path.join(self._store.tmp, os.path.basename(name) + LOCK_SUFFIX))


def _is_free(path: str) -> bool:
    if not os.path.exists(path):
        return True
    lock = try_acquire(path)
    if lock is None:
        return False
    lock.close(remove=True)
    return True


def shielded(work: Callable[[], Given]) -> Given:
    """Do work to its end whatever interrupts come meanwhile; the first of them is raised afterwards.

    What work gives is lost then, and what it raises comes first: so make sure to know by name what it made.
    Interrupts come to the main thread alone; another does it itself, also when the interpreter ends.
    """
    if current_thread() is not main_thread():
        return work()
    given: list[Given] = []
    raised: list[BaseException] = []
    over = Event()

    def do() -> None:
        try:
            given.append(work())
        except BaseException as error:  # noqa: BLE001  (raised again below)
            raised.append(error)
        finally:
            over.set()

    interrupted = _start(Thread(target=do, daemon=True))
    while not over.is_set():
        try:
            over.wait()
        except (KeyboardInterrupt, SystemExit) as interruption:
            interrupted = interrupted or interruption
    if raised:
        raise raised[0]
    if interrupted is not None:
        raise interrupted
    return given[0]


def _start(thread: Thread) -> BaseException | None:
    """Start a thread, whatever interrupts come; give the first."""
    interrupted: BaseException | None = None
    while True:
        try:
            before = pthread_sigmask(SIG_BLOCK, ())
            try:
                # Only then is it certain whether it has started.
                pthread_sigmask(SIG_BLOCK, (SIGINT, SIGTERM))
                thread.start()
            finally:
                pthread_sigmask(SIG_SETMASK, before)
            return interrupted
        except (KeyboardInterrupt, SystemExit) as interruption:
            interrupted = interrupted or interruption
            if thread.ident is not None:
                return interrupted
