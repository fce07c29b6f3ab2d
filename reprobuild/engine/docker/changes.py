"""What a command changed, from the stream of everything that a container holds afterwards.

Each member is compared with the tree's record of it, its body too: daemons themselves compare sizes and
times alone, which miss a change that sets the old time again. Knows nothing of daemons.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import BinaryIO, cast

from reprobuild.digest import BUFFER_SIZE
from reprobuild.engine.folders import check_bounds
from reprobuild.engine.protocol import Capture, RawChange, RawKind
from reprobuild.images.archive import Member, Stream
from reprobuild.images.tar_reader import Body, read_tar
from reprobuild.tree import NORMAL_TIME, Entry
from reprobuild.value import NOTHING

HELD = 1 << 20
"""Bytes of a body that are kept while it is compared; of a larger one that differs, another copy is asked."""

OpenAgain = Callable[[str], AbstractContextManager[BinaryIO]]
"""Opens a file of the container by its path."""

OF_DAEMONS = (".dockerenv", "run/.containerenv", "etc/mtab")
"""Files that daemons make in every container."""
_MOUNTS = ("dev", "proc", "sys")


class Before:
    """What was in the container when the command began."""

    def __init__(
        self,
        entries: Mapping[str, Entry],
        ours: Collection[str],
        mounted: Collection[str],
        shown: Mapping[str, bytes] = NOTHING,
    ) -> None:
        """``entries``: the tree's, by path, with the files of fixed content on top of it.

        ``ours``: folders that are there for the engine's sake, left out where nothing came into them;
        ``mounted``: what stands in for mounts: left out with everything below, whatever the tree has there;
        ``shown``: files among the entries that no tree has: left out wherever their bytes are the same.
        """
        self.entries = entries
        self.shown = shown
        self.ours = frozenset(ours)
        self._hidden = {*mounted, *(path for path in OF_DAEMONS if path not in entries)}
        self._below = tuple(f"{path}/" for path in (*_MOUNTS, *mounted))

    def is_hidden(self, path: str) -> bool:
        """Tell whether a path is no part of the tree while the command runs."""
        return path in self._hidden or path.startswith(self._below)


def capture_changes(stream: Stream, before: Before, capture: Capture, open_again: OpenAgain) -> None:
    """Give every change that a container's stream shows, parents before what is in them.

    Everything belongs to 0:0, as it does inside. Raises BuildFailedError for what is deeper, longer or
    larger than ``folders`` allows, ArchiveError for a stream that is none.
    """
    comparison = Comparison(before, capture)
    for member, body in read_tar(stream, is_layer=True, any_bytes=True):
        check_bounds(member.path, member.size)
        if member.path and not before.is_hidden(member.path):
            comparison.take(member, body)
    comparison.take_late(open_again)
    comparison.tell_gone()


class Comparison:
    """Compares what is there now with what was, and tells what differs."""

    def __init__(self, before: Before, capture: Capture) -> None:
        self.before = before
        self.add = capture.add
        self.seen: dict[str, str] = {"": "d"}
        """The kinds of what is there now."""
        self.folders: dict[str, Member] = {}
        """Those that were not told yet."""
        self.late: list[Member] = []
        """Files whose bodies have gone by."""

    def take(self, member: Member, body: Body) -> bool:
        """Take a path as it is now; tell whether it is another than it was."""
        if member.kind == "d":
            return self.take_folder(member)
        if member.kind == "s":
            return self.take_special(member)
        path = member.path
        self.seen[path] = member.kind
        entry = self.before.entries.get(path)
        if member.kind == "f":
            return self.file(member, body, entry)
        if member.kind == "h":
            self.late.append(member)
            return True
        is_equal = entry is not None and entry.kind == "l" and entry.target == member.target
        if not is_equal:
            self.tell(member, "l")
        return not is_equal

    def take_folder(self, member: Member) -> bool:
        path = member.path
        self.seen[path] = "d"
        entry = self.before.entries.get(path)
        is_equal = entry is not None and entry.kind == "d" and entry.mode == member.mode
        if is_equal or (entry is None and path in self.before.ours):
            self.folders[path] = member
            return False
        self.tell(member, "d")
        return True

    def take_special(self, member: Member) -> bool:
        """Take a device, fifo or socket."""
        self.seen[member.path] = "s"
        self.tell(member, "other")
        return True

    def file(self, member: Member, body: Body, entry: Entry | None) -> bool:
        shown = self.before.shown.get(member.path)
        if shown is not None and len(shown) == member.size:
            data = body.read()
            if data != shown:
                self.tell(member, "f", io.BytesIO(data))
            return data != shown
        if entry is None or not _looks_equal(member, entry):
            if member.path in self.before.ours and not member.size:
                return False
            self.tell(member, "f", cast("BinaryIO", body))
            return True
        assert entry.digest is not None
        if member.size <= HELD:
            data = body.read()
            is_equal = hashlib.sha256(data).hexdigest() == entry.digest.hex
            if not is_equal:
                self.tell(member, "f", io.BytesIO(data))
            return not is_equal
        hasher = hashlib.sha256()
        while data := body.read(BUFFER_SIZE):
            hasher.update(data)
        is_equal = hasher.hexdigest() == entry.digest.hex
        if not is_equal:
            self.late.append(member)
        return not is_equal

    def take_late(self, open_again: OpenAgain) -> None:
        """Tell of the files whose bodies are not where the stream has them."""
        for member in self.late:
            with open_again(member.path) as body:
                size = body.seek(0, io.SEEK_END)
                body.seek(0)
                self.tell(member._replace(size=size), "f", body)

    def tell_gone(self) -> None:
        """Tell of what the tree has and the stream did not: of a folder that went, itself alone."""
        for path in self.before.entries:
            if path in self.seen or path in _MOUNTS or self.before.is_hidden(path):
                continue
            if path.rpartition("/")[0] in self.seen:
                self.tell_removed(path)

    def tell_removed(self, path: str) -> None:
        """Tell that a path of the tree is gone, unless the folder that it was in is something else now."""
        if self.seen.get(path.rpartition("/")[0], "d") == "d":
            self.tell_folders(path)
            self.add(RawChange(path, "gone"), None)

    def tell(self, member: Member, kind: RawKind, body: BinaryIO | None = None) -> None:
        self.tell_folders(member.path)
        target = member.target if kind == "l" else ""
        self.add(
            RawChange(
                member.path, kind, member.mode, 0, 0, member.mtime, member.size, target, member.capability
            ),
            body,
        )

    def tell_folders(self, path: str) -> None:
        """Tell of the folders that a change is in, as an overlay does, each once."""
        holding = []
        while path := path.rpartition("/")[0]:
            if path in self.folders:
                holding.append(self.folders.pop(path))
        for one in reversed(holding):
            self.add(RawChange(one.path, "d", one.mode, 0, 0, one.mtime), None)


def _looks_equal(member: Member, entry: Entry) -> bool:
    return (
        entry.kind == "f"
        and (member.size, member.mode, member.mtime) == (entry.size, entry.mode, NORMAL_TIME)
        and member.capability == entry.capability
    )
