"""Write a lock with the bodies that are kept beside it: small ones, and those that servers give only once.

Knows nothing of how exchanges were recorded. New bodies are there before the lock that needs them, and
those that nothing needs go after it: whoever reads meanwhile, or after a kill, finds what the lock says.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from reprobuild.derivation.folder import RECORDED
from reprobuild.derivation.lockfile import LOCK_FILE, Lock, write_lock
from reprobuild.derivation.recorded import exchanges_of, kept_beside
from reprobuild.digest import Digest
from reprobuild.errors import OutsideError
from reprobuild.store.store import Store

_NAME = re.compile(r"[0-9a-f]{64}")
_STAGED = f".#{RECORDED}."


@dataclass(frozen=True, slots=True)
class Written:
    """What had to be written, so that a recipe's folder has what its lock says."""

    lock: bool
    """False where the file said all of it already."""
    added: int = 0
    """Bodies beside the lock that were not there, or damaged."""
    removed: int = 0
    """Bodies that nothing needs any more."""


def write(folder: Path, lock: Lock, store: Store) -> Written:
    """Write ``recipe.lock`` and ``recorded/`` of a recipe, as far as they differ.

    Raises OutsideError where the folder cannot be written to.
    """
    path, text = folder / LOCK_FILE, write_lock(lock)
    # A name that is no part of a recipe, should we be killed.
    staged = folder / f"{_STAGED}{os.getpid()}"
    try:
        is_new = not path.is_file() or path.read_bytes() != text.encode()
        wanted = set(kept_beside(exchanges_of(lock.sources)))
        missing = sorted(
            digest for digest in wanted if store.blobs.has(digest) and not _is_there(folder, digest)
        )
        unused = [name for name in _names(folder) if Digest(name) not in wanted]
        if not (is_new or missing or unused):
            return Written(False)
        for left in folder.glob(f"{_STAGED}*"):
            shutil.rmtree(left)
        staged.mkdir()
        for digest in missing:
            with store.blobs.open(digest) as body, (staged / digest.hex).open("wb") as copy:
                shutil.copyfileobj(body, copy)
                copy.flush()
                os.fsync(copy.fileno())
        if is_new:
            with (staged / LOCK_FILE).open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        if missing:
            (folder / RECORDED).mkdir(exist_ok=True)
        for digest in missing:
            (staged / digest.hex).replace(folder / RECORDED / digest.hex)
        if is_new:
            (staged / LOCK_FILE).replace(path)
        for name in unused:
            (folder / RECORDED / name).unlink()
        if unused and not os.listdir(folder / RECORDED):
            (folder / RECORDED).rmdir()
        return Written(is_new, len(missing), len(unused))
    except OSError as error:
        raise OutsideError(
            f"{path} cannot be written: {error.strerror}",
            "copy the recipe into a project of your own, and lock it there",
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _names(folder: Path) -> list[str]:
    """Give the bodies that are there, by name; anything else in the folder is left alone."""
    try:
        return sorted(name for name in os.listdir(folder / RECORDED) if _NAME.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_there(folder: Path, digest: Digest) -> bool:
    try:
        with open(folder / RECORDED / digest.hex, "rb", buffering=0) as file:
            return Digest.of_file(file)[0] == digest
    except FileNotFoundError:
        return False
