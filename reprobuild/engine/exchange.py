"""What goes into a sandbox from the host, and what comes out of it to the host.

What comes out was left by a stranger: plain files and folders are copied, step by step through open
folders, and nothing else; no link is followed. Knows nothing of how it is mounted.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from reprobuild.engine.folders import FOLDER, check_bounds, open_file, open_folder
from reprobuild.errors import EngineError


def inside_path(path: str) -> str:
    """Give a path inside without its last slash. Raises ValueError for one that is not absolute and plain."""
    parts = path.strip("/").split("/")
    if not path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"not an absolute path inside: {path!r}")
    return path.rstrip("/")


def readable_input(source: Path, scratch: Path, owner: int | None) -> Path:
    """Give an input so that the sandbox's uid can read it: itself, or a copy if its modes forbid that.

    Only its own modes are looked at, not what is in a folder. Raises EngineError where it is not there.
    """
    try:
        mode = source.stat().st_mode
    except OSError as error:
        raise EngineError(f"the input {source}: {error.strerror}") from error
    wanted = 0o005 if stat.S_ISDIR(mode) else 0o004
    if owner is None or mode & wanted == wanted or source.stat().st_uid == owner:
        return source
    import shutil

    copy = scratch / f"input-{len(os.listdir(scratch))}"
    if stat.S_ISDIR(mode):
        shutil.copytree(source, copy, symlinks=True)
        for folder, folders, files in os.walk(copy):
            for name in (*folders, *files):
                os.chown(os.path.join(folder, name), owner, owner, follow_symlinks=False)
    else:
        shutil.copyfile(source, copy)
        copy.chmod(mode | 0o400)
    os.chown(copy, owner, owner)
    return copy


def copy_out(left: Path, to: Path) -> None:
    """Copy plain files and folders that a command left to a folder of the host; all else stays behind.

    The copies belong to the caller, with the modes that new files have. Raises BuildFailedError for
    what is deeper, longer or larger than ``folders`` allows.
    """
    to.mkdir(parents=True, exist_ok=True)
    source = os.open(left, FOLDER)
    try:
        target = os.open(to, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _copy_folder(source, target, "")
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_folder(source: int, target: int, prefix: str) -> None:
    for name in sorted(os.listdir(source)):
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        check_bounds(prefix + name, found.st_size)
        if stat.S_ISDIR(found.st_mode):
            _copy_inner_folder(source, target, name, prefix)
        elif stat.S_ISREG(found.st_mode):
            _copy_file(source, target, name, executable=bool(found.st_mode & 0o100))


def _copy_inner_folder(source: int, target: int, name: str, prefix: str) -> None:
    inner = open_folder(source, name)
    try:
        with contextlib.suppress(FileExistsError):  # if it is no folder, opening it says so
            os.mkdir(name, 0o777, dir_fd=target)
        inner_target = os.open(name, FOLDER, dir_fd=target)
        try:
            _copy_folder(inner, inner_target, f"{prefix}{name}/")
        finally:
            os.close(inner_target)
    finally:
        os.close(inner)


def _copy_file(source: int, target: int, name: str, *, executable: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    reader = open_file(source, name)
    try:
        writer = os.open(name, flags, 0o777 if executable else 0o666, dir_fd=target)
        try:
            while os.sendfile(writer, reader, None, 1 << 30):
                pass
        finally:
            os.close(writer)
    finally:
        os.close(reader)
