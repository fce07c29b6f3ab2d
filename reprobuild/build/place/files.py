"""Place the recipe's own files: digested when read, never in the lock.

Knows nothing of trees below. The umask, times and owners of the recipe's folder do not count.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reprobuild.derivation.folder import LOCK_FILE, RECORDED, is_left_out
from reprobuild.derivation.git_index import executables
from reprobuild.derivation.steps import Files
from reprobuild.digest import Digest
from reprobuild.errors import RecipeError
from reprobuild.store.transaction import Transaction
from reprobuild.tree import Entry, directory, file, link


def digest_files(step: Files, folder: Path) -> tuple[Entry, ...]:
    """Give what a ``files`` step places, sorted by path; bodies are read, and stay where they are.

    Raises RecipeError for a source that is not there, leads outside the recipe's folder, or is
    neither file, folder nor link.
    """
    source = _source(step, folder)
    executable = executables(folder)
    entries: list[Entry] = []
    folders: set[str] = set()
    for path, found in _walk(step, source, folder):
        to = _target(step, source, found)
        if found.is_symlink():
            entries.append(link(to, os.readlink(found), step.uid, step.gid))
        elif found.is_dir():
            folders.add(to)
        else:
            with found.open("rb", buffering=0) as body:
                digest, size = Digest.of_file(body)
            entries.append(file(to, digest, size, _mode(step, path, found, executable), step.uid, step.gid))
    # git does not keep empty folders, so a clone does not have them: they do not count here either.
    used = {above for entry in entries for above in _above(entry.path)}
    entries.extend(directory(path, 0o755, step.uid, step.gid) for path in folders & used)
    return tuple(sorted(entries))


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def store_files(step: Files, folder: Path, entries: Sequence[Entry], group: Transaction) -> None:
    """Add the bodies of what ``digest_files`` gave to a group.

    Raises RecipeError for a file that has changed meanwhile.
    """
    wanted = {entry.path: entry.digest for entry in entries if entry.kind == "f"}
    source = _source(step, folder)
    for path, found in _walk(step, source, folder):
        if found.is_symlink() or found.is_dir():
            continue
        with found.open("rb", buffering=0) as body:
            digest, _ = group.add_stream(body)
        if digest != wanted.pop(_target(step, source, found), None):
            raise RecipeError(f"{step.where}: {path} changed while it was read", "run the command again")
    if wanted:
        raise RecipeError(
            f"{step.where}: what becomes /{min(wanted)} went while it was read", "run the command again"
        )


def _source(step: Files, folder: Path) -> Path:
    source = folder / step.source
    if not source.exists():
        raise RecipeError(f"{step.where}: files({step.source!r}): there is no {source}", "check the path")
    if not source.resolve().is_relative_to(folder.resolve()):
        raise RecipeError(
            f"{step.where}: files({step.source!r}) leads outside the recipe's folder, to {source.resolve()}",
            "copy the files into the recipe's folder",
        )
    return source


def _target(step: Files, source: Path, found: Path) -> str:
    """Give where something goes: a folder's contents into ``to``, a file to ``to`` or into it."""
    to = step.to.strip("/")
    if found == source:
        if source.is_dir():
            return to
        return "/".join(filter(None, (to, source.name))) if step.to.endswith("/") else to
    return "/".join(filter(None, (to, *found.relative_to(source).parts)))


def _walk(step: Files, source: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Give what is to be placed with its path in the recipe's folder, folders before their contents."""
    found = source.lstat().st_mode
    path = source.relative_to(folder).as_posix()
    if stat.S_ISLNK(found) and source != folder / step.source:
        _check_link(step, source, folder)
    elif not (stat.S_ISREG(found) or stat.S_ISDIR(found) or stat.S_ISLNK(found)):
        raise RecipeError(f"{step.where}: {path} is neither file, folder nor link", "leave it out")
    yield path, source
    if source.is_dir() and (not source.is_symlink() or source == folder / step.source):
        for name in sorted(os.listdir(source)):
            if not name.isprintable() and not _is_utf8(name):
                raise RecipeError(
                    f"{step.where}: the name {name!r}, in {path}, is not UTF-8", "rename the file"
                )
            if not is_left_out(name) and not (source == folder and name in (LOCK_FILE, RECORDED)):
                yield from _walk(step, source / name, folder)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_link(step: Files, path: Path, folder: Path) -> None:
    """Links stay links; where they lead on this machine, outside the recipe, they would not work."""
    target = os.readlink(path)
    if os.path.isabs(target):
        return  # it means a path of the image
    if not (path.parent / target).resolve().is_relative_to(folder.resolve()):
        shown = path.relative_to(folder).as_posix()
        raise RecipeError(
            f"{step.where}: {shown} is a link that leads outside the recipe's folder, to {target}",
            "copy what it leads to, or make it absolute if it means a path of the image",
        )


def _mode(step: Files, path: str, found: Path, executable: Mapping[str, bool]) -> int:
    if step.mode is not None:
        return step.mode
    own = bool(found.stat().st_mode & 0o100)
    return 0o755 if executable.get(path, own) else 0o644
