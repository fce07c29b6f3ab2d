"""Files that stand in a column as bytes (images, sounds), written down while a call lasts.

As datasets keep them: ``{"bytes": …, "path": …}``, where the path says what the file was called; bytes alone
have no name. Knows nothing of columns and predictors.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from typing import Any

from reprobuild.predict.staging import SUFFIX

Json = Any


class EmbeddedFiles:
    """The files of one call, each once, in a folder of their own that ``close`` removes."""

    def __init__(self, folder: str | None) -> None:
        """``folder``: where theirs is made, if need be; None: where the system keeps such."""
        self._parent = folder
        self._folder = ""

    def path(self, value: Json) -> Json:
        """Give the path of what a value holds the bytes of; other values as they are. Raises OSError."""
        name = ""
        if isinstance(value, dict) and value.keys() == {"bytes", "path"}:
            name, value = value["path"] or "", value["bytes"]
            if value is None:
                return name or None
        if not isinstance(value, bytes):
            return value
        if not self._folder:
            self._folder = tempfile.mkdtemp(prefix="embedded-", dir=self._parent)
        suffix = os.path.splitext(name)[1]
        suffix = suffix if SUFFIX.fullmatch(suffix) else ""
        path = os.path.join(self._folder, hashlib.sha256(value).hexdigest() + suffix)
        if not os.path.exists(path):
            with open(path, "wb") as file:
                file.write(value)
        return path

    def close(self) -> None:
        """Remove the files."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""
