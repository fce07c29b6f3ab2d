"""The folder of the host that a predictor's command sees as ``/in``.

All in it belongs to the uid that is 0 inside, and is of one normal time. Knows nothing of how it comes there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from reprobuild.derivation.predictors import Predictor
from reprobuild.errors import InputError
from reprobuild.predict.spool import Spool
from reprobuild.tree import NORMAL_TIME

INSIDE = "/in"
INPUT = f"{INSIDE}/input.jsonl"
FILES = f"{INSIDE}/files"


def takes_files(predictor: Predictor) -> bool:
    """Tell whether records of a predictor name files."""
    return "file" in predictor.inputs.values()


class InFolder:
    """Such a folder, to which things are added; a file of the caller's is there at once, and whole."""

    def __init__(self, scratch: Path, *, has_files: bool) -> None:
        """Make it in a private folder of the uid that is 0 inside; ``has_files``: with one for files."""
        self.path = scratch / "in"
        self._scratch = scratch
        self._owner = scratch.stat().st_uid
        self._names: set[str] = set()
        self.path.mkdir()
        if has_files:
            (self.path / "files").mkdir()
            self._settle(self.path / "files", 0o755)
        self._settle(self.path, 0o755)

    def add_records(self, records: Spool) -> None:
        """Add the records of a batch, read from the start."""
        made = self.path / "input.jsonl"
        with open(made, "xb") as file:
            records.seek(0)
            while block := records.read(1 << 20):
                file.write(block)
        self._settle(made, 0o644)
        self._settle(self.path, 0o755)

    def has(self, files: Mapping[str, Path]) -> bool:
        """Tell whether all of these files are there."""
        return files.keys() <= self._names

    def add_files(self, files: Mapping[str, Path]) -> list[str]:
        """Copy those of the caller's files that are not there; give their names.

        ``files``: name → file that had the digest which the name begins with. Raises InputError for one that
        has it no more.
        """
        new = [name for name in files if name not in self._names]
        folder = self.path / "files"
        for name in new:
            draft = self._scratch / name
            _copy_checked(files[name], draft, name[:64])
            self._settle(draft, 0o644)
            draft.rename(folder / name)
            self._names.add(name)
        if new:
            self._settle(folder, 0o755)
        return new

    def _settle(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        if self._owner != os.geteuid():
            os.chown(path, self._owner, self._owner)
        os.utime(path, (NORMAL_TIME, NORMAL_TIME))


def _copy_checked(source: Path, copy: Path, expected: str) -> None:
    import shutil

    from reprobuild.digest import Digest

    try:
        shutil.copyfile(source, copy)
        with open(copy, "rb", buffering=0) as file:
            digest, _ = Digest.of_file(file)
    except OSError as error:
        raise InputError(f"{source} can't be read: {error.strerror}") from None
    if digest.hex != expected:
        raise InputError(f"{source} changed while its prediction was prepared", "run predict again")
