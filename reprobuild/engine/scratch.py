"""The folder that one command writes to, gone afterwards whatever happens.

Each is locked (``flock``) by the process that uses it; the lock ends with the process, also by
``kill -9``, and the next one to come takes the leftovers away. Knows nothing of what is in them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

PREFIX = "command-"

_DEEP = 100
"""Folders below folders, past which a subtree is moved up before it is removed: hostile ones are
deeper than paths, recursion or file descriptors reach."""


@contextlib.contextmanager
def command_folder(parent: Path, owner: int | None) -> Iterator[Path]:
    """Give a fresh private folder below another one; it belongs to ``owner`` where that is not None."""
    reap(parent)
    while True:
        path = os.path.join(parent, PREFIX + os.urandom(6).hex())
        os.mkdir(path, 0o700)
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock).st_nlink:
            break
        os.close(lock)  # another process took it for a leftover before it was locked
    try:
        group = os.getegid() if owner is None else owner
        os.chown(path, -1 if owner is None else owner, group)  # a set-group-ID folder above gives its own
        os.chmod(path, 0o700)
        yield Path(path)
    finally:
        remove(path)
        os.close(lock)


def reap(parent: Path) -> None:
    """Remove what processes that are gone have left."""
    with os.scandir(parent) as entries:
        left = [entry.path for entry in entries if entry.name.startswith(PREFIX)]
    for path in left:
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove(path)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.ENOTEMPTY, errno.ENOENT):
                raise
        finally:
            os.close(lock)


def remove(path: str) -> None:
    """Remove a folder and all that is in it, of whatever mode and depth, following no link."""
    top = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        root = os.path.basename(path)
        moved = [root]
        while moved:
            name = moved.pop()
            try:
                _remove_below(top, name, top, root, moved, 0)
                os.rmdir(name, dir_fd=top)
            except FileNotFoundError:
                continue
    finally:
        os.close(top)


def _remove_below(parent: int, name: str, top: int, root: str, moved: list[str], depth: int) -> None:
    folder = open_folder(parent, name)
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for inner, is_folder in found:
            if not is_folder:
                os.unlink(inner, dir_fd=folder)
            elif depth < _DEEP:
                _remove_below(folder, inner, top, root, moved, depth + 1)
                os.rmdir(inner, dir_fd=folder)
            else:
                os.chmod(inner, 0o700, dir_fd=folder)
                away = f"{root}.{len(moved)}.{os.stat(inner, dir_fd=folder).st_ino}"
                os.rename(inner, away, src_dir_fd=folder, dst_dir_fd=top)
                moved.append(away)
    finally:
        os.close(folder)


def open_folder(parent: int, name: str) -> int:
    """Open a folder by its name in an open one, whatever its mode; nothing else may change it meanwhile.

    Its mode stays as it is unless reading needs more.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    mode = stat.S_IMODE(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    if mode & 0o700 != 0o700 and os.geteuid() != 0:
        os.chmod(name, mode | 0o700, dir_fd=parent)
    return os.open(name, flags, dir_fd=parent)
