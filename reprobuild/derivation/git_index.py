"""Which files are executable, as git has it: for file systems that do not hold the bit.

Reads the index of the work tree around a folder (git's Documentation/gitformat-index.txt, versions 2
to 4); runs no git, so that neither a stranger's git configuration nor who owns the folder matters. Knows
nothing of commits: a file counts as soon as it is added.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_SHA256 = re.compile(r"^\s*objectformat\s*=\s*sha256\s*$", re.IGNORECASE | re.MULTILINE)
_EXTENDED = 0x4000
_NAME_LENGTH = 0xFFF


def executables(folder: Path) -> dict[str, bool]:
    """Give, for each file below a folder that git knows, by its path below it, whether it is executable.

    Empty where there is no git work tree, or an index in a form that is not read here.
    """
    top, git = _find(folder.resolve())
    if top is None or git is None:
        return {}
    prefix = folder.resolve().relative_to(top).as_posix()
    start = b"" if prefix == "." else os.fsencode(prefix) + b"/"
    try:
        data = (git / "index").read_bytes()
        width = 32 if _has_sha256(git) else 20
        records, extensions_at = parse(data, width)
        if _is_split(data[extensions_at : len(data) - width]):
            return {}
        return {
            os.fsdecode(name[len(start) :]): mode & 0o111 != 0
            for _, name, mode in records
            if name.startswith(start) and mode >> 12 == 0o10
        }
    except (OSError, ValueError, IndexError):
        return {}


def _find(folder: Path) -> tuple[Path | None, Path | None]:
    """Give the top of the work tree around a folder, and where its index is."""
    for top in (folder, *folder.parents):
        git = top / ".git"
        if git.is_dir():
            return top, git
        if git.is_file():
            text = git.read_text(errors="replace").strip()
            return top, top / text.removeprefix("gitdir:").strip()
    return None, None


def _has_sha256(git: Path) -> bool:
    common = git / "commondir"
    home = git / common.read_text().strip() if common.is_file() else git
    config = home / "config"
    return config.is_file() and _SHA256.search(config.read_text(errors="replace")) is not None


def parse(data: bytes, width: int) -> tuple[list[tuple[int, bytes, int]], int]:
    """Give where each entry begins, its name and mode; and where the extensions begin.

    ``width``: bytes of a digest, 20 or 32. Raises ValueError or IndexError for what makes no sense.
    """
    if data[:4] != b"DIRC":
        raise ValueError("no index")
    version = int.from_bytes(data[4:8], "big")
    if version not in (2, 3, 4):
        raise ValueError("an index of another version")
    position = 12
    before = b""
    records = []
    for _ in range(int.from_bytes(data[8:12], "big")):
        start = position
        mode = int.from_bytes(data[start + 24 : start + 28], "big")
        flags_at = start + 40 + width
        flags = int.from_bytes(data[flags_at : flags_at + 2], "big")
        name_at = flags_at + (4 if flags & _EXTENDED and version >= 3 else 2)
        if version == 4:
            cut, name_at = _variable_number(data, name_at)
            end = data.index(b"\0", name_at)
            name = before[: len(before) - cut] + data[name_at:end]
            before, position = name, end + 1
        else:
            length = flags & _NAME_LENGTH
            end = data.index(b"\0", name_at + (length if length < _NAME_LENGTH else 0))
            name = data[name_at:end]
            position += (end - position) // 8 * 8 + 8
        records.append((start, name, mode))
    return records, position


def _variable_number(data: bytes, position: int) -> tuple[int, int]:
    """Read a number of varying length, as pack files write offsets; give it and where it ends."""
    byte = data[position]
    value = byte & 127
    while byte & 128:
        position += 1
        byte = data[position]
        value = (value + 1) << 7 | byte & 127
    return value, position + 1


def extensions(data: bytes) -> list[tuple[bytes, bytes]]:
    """Give name and whole record of each extension."""
    found = []
    position = 0
    while position + 8 <= len(data):
        end = position + 8 + int.from_bytes(data[position + 4 : position + 8], "big")
        found.append((data[position : position + 4], data[position:end]))
        position = end
    return found


def _is_split(data: bytes) -> bool:
    """Tell whether an extension is there without which the entries mean nothing (lower-case names)."""
    return any(name[:1].islower() for name, _ in extensions(data))
