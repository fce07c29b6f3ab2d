"""File-valued fields: paths of the host on the way in, names by digest for keys and predictors.

Knows nothing of how records are read or run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reprobuild.digest import Digest
from reprobuild.errors import InputError
from reprobuild.predict.fields import Fields
from reprobuild.predict.in_folder import FILES

Json = Any

SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,16}")
"""The endings of names that predictors see."""


def _refused(where: int, reason: str) -> Exception:
    return InputError(f"item {where}: {reason}")


class StagedFiles:
    """The files that the records of one call name, each read once."""

    def __init__(
        self, fields: Fields, base: Path = Path(), refuse: Callable[[int, str], Exception] = _refused
    ) -> None:
        """``base``: the folder that relative paths start from; see ``within`` for more than one."""
        self._fields = fields.files
        self.rewrite = self.within(base, refuse)
        """Gives a record whose file fields hold the paths that the predictor sees.

        The second argument is its line or index, for errors."""
        self._names: dict[Path, str] = {}
        self._sources: dict[str, Path] = {}

    def within(self, base: Path, refuse: Callable[[int, str], Exception]) -> Callable[[Json, int], Json]:
        """Give what ``rewrite`` is, for records whose paths start from another folder."""

        def rewrite(record: Json, where: int) -> Json:
            names = {name: self._name(base, record[name], name, where, refuse) for name in self._fields}
            return {**record, **{field: f"{FILES}/{name}" for field, name in names.items()}}

        return rewrite

    def needed(self, record: Mapping[str, Json]) -> dict[str, Path]:
        """Give the files of a rewritten record: name below ``/in/files`` → path on the host."""
        names = (record[field].rpartition("/")[2] for field in self._fields)
        return {name: self._sources[name] for name in names}

    def _name(
        self, base: Path, text: str, field: str, where: int, refuse: Callable[[int, str], Exception]
    ) -> str:
        path = base / text
        if path in self._names:
            return self._names[path]
        try:
            if not text or not path.is_file():
                reason = _fault(path) if text else "is no path"
                raise refuse(where, f"the field {field} names {ascii(text)[:200]}, which {reason}")
            with open(path, "rb", buffering=0) as file:
                digest, _ = Digest.of_file(file)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise refuse(where, f"the field {field} names {ascii(text)[:200]}: {reason}") from None
        suffix = os.path.splitext(path.name)[1]
        name = digest.hex + (suffix if SUFFIX.fullmatch(suffix) else "")
        self._names[path] = name
        self._sources[name] = path
        return name


def _fault(path: Path) -> str:
    if path.is_dir():
        return "is a folder"
    return "is no plain file" if os.path.exists(path) else "does not exist"
