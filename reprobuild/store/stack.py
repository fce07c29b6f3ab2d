"""Looks paths up in a stack of folders as an overlay joins them, without one: links stay inside.

A path is followed folder by folder, so no link of a tree leads to a file of the host. Knows nothing of
what is looked for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from reprobuild.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

MOST_LINKS = 40
"""Links that one path may lead through, as in Linux."""


class Found(Value):
    """Where a path of a stack leads."""

    path: str
    """Inside, with a leading slash, links resolved; what is not there stands as it was asked for."""
    mode: int | None
    """Of what is there, kind included; None: nothing."""
    outside: str
    """Where that lies on the host; ``""`` for nothing."""


def find(lowers: Sequence[Path], path: str) -> Found | None:
    """Follow a path from the root of a stack, topmost folder first.

    None for a loop of links, and for what would be below a file.
    """
    root = [str(lower) for lower in lowers]
    # The folders that we are in, each by its name and the folders of the host that make it up.
    above: list[tuple[str, list[str]]] = [("", root)]
    todo, links = path.split("/")[::-1], 0
    while todo:
        part = todo.pop()
        at, folders = above[-1]
        if part in ("", "."):
            continue
        if part == "..":
            del above[max(len(above) - 1, 1) :]
            continue
        here = f"{at}/{part}"
        mode, outside, joined = _look(folders, part)
        if mode is None:
            return Found("/".join([here, *_rest(todo)]), None, "")
        if stat.S_ISLNK(mode):
            links += 1
            if links > MOST_LINKS:
                return None
            target = os.readlink(outside)
            todo += target.split("/")[::-1]
            if target.startswith("/"):
                del above[1:]
        elif stat.S_ISDIR(mode):
            above.append((here, joined))
        elif _rest(todo):
            return None
        else:
            return Found(here, mode, outside)
    at, folders = above[-1]
    if not folders:
        return Found("/", stat.S_IFDIR | 0o755, "")
    return Found(at or "/", os.lstat(folders[0]).st_mode, folders[0])


def _rest(todo: list[str]) -> list[str]:
    return [part for part in todo[::-1] if part not in ("", ".")]


def _look(folders: Sequence[str], name: str) -> tuple[int | None, str, list[str]]:
    """Give mode and place of a name in folders that are joined; for a folder, all that make it up."""
    mode, outside = None, ""
    joined: list[str] = []
    for folder in folders:
        place = f"{folder}/{name}"
        try:
            found = os.lstat(place).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        if mode is None:
            mode, outside = found, place
        if not stat.S_ISDIR(found):
            break
        joined.append(place)
    return mode, outside, joined
