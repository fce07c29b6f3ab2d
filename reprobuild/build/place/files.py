"""The recipe's own files: digested when read, placed as they are.

Knows nothing of locks: files are in none. What comes out depends on names, contents and executable
bits (git's where git knows the file), not on umask, owner, times, or folders that hold nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from reprobuild import tree
from reprobuild.build.place.placement import Placement
from reprobuild.errors import RecipeError
from reprobuild.recipe.folder import is_left_out
from reprobuild.recipe.git_index import executables
from reprobuild.recipe.steps import Files
from reprobuild.tree import Entry

if TYPE_CHECKING:
    from reprobuild.store.transaction import Transaction

INSIDE = "copy it into the recipe's folder"


def digest_files(step: Files, recipe_folder: Path, group: Transaction) -> Placement:
    """Read what a ``files`` step names into the store; give what it places.

    Raises RecipeError, naming the file, for what is not there, leads outside the recipe's folder, or
    is neither file, folder nor link.
    """
    return _Reader(step, recipe_folder, group).place()


class _Reader:
    """Reads one step's files."""

    def __init__(self, step: Files, recipe_folder: Path, group: Transaction) -> None:
        self._step = step
        self._folder = Path(os.path.realpath(recipe_folder))
        self._group = group
        self._executables = executables(self._folder)
        self._source = self._folder

    def place(self) -> Placement:
        """Give the step's entries."""
        step = self._step
        named = step.source.strip("/") or "."
        self._source = path = self._inside(self._folder / named, named)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            raise RecipeError(
                f"{step.where}: files({step.source!r}): there is no such file in {self._folder}",
                "paths are relative to the recipe's folder",
            ) from None
        to = step.to.strip("/")
        if stat.S_ISDIR(mode):
            entries = sorted(self._directory(path, to))
            above = {entry.path.rpartition("/")[0] for entry in entries} | ({to} if to else set())
            folders = {parent for path in above for parent in _parents(path, to)}
            made = [tree.directory(path, uid=step.uid, gid=step.gid) for path in folders if path]
            return Placement(tuple(sorted([*made, *entries])))
        target = f"{to}/{named.rpartition('/')[2]}".lstrip("/") if step.to.endswith("/") else to
        if not target:
            raise RecipeError(f"{step.where}: files({step.source!r}) cannot replace the root folder")
        return Placement((self._file(path, target),))

    def _directory(self, folder: Path, to: str) -> Iterator[Entry]:
        with os.scandir(folder) as listing:
            names = sorted(entry.name for entry in listing if not is_left_out(os.fsencode(entry.name)))
        for name in names:
            path = folder / name
            target = f"{to}/{name}" if to else name
            mode = os.lstat(path).st_mode
            if stat.S_ISDIR(mode):
                yield from self._directory(path, target)
            elif stat.S_ISLNK(mode):
                yield self._link(path, target)
            else:
                yield self._file(path, target)

    def _link(self, path: Path, to: str) -> Entry:
        """Keep a link that stays among what is placed; follow one to elsewhere in the recipe's folder."""
        shown = self._shown(path)
        end = self._inside(path, shown)
        target = os.readlink(path)
        if not os.path.isabs(target) and (end == self._source or self._source in end.parents):
            return tree.link(to, target, self._step.uid, self._step.gid)
        if not end.is_file():
            raise RecipeError(
                f"{self._step.where}: {shown} is a link to {target}, "
                f"which files({self._step.source!r}) does not place"
            )
        return self._file(end, to)

    def _file(self, path: Path, to: str) -> Entry:
        step = self._step
        shown = self._shown(path)
        try:
            to.encode()
        except UnicodeEncodeError:
            raise RecipeError(f"{step.where}: the name {shown!r} is not UTF-8", "rename the file") from None
        try:
            if not stat.S_ISREG(os.lstat(path).st_mode):
                raise RecipeError(f"{step.where}: {shown} is neither a file, a folder nor a link")
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise RecipeError(f"{step.where}: {shown}: {error.strerror}") from None
        with open(descriptor, "rb", buffering=0) as file:
            own = os.fstat(descriptor).st_mode & 0o100 != 0
            digest, size = self._group.add_stream(file)
        mode = step.mode
        if mode is None:
            mode = 0o755 if self._executables.get(shown, own) else 0o644
        return tree.file(to, digest, size, mode, step.uid, step.gid)

    def _inside(self, path: Path, shown: str) -> Path:
        """Give where a path leads; raises RecipeError if that is outside the recipe's folder."""
        end = Path(os.path.realpath(path))
        if end != self._folder and self._folder not in end.parents:
            raise RecipeError(f"{self._step.where}: {shown} leads outside the recipe's folder", INSIDE)
        return end

    def _shown(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def _parents(path: str, top: str) -> Iterator[str]:
    """Give a path and those above it, down to ``top``."""
    while path and path != top:
        yield path
        path = path.rpartition("/")[0]
    if path:
        yield path
