"""Python byte code files: whose they are, and what time of the source they remember.

Knows the headers of all versions since 2.7 (importlib._bootstrap_external, PEP 3147, PEP 488, PEP 552),
nothing of what follows them, nor of how anything is compiled.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from reprobuild.tree import Entry, Tree

SUFFIXES = (".pyc", ".pyo")
CACHE = "__pycache__"

LONGEST_HEADER = 16
"""Bytes that ``parse_header`` needs to see."""

_OLDEST_PYTHON_3 = 3000
_NEWEST_PYTHON_3 = 5000
_WITH_SIZE = 3210
"""Python 3.3: the source's size follows its time."""
_WITH_FLAGS = 3392
"""Python 3.7: flags come before both (PEP 552)."""
_PYTHON_2 = range(50000, 63000)


class Header(NamedTuple):
    """What a byte code file says about its source."""

    time: int | None
    """The source's mtime modulo 2**32; None if it is known by its hash instead (PEP 552)."""
    size: int | None
    """The source's size in bytes modulo 2**32; None where the version does not keep it."""
    time_at: int
    """Where in the file the time stands."""


def parse_header(data: bytes) -> Header | None:
    """Read the beginning of a byte code file; None for what is none."""
    if len(data) < 8 or data[2:4] != b"\r\n":
        return None
    (magic,) = struct.unpack_from("<H", data)
    if magic in _PYTHON_2 or _OLDEST_PYTHON_3 <= magic < _WITH_SIZE:
        return Header(struct.unpack_from("<I", data, 4)[0], None, 4)
    if not _OLDEST_PYTHON_3 <= magic < _NEWEST_PYTHON_3:
        return None
    if magic < _WITH_FLAGS:
        if len(data) < 12:
            return None
        time, size = struct.unpack_from("<II", data, 4)
        return Header(time, size, 4)
    if len(data) < 16:
        return None
    flags, time, size = struct.unpack_from("<III", data, 4)
    if flags == 0:
        return Header(time, size, 8)
    return Header(None, None, 8) if flags in (0b01, 0b11) else None


def with_time(data: bytes, header: Header, time: int) -> bytes:
    """Give a byte code file with another time of its source."""
    return data[: header.time_at] + struct.pack("<I", time & 0xFFFFFFFF) + data[header.time_at + 4 :]


def source_of(path: str) -> str | None:
    """Give the path of the source that a byte code file's name stands for; None for other names.

    ``a/__pycache__/b.cpython-311.opt-1.pyc`` and ``a/b.pyc`` both stand for ``a/b.py``.
    """
    if not path.endswith(SUFFIXES):
        return None
    folder, slash, name = path.rpartition("/")
    stem = name[:-4]
    if is_in_cache(path):
        stem, dot, last = stem.rpartition(".")
        if last.startswith("opt-"):
            stem, dot, last = stem.rpartition(".")
        folder, slash, _ = folder.rpartition("/")
        if not dot:
            return None
    return f"{folder}{slash}{stem}.py" if stem else None


def is_in_cache(path: str) -> bool:
    """Tell whether a file lies in a ``__pycache__`` folder, where nothing is found without its source."""
    folder = path.rpartition("/")[0]
    return folder == CACHE or folder.endswith("/" + CACHE)


def without_stale(lower: Tree, upper: Tree) -> Tree:
    """Give ``upper`` without byte code of ``lower`` whose source is another file now.

    For what was placed onto a tree: all times are equal there, so that Python would take old byte code
    for a new source of the same size.
    """
    stale: set[str] = set()
    for entry in upper:
        if entry.path.endswith(".py") and not _is_same(lower.get(entry.path), entry):
            known = _byte_code_of(lower, entry.path)
            stale.update(path for path in known if lower.get(path) == upper.get(path))
    return Tree(entry for entry in upper if entry.path not in stale) if stale else upper


def _is_same(before: Entry | None, now: Entry) -> bool:
    return before is now or (before is not None and before.digest == now.digest)


def _byte_code_of(tree: Tree, source: str) -> Iterator[str]:
    """Give the paths of a tree whose names stand for a source."""
    for suffix in SUFFIXES:
        if (beside := source.removesuffix(".py") + suffix) in tree:
            yield beside
    folder, slash, _ = source.rpartition("/")
    cache = f"{folder}{slash}{CACHE}"
    if cache in tree:
        yield from (entry.path for entry in tree.below(cache) if source_of(entry.path) == source)
