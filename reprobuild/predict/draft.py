"""A file that is written beside the place it will have; what killed processes left of such is taken away.

A draft is locked as long as it is written, so whoever gets its lock knows that nobody does any more. Knows
nothing of what is in it. Where the file system has no locks, drafts are written all the same, and none is
taken away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator

_ENDING = re.compile(r"\.reprobuild-[0-9a-f]{8}\.part")


@contextlib.contextmanager
def drafted(path: str) -> Iterator[int]:
    """Give the descriptor of a new file that gets the name ``path`` in the end; in an error it is removed.

    Drafts of the same file that nobody writes any more are removed first. The descriptor is the caller's to
    write to, not to close. Raises OSError where there can be no file.
    """
    _remove_left(path)
    draft, descriptor = _made(path)
    try:
        yield descriptor
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    finally:
        os.close(descriptor)


def _made(path: str) -> tuple[str, int]:
    while True:
        draft = f"{path}.reprobuild-{os.urandom(4).hex()}.part"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(draft, flags, 0o666)
        except FileExistsError:
            continue
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another call may have had the lock before us, and taken the file for one that was left.
        if _is_named(descriptor, draft):
            return draft, descriptor
        os.close(descriptor)


def _remove_left(path: str) -> None:
    folder, name = os.path.split(path)
    with contextlib.suppress(OSError):
        for found in os.listdir(folder):
            if found.startswith(name) and _ENDING.fullmatch(found, len(name)):
                _remove_if_left(os.path.join(folder, found))


def _remove_if_left(draft: str) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(draft, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_named(descriptor, draft):
                    os.unlink(draft)
        finally:
            os.close(descriptor)


def _is_named(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except OSError:
        return False
