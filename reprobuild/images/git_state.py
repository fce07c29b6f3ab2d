"""What git writes down about a work tree and about a moment, without either.

``.git/index`` remembers times, inode and owner of each file; reflogs remember when a reference moved. Both
are found by name and form, wherever the repository lies. Knows git's formats (gitformat-index), runs no git,
and knows nothing of what is in objects and references: they have no time but their commits' own.
"""

from __future__ import annotations

import hashlib
import re

from reprobuild.derivation.git_index import extensions, parse

INDEX = "index"
LARGEST = 256 * 1024 * 1024
"""Bytes; what is larger stays as it is."""

_REFLOG_PATH = re.compile(r"(.*/)?logs/(HEAD|refs/.+)", re.DOTALL)
_REFLOG_LINE = re.compile(
    rb"((?:[0-9a-f]{40} ){2}|(?:[0-9a-f]{64} ){2})([^\n\t]*<[^\n\t>]*> )\d+ [+-]\d{4}(\t[^\n]*)?\n"
)
_CACHES = frozenset({b"UNTR", b"FSMN", b"EOIE", b"IEOT"})
"""Extensions that only save time: they hold what ``stat`` said, or where entries stand."""


def is_state(path: str) -> bool:
    """Tell whether a file may be an index or a reflog, by its name."""
    return path == INDEX or path.endswith("/" + INDEX) or _REFLOG_PATH.fullmatch(path) is not None


def normal_state(path: str, data: bytes, time: int) -> bytes:
    """Give what a file holds once it knows nothing of files on a disk, and ``time`` for every moment.

    What is neither an index nor a reflog is given back as it is. An index keeps names, modes, digests and
    flags; git finds that it knows no time of a file, and compares what is in it.
    """
    if _REFLOG_PATH.fullmatch(path):
        return _normal_reflog(data, time)
    return _normal_index(data)


def _normal_reflog(data: bytes, time: int) -> bytes:
    lines = data.splitlines(keepends=True)
    found = [_REFLOG_LINE.fullmatch(line) for line in lines]
    if not all(found):
        return data
    return b"".join(b"%s%s%d +0000%s\n" % (one[1], one[2], time, one[3] or b"") for one in found if one)


def _normal_index(data: bytes) -> bytes:
    for algorithm, width in (("sha1", 20), ("sha256", 32)):
        body, seal = data[:-width], data[-width:]
        is_sealed = any(seal)
        # Without a seal (index.skipHash) the width tells nothing: sha1 is what nearly all repositories have.
        if data[:4] != b"DIRC" or (is_sealed and hashlib.new(algorithm, body).digest() != seal):
            continue
        try:
            records, extensions_at = parse(data, width)
        except (ValueError, IndexError):
            continue
        kept = extensions(body[extensions_at:])
        if any(name == b"link" for name, _ in kept):
            return data  # The entries are in another file, whose name is its digest.
        made = bytearray(body[:extensions_at])
        for at, _, _ in records:
            made[at : at + 24] = bytes(24)  # ctime, mtime, device, inode
            made[at + 28 : at + 40] = bytes(12)  # uid, gid, size: 0 makes git compare
        made += b"".join(record for name, record in kept if name not in _CACHES)
        return bytes(made) + (hashlib.new(algorithm, made).digest() if is_sealed else seal)
    return data
