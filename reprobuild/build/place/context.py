"""What a Dockerfile's ``COPY``, or a mount, takes of the recipe's folder: entries by their path in it.

Knows nothing of where they go. As with ``files``, umask, times and owners of the folder do not count, and
folders without a file are not there unless they are named.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reprobuild.derivation.dockerfile.patterns import GLOB, Ignored, glob
from reprobuild.derivation.folder import LOCK_FILE, RECORDED, is_left_out
from reprobuild.derivation.git_index import executables
from reprobuild.derivation.steps import Run
from reprobuild.derivation.written import Copy
from reprobuild.digest import Digest
from reprobuild.errors import RecipeError
from reprobuild.store.transaction import Transaction
from reprobuild.tree import MOST_LINKS, Entry, directory, file, link


def context_entries(step: Copy | Run, folder: Path, sources: Sequence[str]) -> tuple[Entry, ...]:
    """Give what sources of a context come to, sorted by path, with the folders that they are in.

    ``sources``: paths and globs; links in them are followed inside the context, and are there too. Bodies
    are read, and stay where they are. Raises RecipeError for a source that is not there.
    """
    return _Context(step, folder).entries(sources)


def store_context(step: Copy | Run, folder: Path, entries: Sequence[Entry], group: Transaction) -> None:
    """Add the bodies of what ``context_entries`` gave to a group. Raises RecipeError for a changed file."""
    for entry in entries:
        if entry.kind != "f":
            continue
        path = folder / step.context / entry.path
        try:
            with path.open("rb", buffering=0) as body:
                digest, _ = group.add_stream(body)
        except OSError as error:
            raise RecipeError(f"{step.where}: {path}: {error.strerror}", "run the command again") from None
        if digest != entry.digest:
            raise RecipeError(
                f"{step.where}: {entry.path} changed while it was read", "run the command again"
            )


class _Context:
    """A folder as builds see it."""

    def __init__(self, step: Copy | Run, folder: Path) -> None:
        self._step = step
        self._root = folder / step.context
        self._ignored = Ignored(step.ignore)
        self._executable: Mapping[str, bool] = executables(folder)
        self._found: dict[str, Entry] = {}
        if not self._root.is_dir():
            raise RecipeError(f"{step.where}: {step.title}: there is no folder {self._root}")

    def entries(self, sources: Sequence[str]) -> tuple[Entry, ...]:
        for source in sources:
            for path in self._matches(source):
                self._add(self._real(path, source))
        for path in list(self._found):
            for above in _above(path):
                self._found.setdefault(above, directory(above))
        return tuple(sorted(self._found.values()))

    def _matches(self, source: str) -> list[str]:
        if source in (".", "./"):
            return [""]
        pattern = source.strip("/")
        if not GLOB.search(pattern):
            return [pattern]
        found = [""]
        for part in pattern.split("/"):
            folders = [(path, self._real(path, source)) for path in found]
            inside = [
                (path, name)
                for path, real in folders
                if (self._root / real).is_dir()
                for name in self._names(real)
                if glob(part).fullmatch(name)
            ]
            found = [f"{path}/{name}".lstrip("/") for path, name in inside]
        return [path for path in found if self._has(path)]

    def _has(self, path: str) -> bool:
        """Tell whether a match counts: what is left out does not, unless something in it is brought back."""
        if not self._ignored(path):
            return True
        real = self._root / path
        return self._ignored.brings_back and real.is_dir() and any(self._below(path))

    def _names(self, path: str) -> list[str]:
        """Give what is in a folder, but for what is no part of a recipe."""
        top = not self._step.context and not path
        found = []
        for name in sorted(os.listdir(self._root / path)):
            try:
                name.encode()
            except UnicodeEncodeError:
                raise RecipeError(
                    f"{self._step.where}: the name {name!r}, in /{path}, is not UTF-8", "rename the file"
                ) from None
            if not is_left_out(name) and not (top and name in (LOCK_FILE, RECORDED)):
                found.append(name)
        return found

    def _real(self, path: str, source: str) -> str:
        """Follow the links in a path, inside the context; they count as found."""
        todo = path.split("/")[::-1] if path else []
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                done = done[:-1]
                continue
            here = "/".join([*done, part])
            if part not in self._names_or_nothing("/".join(done)):
                raise self._missing(source, here)
            if not (self._root / here).is_symlink():
                done.append(part)
                continue
            links += 1
            if links > MOST_LINKS:
                raise RecipeError(f"{self._step.where}: {self._step.title}: {source} is a loop of links")
            target = os.readlink(self._root / here)
            if not self._ignored(here):
                self._found[here] = link(here, target)
            if target.startswith("/"):
                done = []
            todo += target.split("/")[::-1]
        return "/".join(done)

    def _names_or_nothing(self, path: str) -> list[str]:
        return self._names(path) if (self._root / path).is_dir() else []

    def _missing(self, source: str, path: str) -> RecipeError:
        return RecipeError(
            f"{self._step.where}: {self._step.title}: there is no {path} in the context",
            f"the context is {self._root}; paths are relative to it",
        )

    def _add(self, path: str) -> None:
        if path and self._ignored(path) and not (self._ignored.brings_back and any(self._below(path))):
            raise RecipeError(
                f"{self._step.where}: {self._step.title}: .dockerignore leaves /{path} out",
                f"bring it back there: !{path}",
            )
        if not (self._root / path).is_dir():
            self._found[path] = self._entry(path)
            return
        if path:
            self._found.setdefault(path, directory(path))
        self._found |= {below: self._entry(below) for below in self._below(path)}

    def _below(self, path: str) -> Iterator[str]:
        """Give the files and links below a folder that are not left out."""
        for name in self._names(path):
            here = f"{path}/{name}".lstrip("/")
            full = self._root / here
            if full.is_dir() and not full.is_symlink():
                if self._ignored.brings_back or not self._ignored(here):
                    yield from self._below(here)
            elif not self._ignored(here):
                yield here

    def _entry(self, path: str) -> Entry:
        full = self._root / path
        found = full.lstat()
        if stat.S_ISLNK(found.st_mode):
            return link(path, os.readlink(full))
        if not stat.S_ISREG(found.st_mode):
            raise RecipeError(
                f"{self._step.where}: /{path} of the context is neither file, folder nor link",
                "leave it out by .dockerignore",
            )
        with full.open("rb", buffering=0) as body:
            digest, size = Digest.of_file(body)
        name = "/".join(filter(None, (self._step.context, path)))
        return file(path, digest, size, 0o755 if self._executable.get(name, found.st_mode & 0o100) else 0o644)


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path
