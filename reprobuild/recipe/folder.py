"""A recipe's folder as digests: what evaluation and ``files`` can read, and the lock.

Knows nothing of recipes. Light on purpose (no import but what Python needs anyway): every ``realize``
begins here. Times, owners and all of the mode but the executable bit are left out.
"""

from __future__ import annotations

import hashlib
import os
import stat

from reprobuild.digest import BUFFER_SIZE, Digest
from reprobuild.errors import RecipeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_FILE = b"recipe.lock"
LEFT_OUT = frozenset({b".git", b"__pycache__", b".DS_Store"})
"""Names that are never a recipe's own."""


def is_left_out(name: bytes) -> bool:
    """Tell whether a file or folder of that name is git's, Python's, an editor's or the desktop's."""
    return (
        name in LEFT_OUT
        or name.endswith((b"~", b".swp", b".swo"))
        or name.startswith(b".#")
        or (name.startswith(b"#") and name.endswith(b"#"))
    )


def recipe_folder_digest(folder: str | os.PathLike[str]) -> tuple[Digest, Digest | None]:
    """Give the digest of all that a recipe's folder holds but its lock, and that of the lock (None: no lock).

    In the first: path, kind, executable bit and content of every file, the target of every link; not
    what ``is_left_out``. Raises RecipeError for a folder that cannot be read.
    """
    root = os.fsencode(folder)
    hasher = hashlib.sha256(b"recipe folder 1\n")
    lock = None
    buffer = memoryview(bytearray(BUFFER_SIZE))
    try:
        for path, entry in _walk(root, b""):
            if path == LOCK_FILE and entry.is_file():
                lock = Digest(_body(entry.path, buffer).hex())
                continue
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISREG(mode):
                kind = b"x" if mode & 0o100 else b"f"
                content = _body(entry.path, buffer)
            elif stat.S_ISLNK(mode):
                kind, content = b"l", hashlib.sha256(os.readlink(entry.path)).digest()
            else:
                kind, content = (b"d" if stat.S_ISDIR(mode) else b"?"), b""
            hasher.update(b"%s%d:%s%s" % (kind, len(path), path, content))
    except OSError as error:
        raise RecipeError(f"{os.fsdecode(error.filename or root)}: {error.strerror}") from None
    return Digest(hasher.hexdigest()), lock


def _walk(folder: bytes, below: bytes) -> Iterator[tuple[bytes, os.DirEntry[bytes]]]:
    """Give everything in a folder by its path below it, sorted within each folder; no link is followed."""
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        if is_left_out(entry.name):
            continue
        path = below + entry.name
        yield path, entry
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, path + b"/")


def _body(path: bytes, buffer: memoryview) -> bytes:
    """Give the sha256 of a file's content."""
    hasher = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while count := os.readv(descriptor, [buffer]):
            hasher.update(buffer[:count])
    finally:
        os.close(descriptor)
    return hasher.digest()
