"""``file:`` addresses: files of a recipe's own folder, and of nowhere else.

Knows nothing of recipes but where their folder is.
"""

from __future__ import annotations

import lzma
import os
import posixpath
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from reprobuild.errors import RecipeError

if TYPE_CHECKING:
    import tarfile

    from reprobuild.fetch.download import Download
    from reprobuild.fetch.partial import Partial
    from reprobuild.fetch.transfer import Watch


def copy_local(url: str, download: Download, partial: Partial, watch: Watch) -> None:
    """Read a file of the recipe's folder. Raises RecipeError for what is not there or leads outside."""
    partial.restart()
    with open_local(url, download.folder, download.where) as (file, size):
        watch.begin(size)
        while chunk := file.read(1024 * 1024):
            partial.write(chunk)
            watch.progress(partial.size)


@contextmanager
def open_local(url: str, folder: Path | None, where: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file of the recipe's folder, or with ``#name`` a member of a tar archive there; give its size.

    Raises RecipeError for what is not there or leads outside.
    """
    path = local_path(url, folder, where)
    name = unquote(urlsplit(url).fragment)
    if not name:
        with open(path, "rb", buffering=0) as file:
            yield file, os.fstat(file.fileno()).st_size
        return
    import tarfile

    try:
        with tarfile.open(path) as archive:
            member = _member(archive, name)
            body = archive.extractfile(member) if member is not None else None
            if member is None or body is None:
                raise RecipeError(f"{where}: {url}: the archive has no such file".lstrip(": "))
            yield body, member.size
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise RecipeError(f"{where}: {url}: no archive that can be read: {error}".lstrip(": ")) from None


def _member(archive: tarfile.TarFile, name: str) -> tarfile.TarInfo | None:
    """Find a file of an archive, links inside it followed, as ``docker load`` does."""
    for asked in (name, f"./{name}"):
        try:
            member = archive.getmember(asked)
        except KeyError:
            continue
        for _ in range(8):
            if member.isreg():
                return member
            target = member.linkname
            if member.issym():
                target = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), target))
            elif not member.islnk():
                return None
            try:
                member = archive.getmember(target)
            except KeyError:
                return None
    return None


def local_path(url: str, folder: Path | None, where: str) -> Path:
    """Give the regular file that a ``file:`` address names: below the recipe's folder, links followed.

    ``file:data/x.bin`` is relative to the folder. Raises RecipeError.
    """
    place = f"{where}: " if where else ""
    if folder is None:
        raise RecipeError(f"{place}{url}: only a recipe's own folder has files that can be fetched")
    parts = urlsplit(url)
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, unquote(parts.path)))
    if parts.netloc not in ("", "localhost") or not path.startswith(root + os.sep):
        raise RecipeError(
            f"{place}{url} leads outside the recipe's folder", "copy the file into the recipe's folder"
        )
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise RecipeError(f"{place}{url}: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise RecipeError(f"{place}{url} is no regular file")
    return Path(path)
