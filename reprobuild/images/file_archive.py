"""Files as one tar archive, or a path as a whole: written completely, synced, or not at all.

Knows nothing of what is in them. Archives follow the rules of ``docs/layer-format.md``.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from reprobuild.digest import BUFFER_SIZE
from reprobuild.errors import OutsideError, UsageError
from reprobuild.images.tar import BLOCK, END, member_header


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A file of an archive: its name, and its bytes when they are asked for."""

    name: str
    size: int
    chunks: Callable[[], Iterable[bytes]]


def known(name: str, data: bytes) -> ArchivedFile:
    """Give a file whose bytes are at hand."""
    return ArchivedFile(name, len(data), lambda: (data,))


def export_files(files: Sequence[ArchivedFile], path: Path, *, replace: bool = False) -> bool:
    """Write files as one archive to a path, whole or not at all; tell whether it had to be written.

    A file that is there is left alone where it has the same bytes, else it is a UsageError unless
    ``replace``. Raises OutsideError where the path cannot be written to, and what making the bytes raises.
    """
    if os.path.lexists(path):
        if path.is_dir():
            raise UsageError(f"{path} is a folder, and an archive is one file", f"write to {path}/image.tar")
        if path.is_file() and path.stat().st_size == archive_size(files) and has_bytes(path, archive(files)):
            return False
        if not replace:
            raise UsageError(
                f"{path} is there already, with other content", "name another file, or remove it"
            )
    with temporary(path) as draft:
        write_synced(draft, archive(files))
        os.replace(draft, path)
    return True


def archive(files: Iterable[ArchivedFile]) -> Iterator[bytes]:
    """Give the archive of files, made as it is read: folders before what is in them."""
    for file, head in _with_headers(files):
        yield head
        if file is not None:
            yield from file.chunks()
            yield bytes(-file.size % BLOCK)
    yield END


def archive_size(files: Iterable[ArchivedFile]) -> int:
    """Give the bytes of the archive of files."""
    return len(END) + sum(
        len(head) + (file.size + -file.size % BLOCK if file is not None else 0)
        for file, head in _with_headers(files)
    )


def _with_headers(files: Iterable[ArchivedFile]) -> Iterator[tuple[ArchivedFile | None, bytes]]:
    """Give files with their headers, and the headers of folders before what is in them."""
    made = set()
    for file in files:
        folder = ""
        for part in file.name.split("/")[:-1]:
            folder += part + "/"
            if folder not in made:
                made.add(folder)
                yield None, member_header(folder, 0, 0o755, "d")
        yield file, member_header(file.name, file.size)


def has_bytes(path: Path, chunks: Iterable[bytes]) -> bool:
    """Tell whether a file has exactly these bytes."""
    with open(path, "rb", buffering=BUFFER_SIZE) as file:
        return all(file.read(len(chunk)) == chunk for chunk in chunks) and not file.read(1)


def write_synced(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a new file, and sync it."""
    file: BinaryIO
    with open(path, "xb", buffering=BUFFER_SIZE) as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """Give a name beside a path that nobody else uses; what has it is removed at the end."""
    draft = path.parent / f".{path.name}.{secrets.token_hex(6)}.part"
    try:
        yield draft
    except OSError as error:
        raise OutsideError(
            f"cannot write {path}: {error.strerror or error}", "name a folder that is there and writable"
        ) from error
    finally:
        if draft.is_dir() and not draft.is_symlink():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)
