"""What goes into a sandbox from the host, and what comes out of it to the host.

What comes out was left by a stranger: plain files and folders are copied, step by step through open
folders, and nothing else; no link is followed. Knows nothing of how it is mounted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from reprobuild.engine.scratch import open_folder


def readable_input(source: Path, scratch: Path, owner: int | None) -> Path:
    """Give an input so that the sandbox's uid can read it: itself, or a copy where its modes forbid that."""
    if owner is None or all(_others_can_read(path) for path in _below(source)):
        return source
    import shutil

    copy = scratch / f"input-{len(os.listdir(scratch))}"
    if source.is_dir():
        shutil.copytree(source, copy, symlinks=True)
    else:
        shutil.copyfile(source, copy)
    for path in _below(copy):
        os.chown(path, owner, owner, follow_symlinks=False)
    return copy


def _below(source: Path) -> Iterator[str]:
    yield str(source)
    for folder, folders, files in os.walk(source):
        for name in (*folders, *files):
            yield os.path.join(folder, name)


def _others_can_read(path: str) -> bool:
    mode = os.lstat(path).st_mode
    wanted = 0o005 if stat.S_ISDIR(mode) else 0o004
    return stat.S_ISLNK(mode) or mode & wanted == wanted


def copy_out(left: Path, to: Path) -> None:
    """Copy plain files and folders that a command left to a folder of the host; all else stays behind.

    The copies belong to the caller, with the modes that new files have.
    """
    to.mkdir(parents=True, exist_ok=True)
    source = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        target = os.open(to, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _copy_folder(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_folder(source: int, target: int) -> None:
    for name in sorted(os.listdir(source)):
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            _copy_inner_folder(source, target, name)
        elif stat.S_ISREG(found.st_mode):
            _copy_file(source, target, name, found.st_mode)


def _copy_inner_folder(source: int, target: int, name: str) -> None:
    inner = open_folder(source, name)
    try:
        if not _is_folder(target, name):
            os.mkdir(name, 0o777, dir_fd=target)
        inner_target = os.open(
            name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target
        )
        try:
            _copy_folder(inner, inner_target)
        finally:
            os.close(inner_target)
    finally:
        os.close(inner)


def _copy_file(source: int, target: int, name: str, mode: int) -> None:
    if not mode & 0o400 and os.geteuid() != 0:
        os.chmod(name, 0o600, dir_fd=source)
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    reader = os.open(name, os.O_RDONLY | flags, dir_fd=source)
    with open(reader, "rb", buffering=0) as taken:
        permissions = 0o777 if mode & 0o100 else 0o666
        writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags, permissions, dir_fd=target)
        with open(writer, "wb", buffering=0) as kept:
            while os.sendfile(kept.fileno(), taken.fileno(), None, 1 << 30):
                pass


def _is_folder(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
