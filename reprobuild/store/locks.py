"""Lock files: one for each thing in the making, exclusive for its maker, shared for its users.

``flock`` goes with the open file, so the kernel lets go when a process dies. Knows nothing of what is
locked. A lock file may be removed by whoever holds it exclusively: who gets the lock of a removed file
notices, and tries again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from reprobuild.store.disk import trouble


class Lock:
    """A held lock; close it to let go. Use as a context manager."""

    __slots__ = ("_descriptor", "_process", "path")

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._process = os.getpid()

    @property
    def is_mine(self) -> bool:
        """Whether this process took it: one that was forked off since lets go of nothing."""
        return self._process == os.getpid()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self, *, remove: bool = False) -> None:
        """Let go; ``remove`` the file first if nobody will need it (only when held exclusively)."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            if self.is_mine:
                if remove:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.path)
                # A process that was forked off meanwhile holds the open file, too.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)


def acquire(path: str, *, shared: bool = False) -> Lock:
    """Wait for a lock and take it; raises OutsideError where the file system refuses."""
    lock = _acquire(path, shared=shared, wait=True)
    assert lock is not None
    return lock


def try_acquire(path: str, *, shared: bool = False) -> Lock | None:
    """Take a lock if nobody else has it; None if somebody does."""
    return _acquire(path, shared=shared, wait=False)


def _acquire(path: str, *, shared: bool, wait: bool) -> Lock | None:
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, how)
                if _is_still(path, descriptor):
                    lock, descriptor = Lock(path, descriptor), -1
                    return lock
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        except BlockingIOError:
            return None
        except OSError as error:
            raise trouble(error, f"locking {path}") from error


def _is_still(path: str, descriptor: int) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
