"""Opens folders that a stranger's command has left, step by step and following no link.

Everything inside has ended when this is used: nothing moves under the reader. Knows nothing of what
is done with them.
"""

from __future__ import annotations

import os
import stat

from reprobuild.errors import BuildFailedError

DEEPEST = 200
"""Folders in folders that are read: past paths, recursion and descriptors lie only traps."""

LARGEST = 1 << 38
"""Bytes of one file that are read: a sparse file of any size costs nothing to make."""

LONGEST_PATH = 4095
"""PATH_MAX less the closing zero (limits.h)."""

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_folder(parent: int, name: str) -> int:
    """Open a folder by its name in an open one, whatever its mode (which is widened where need be)."""
    mode = stat.S_IMODE(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    if mode & 0o700 != 0o700 and os.geteuid() != 0:
        os.chmod(name, mode | 0o700, dir_fd=parent)
    return os.open(name, FOLDER, dir_fd=parent)


def open_file(parent: int, name: str) -> int:
    """Open a plain file for reading by its name in an open folder, whatever its mode."""
    mode = stat.S_IMODE(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    if not mode & 0o400 and os.geteuid() != 0:
        os.chmod(name, mode | 0o400, dir_fd=parent)
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def check_bounds(path: str, size: int) -> None:
    """Raise BuildFailedError, naming the path, for what is deeper, longer or larger than anything honest."""
    shown = f"/{path[:200]}{'…' if len(path) > 200 else ''}"
    if path.count("/") >= DEEPEST:
        raise BuildFailedError(f"the command left folders more than {DEEPEST} deep: {shown}")
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise BuildFailedError(f"the command left a path of more than {LONGEST_PATH} bytes: {shown}")
    if size > LARGEST:
        raise BuildFailedError(f"the command left a file of {size} bytes, which is too large: {shown}")
