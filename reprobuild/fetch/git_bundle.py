"""A bundle (``git bundle create``) of the recipe's own folder: objects in one file, read as data.

Format: https://git-scm.com/docs/gitformat-bundle. A whole repository in a stranger's folder would be one
whose settings git obeys; a bundle has none. Knows nothing of what is in it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from reprobuild.errors import UpstreamError
from reprobuild.fetch.local import local_path

if TYPE_CHECKING:
    from reprobuild.fetch.git_program import Git

SIGNATURES = (b"# v2 git bundle\n", b"# v3 git bundle\n")


def read_bundle(git: Git, url: str, folder: Path | None, where: str) -> None:
    """Bring the objects of a bundle into a repository.

    Raises RecipeError for a path that leads outside the recipe's folder, UpstreamError for what is no bundle.
    """
    with open(local_path(url, folder, where), "rb") as file:
        hint = "git bundle create repository.bundle --all makes one"
        if file.readline(64) not in SIGNATURES:
            raise UpstreamError(f"{url} is no bundle of git", hint)
        while (line := file.readline(65536)) != b"\n":
            if not line:
                raise UpstreamError(f"{url} is cut off", hint)
            if line.startswith(b"-"):
                raise UpstreamError(f"{url} needs commits that it does not have", hint)
        os.lseek(file.fileno(), file.tell(), os.SEEK_SET)
        git.run("index-pack", "--stdin", "--strict", stdin=file)
