"""``file:`` addresses: files of a recipe's own folder, and of nowhere else.

Knows nothing of recipes but where their folder is.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from reprobuild.errors import RecipeError

if TYPE_CHECKING:
    from reprobuild.fetch.download import Download
    from reprobuild.fetch.partial import Partial
    from reprobuild.fetch.transfer import Watch


def copy_local(url: str, download: Download, partial: Partial, watch: Watch) -> None:
    """Read a file of the recipe's folder. Raises RecipeError for what is not there or leads outside."""
    path = local_path(url, download.folder, download.where)
    partial.restart()
    with open(path, "rb", buffering=0) as file:
        watch.begin(os.fstat(file.fileno()).st_size)
        while chunk := file.read(1024 * 1024):
            partial.write(chunk)
            watch.progress(partial.size)


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
