"""What is in a recipe's folder, as two digests: all that evaluation can read, and the lock.

Knows nothing of what the files mean. Light on purpose: a ``realize`` with nothing to do comes by
here, so no import but what Python has loaded anyway.
"""

from __future__ import annotations

import hashlib
import os

from reprobuild.digest import BUFFER_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_FILE = "recipe.lock"
RECORDED = "recorded"
LEFT_OUT = (".git", ".hg", ".svn", "__pycache__", ".DS_Store", ".mypy_cache", ".pytest_cache", ".ruff_cache")
"""Names that are never part of a recipe, files or folders."""
EDITORS_PREFIXES = (".#", "#")
EDITORS_SUFFIXES = ("~", ".swp", ".swo", ".pyc", ".pyo")


def is_left_out(name: str) -> bool:
    """Tell whether a file or folder is no part of a recipe: version control, caches, editors' files."""
    return name in LEFT_OUT or name.startswith(EDITORS_PREFIXES) or name.endswith(EDITORS_SUFFIXES)


def folder_digests(folder: str) -> tuple[str, str]:
    """Give 64 hex digits each for a recipe's content and for its lock with what it recorded.

    A file counts by path, executable bit and bytes, a link by its target; times, owners and other
    bits of the mode do not. Raises OSError where something cannot be read.
    """
    content, lock = hashlib.sha256(), hashlib.sha256()
    for path, entry in _walk(folder, ""):
        hasher = lock if path == LOCK_FILE or path.partition("/")[0] == RECORDED else content
        name = os.fsencode(path)
        if entry.is_symlink():
            hasher.update(b"l %d %s %s\n" % (len(name), name, os.fsencode(os.readlink(entry.path))))
        elif entry.is_dir():
            hasher.update(b"d %d %s\n" % (len(name), name))
        elif entry.is_file():
            mode = entry.stat(follow_symlinks=False).st_mode & 0o100
            hasher.update(b"f %d %s %o %s\n" % (len(name), name, mode, _digest(entry.path)))
        else:
            hasher.update(b"o %d %s\n" % (len(name), name))
    return content.hexdigest(), lock.hexdigest()


def _walk(folder: str, below: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as found:
        entries = {entry.name: entry for entry in found}
    for _, entry in sorted(entries.items()):
        if is_left_out(entry.name):
            continue
        path = below + entry.name
        yield path, entry
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, path + "/")


def _digest(path: str) -> bytes:
    hasher = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(BUFFER_SIZE):
            hasher.update(chunk)
    return hasher.digest()
