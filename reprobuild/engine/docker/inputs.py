"""What goes into a container before it starts, as one tar stream: folders, files and inputs.

Inputs are copies, so they are made read-only by whose they are: nobody's, where their own modes let others
read them, which then keep uid 0 from writing to them, since it has no capability. Knows nothing of daemons.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reprobuild.engine.exchange import inside_path
from reprobuild.engine.trust import OnTop
from reprobuild.errors import EngineError
from reprobuild.tree import NORMAL_TIME

NOBODY = 65534
_PIECE = 1 << 20
_END = bytes(1024)


def archive(
    folders: Sequence[str], files: Mapping[str, OnTop], inputs: Mapping[str, Path]
) -> Iterator[bytes]:
    """Give the stream: folders that are made, files by path, then inputs by path.

    All paths are without a leading slash; a folder may be ``.``, the root.

    Raises EngineError for an input that is not there or can't be read.
    """
    for path in folders:
        made = tarfile.TarInfo(path + "/")
        made.type, made.mode, made.mtime = tarfile.DIRTYPE, 0o755, NORMAL_TIME
        yield _header(made)
    for path, one in files.items():
        made = tarfile.TarInfo(path)
        made.mode, made.size, made.mtime = one.mode, len(one.content), NORMAL_TIME
        yield _header(made) + one.content + bytes(-made.size % tarfile.BLOCKSIZE)
    for inside, source in inputs.items():
        yield from _below(inside, str(source), is_named=True)
    yield _END


def added_below(inputs: Mapping[str, Path], places: Sequence[str], paths: Sequence[str]) -> dict[str, Path]:
    """Give files that were added below inputs, by path without leading slash: as ``archive`` takes them.

    ``places``: where each input lies in the tree; ``paths``: those of the files inside.
    """
    added = {}
    for (inside, source), place in zip(inputs.items(), places, strict=True):
        above = inside_path(inside)
        below = [path[len(above) :] for path in paths if path.startswith(f"{above}/")]
        added.update({f"{place}{name}": Path(f"{source}{name}") for name in below})
    return added


def size_of(source: Path) -> int:
    """Add up the bytes of an input, links counted by where they point, as daemons count them."""
    if source.is_file():
        return source.stat().st_size
    found = 0
    for folder, folders, files in os.walk(source):
        for name in (*folders, *files):
            here = os.lstat(os.path.join(folder, name))
            found += here.st_size if stat.S_ISREG(here.st_mode) or stat.S_ISLNK(here.st_mode) else 0
    return found


def _below(inside: str, source: str, *, is_named: bool = False) -> Iterator[bytes]:
    try:
        # What a caller names may be a link, as it may for a mount; what is in it is shown as it is.
        found = os.stat(source, follow_symlinks=is_named)
        member = tarfile.TarInfo(inside)
        member.mode = stat.S_IMODE(found.st_mode)
        member.mtime = found.st_mtime if found.st_mtime % 1 else int(found.st_mtime)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFDIR:
            member.type = tarfile.DIRTYPE
            yield _header(_owned(member, 0o005))
            for name in sorted(os.listdir(source)):
                yield from _below(f"{inside}/{name}", f"{source}/{name}")
        elif kind == stat.S_IFLNK:
            member.type, member.linkname = tarfile.SYMTYPE, os.readlink(source)
            yield _header(member)
        elif kind == stat.S_IFREG:
            with open(source, "rb") as file:
                member.size = os.fstat(file.fileno()).st_size
                yield _header(_owned(member, 0o004))
                yield from _body(file, member.size, source)
    except OSError as error:
        raise EngineError(f"the input {source}: {error.strerror}") from error


def _owned(member: tarfile.TarInfo, read: int) -> tarfile.TarInfo:
    """Give it to nobody where others may read it; else to uid 0, which could not read it otherwise."""
    if member.mode & read == read:
        member.uid = member.gid = NOBODY
        member.mode &= ~0o002
    else:
        member.mode |= 0o400
    return member


def _body(file: object, size: int, source: str) -> Iterator[bytes]:
    left = size
    while left:
        data: bytes = file.read(min(_PIECE, left))  # type: ignore[attr-defined]
        if not data:
            raise EngineError(f"the input {source} became shorter while it was read", "run it again")
        left -= len(data)
        yield data
    if padding := -size % tarfile.BLOCKSIZE:
        yield bytes(padding)


def _header(member: tarfile.TarInfo) -> bytes:
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
