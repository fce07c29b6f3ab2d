"""What comes out of a container into a folder of this machine: plain files and folders, and nothing else.

It was left by a stranger, and comes as a tar stream of a daemon's making: no link is followed, neither in
the stream nor on the disk. Knows nothing of daemons.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from reprobuild.engine.folders import FOLDER, check_bounds
from reprobuild.images.archive import Stream
from reprobuild.images.tar_reader import Body, read_tar

_PIECE = 1 << 20


def unpack(stream: Stream, to: Path) -> None:
    """Write what a stream holds below its first folder to a folder of the host.

    The files belong to the caller, with the modes that new files have. Raises BuildFailedError for what is
    deeper, longer or larger than ``folders`` allows, OSError where something else has a name already, and
    ArchiveError for a stream that is none.
    """
    to.mkdir(parents=True, exist_ok=True)
    root = os.open(to, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for member, body in read_tar(stream, is_layer=True, any_bytes=True):
            path = member.path.partition("/")[2]
            if not path:
                continue
            check_bounds(path, member.size)
            executable = bool(member.mode & 0o100)
            with _parent(root, path) as parent:
                name = path.rpartition("/")[2]
                if member.kind == "d":
                    with contextlib.suppress(FileExistsError):  # if it is no folder, what is in it says so
                        os.mkdir(name, 0o777, dir_fd=parent)
                elif member.kind == "f":
                    _write(parent, name, body, executable=executable)
                elif member.kind == "h":
                    _write_again(root, member.target.partition("/")[2], parent, name, executable=executable)
    finally:
        os.close(root)


@contextlib.contextmanager
def _parent(root: int, path: str) -> Iterator[int]:
    """Open the folder that a path is in, step by step and through no link."""
    here = os.dup(root)
    try:
        for part in path.split("/")[:-1]:
            inner = os.open(part, FOLDER, dir_fd=here)
            os.close(here)
            here = inner
        yield here
    finally:
        os.close(here)


def _create(parent: int, name: str, *, executable: bool) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o777 if executable else 0o666, dir_fd=parent)


def _write(parent: int, name: str, body: Body, *, executable: bool) -> None:
    with open(_create(parent, name, executable=executable), "wb", buffering=0) as file:
        while data := body.read(_PIECE):
            file.write(data)


def _write_again(root: int, target: str, parent: int, name: str, *, executable: bool) -> None:
    """Copy a file that came before: a second name of it in the container is a file of its own here."""
    with _parent(root, target) as folder:
        reader = os.open(target.rpartition("/")[2], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            writer = _create(parent, name, executable=executable)
            try:
                while os.sendfile(writer, reader, None, 1 << 30):
                    pass
            finally:
                os.close(writer)
        finally:
            os.close(reader)
