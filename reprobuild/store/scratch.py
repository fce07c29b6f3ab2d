"""Private folders below ``tmp/`` that vanish with their process, however it ends.

Each has a lock file beside it that its holder keeps locked; a folder whose lock is free belongs to
nobody any more. Knows nothing of what is in them.
"""

from __future__ import annotations

import os

from reprobuild.store.disk import file_name_of, fresh_name, remove, trouble
from reprobuild.store.locks import Lock, acquire, try_acquire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_SUFFIX = ".lock"
TRASH = "trash"
"""What an audit moved aside; it stays until ``gc`` comes."""
PARTIAL = "partial"


class Scratch:
    """A private folder; close it, or use it as a context manager, to remove it."""

    __slots__ = ("_lock", "_made", "_owner", "path")

    path: str

    def __init__(self, tmp: str, prefix: str, owner: int | None) -> None:
        self.path = os.path.join(tmp, f"{file_name_of(prefix)}-{fresh_name()}")
        self._owner = owner
        self._made = False
        self._lock: Lock | None = acquire(self.path + LOCK_SUFFIX)

    def make(self) -> str:
        """Make the folder unless it is there; give its path."""
        if not self._made:
            try:
                os.mkdir(self.path, 0o700)
                if self._owner is not None:
                    os.chown(self.path, self._owner, self._owner)
                elif os.stat(self.path).st_gid != os.getegid():  # a set-group-ID folder above gave its own
                    os.chown(self.path, -1, os.getegid())
                    os.chmod(self.path, 0o700)
            except OSError as error:
                raise trouble(error, f"making a folder in {os.path.dirname(self.path)}") from error
            self._made = True
        return self.path

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder, then its lock."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        try:
            if self._made and lock.is_mine:
                remove(self.path)
        except OSError:
            lock.close()  # what cannot be removed now is reaped later
        else:
            lock.close(remove=True)


def since(tmp: str) -> float | None:
    """Give when the oldest folder that is in use was begun (seconds since the epoch), or None."""
    oldest = None
    for name in _locks(tmp):
        path = os.path.join(tmp, name)
        try:
            begun = os.stat(path).st_ctime
        except FileNotFoundError:
            continue
        lock = try_acquire(path, shared=True)
        if lock is not None:
            lock.close()
        elif oldest is None or begun < oldest:
            oldest = begun
    return oldest


def abandoned(tmp: str) -> Iterator[str]:
    """Give the names of folders and lock files below ``tmp/`` whose holders have died."""
    for name in _locks(tmp):
        lock = try_acquire(os.path.join(tmp, name))
        if lock is not None:
            yield name.removesuffix(LOCK_SUFFIX)
            lock.close()


def reap(tmp: str) -> None:
    """Remove what dead processes left; what cannot be removed stays for an audit to name."""
    for name in _locks(tmp):
        lock = try_acquire(os.path.join(tmp, name))
        if lock is None:
            continue
        try:
            remove(lock.path.removesuffix(LOCK_SUFFIX))
        except OSError:
            lock.close()
        else:
            lock.close(remove=True)


def _locks(tmp: str) -> list[str]:
    try:
        return [name for name in os.listdir(tmp) if name.endswith(LOCK_SUFFIX)]
    except FileNotFoundError:
        return []
