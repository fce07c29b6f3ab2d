"""What can be told of the id of a file of Google Drive without asking for it.

Knows nothing of the network.
"""

from __future__ import annotations

import re

from reprobuild.derivation.where import Where
from reprobuild.errors import RecipeError


def check_drive_id(file_id: str, where: Where) -> None:
    """Raise RecipeError for what is no id of a file, saying what to write instead."""
    if re.search(r"/folders/", file_id):
        raise RecipeError(
            f"{where}: gdrive({file_id!r}): this is a folder; what is in it may change at any time",
            "name each of its files: gdrive(FILE_ID, to=…)",
        )
    if "/" in file_id or ":" in file_id:
        found = re.search(r"(?:/d/|[?&]id=)([\w-]{10,})", file_id)
        raise RecipeError(
            f"{where}: gdrive({file_id!r}): the file's id is needed, not its address",
            f"write gdrive({found[1]!r}, …)" if found else "it is the part between /d/ and /view",
        )
    if not re.fullmatch(r"[A-Za-z0-9_-]{10,128}", file_id):
        raise RecipeError(f"{where}: gdrive({file_id!r}): not the id of a file of Google Drive")
