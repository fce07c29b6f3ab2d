"""Reads from an overlay's upper folder what a command changed.

Everything inside has ended by then, so nothing moves under the reader; yet what is there was left by
a stranger: no link is followed, every step goes through the descriptor of an open folder. Linux:
``Documentation/filesystems/overlayfs.rst``, "whiteouts and opaque directories", and "User xattr".

Knows nothing of trees or of normal form: it says what is there.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Mapping
from io import FileIO
from pathlib import Path

from reprobuild.engine.folders import FOLDER, check_bounds, open_file, open_folder
from reprobuild.engine.protocol import Capture, RawChange, RawKind
from reprobuild.value import NOTHING

_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")
_CAPABILITY = "security.capability"


def capture_changes(
    upper: Path, capture: Capture, *, ours: Collection[str], shown: Mapping[str, bytes] = NOTHING
) -> None:
    """Give every change below an upper folder, parents before what is in them, names sorted.

    ours: paths of folders and files that the engine made for its mounts: left out where nothing came
    into them. shown: files that were on top of the tree: left out where they are as they were.
    Everything belongs to 0:0, since one uid is all that there is inside. Raises BuildFailedError for
    what is deeper, longer or larger than ``folders`` allows.
    """
    root = os.open(upper, FOLDER)
    try:
        _Walk(capture, frozenset(ours), shown).folder(root, "")
    finally:
        os.close(root)


class _Walk:
    def __init__(self, capture: Capture, ours: frozenset[str], shown: Mapping[str, bytes]) -> None:
        self.add = capture.add
        self.ours = ours
        self.shown = shown

    def folder(self, descriptor: int, path: str) -> None:
        prefix = path + "/" if path else ""
        for name in sorted(os.listdir(descriptor)):
            self.entry(descriptor, name, prefix + name)

    def entry(self, parent: int, name: str, path: str) -> None:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        check_bounds(path, found.st_size)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFDIR:
            descriptor = open_folder(parent, name)
            try:
                self.opened_folder(descriptor, path, found)
            finally:
                os.close(descriptor)
        elif kind == stat.S_IFREG:
            self.file(parent, name, path, found)
        elif kind == stat.S_IFLNK:
            self.add(self.change(path, "l", found, target=os.readlink(name, dir_fd=parent)), None)
        elif kind == stat.S_IFCHR and found.st_rdev == 0:
            self.add(RawChange(path, "gone"), None)
        else:
            self.add(self.change(path, "other", found), None)

    def opened_folder(self, descriptor: int, path: str, found: os.stat_result) -> None:
        if path in self.ours and not os.listdir(descriptor):
            return
        if _is_opaque(descriptor):
            self.add(RawChange(path, "opaque"), None)
        self.add(self.change(path, "d", found), None)
        self.folder(descriptor, path)

    def file(self, parent: int, name: str, path: str, found: os.stat_result) -> None:
        if path in self.ours and not found.st_size:
            return
        with FileIO(open_file(parent, name)) as body:
            content = self.shown.get(path)
            if content is not None and found.st_size == len(content):
                if body.read(len(content) + 1) == content:
                    return
                body.seek(0)
            capability = b""
            with contextlib.suppress(OSError):
                capability = os.getxattr(body.fileno(), _CAPABILITY)
            change = self.change(path, "f", found, size=found.st_size, capability=capability)
            self.add(change, body)

    def change(
        self,
        path: str,
        kind: RawKind,
        found: os.stat_result,
        *,
        size: int = 0,
        target: str = "",
        capability: bytes = b"",
    ) -> RawChange:
        return RawChange(
            path,
            kind,
            stat.S_IMODE(found.st_mode),
            0,
            0,
            int(found.st_mtime),
            size,
            target,
            capability,
        )


def _is_opaque(descriptor: int) -> bool:
    for name in _OPAQUE:
        with contextlib.suppress(OSError):
            if os.getxattr(descriptor, name) == b"y":
                return True
    return False
