"""What a command changed, asked of a daemon that can name the paths: of a large tree far less has to come.

A daemon names what differs in kind, mode, size or time, and so misses a change that sets the old time again.
But what was written lies in a layer whose size the daemon tells too: only where that is the size of what was
named is the answer complete. Knows nothing of how an archive is compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

from reprobuild.engine.docker.changes import Before, Comparison, OpenAgain
from reprobuild.engine.folders import check_bounds
from reprobuild.engine.protocol import Capture
from reprobuild.images.archive import Member, Stream
from reprobuild.images.tar_reader import read_tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.engine.docker.daemon import Daemon

REQUEST = 8 << 20
"""Bytes that come in the time that a daemon takes to begin an archive (some 40 ms)."""

GLANCE = 1 << 20
"""The same for looking at one folder."""

_CHANGED, _ADDED, _REMOVED = 0, 1, 2
"""Kinds, as Docker's API numbers them ("Get changes on a container's filesystem")."""

_REPLACED = "\ufffd"
"""What stands in JSON for a byte of a name that is no UTF-8: then the name is lost."""

OpenArchive = Callable[[str], AbstractContextManager[Stream]]
"""Opens the archive of a path of the container."""


class Plan(NamedTuple):
    """What to ask for."""

    cost: int
    """As bytes."""
    folders: tuple[str, ...]
    """To look at: theirs may be another mode, or they may be no folders any more."""
    archives: tuple[str, ...]
    """To take whole."""


def capture_differences(
    daemon: Daemon,
    container: str,
    before: Before,
    capture: Capture,
    open_archive: OpenArchive,
    open_again: OpenAgain,
    given: int,
    fixed: Mapping[str, bytes],
) -> bool:
    """Give every change, parents before what is in them; False where only an archive of all can tell them.

    ``given``: bytes that were put in before the command began, at paths that are no part of the tree;
    ``fixed``: files that were put on top of it. What was told before an answer proves incomplete is told
    again then. Raises as ``capture_changes`` does.
    """
    if not daemon.has_native_differences:
        return False
    told = {str(one["Path"]).strip("/"): int(one["Kind"]) for one in daemon.client.diff(container) or ()}
    if any(_REPLACED in path for path in told):
        return False
    named = {}
    for path, kind in sorted(told.items()):
        check_bounds(path, 0)
        if not before.is_hidden(path) and path not in fixed:
            named[path] = kind
    sizes = _sizes(before)
    plan = make_plan(named, before, sizes)
    if plan.cost > REQUEST + sizes.get("", 0):
        return False
    taken = _Taken(Comparison(before, capture), named)
    for path in plan.folders:
        seen = daemon.look(container, path)
        if seen is not None and seen.is_folder:
            taken.comparison.take_folder(Member(path, "d", seen.mode, mtime=seen.mtime))
        else:
            taken.take_archive(path, open_archive)
    for path in plan.archives:
        if not _is_special(daemon, container, path):
            taken.take_archive(path, open_archive)
    taken.take_unseen()
    taken.comparison.take_late(open_again)
    with daemon.ask("GET", f"/containers/{container}/json", params={"size": 1}) as response:
        written = int(response.json().get("SizeRw") or 0)
    if written != taken.size + given + sum(map(len, fixed.values())):
        return False
    taken.tell_gone()
    return True


class _Taken:
    """What has come so far."""

    def __init__(self, comparison: Comparison, named: Mapping[str, int]) -> None:
        self.comparison = comparison
        self.named = named
        self.size = 0
        """Bytes of all that was written, as far as it is known."""

    def take_archive(self, path: str, open_archive: OpenArchive) -> None:
        parent = path.rpartition("/")[0]
        with open_archive(path) as stream:
            for member, body in read_tar(stream, is_layer=True, any_bytes=True):
                inside = _below(parent, member.path)
                target = _below(parent, member.target) if member.kind == "h" else member.target
                check_bounds(inside, member.size)
                if not self.comparison.before.is_hidden(inside):
                    whole = member._replace(path=inside, target=target)
                    is_new = self.comparison.take(whole, body)
                    if is_new or inside in self.named:
                        self.size += member.size or len(os.fsencode(target) if member.kind == "l" else b"")

    def take_unseen(self) -> None:
        """Tell of what was named and is in no archive: sockets, which archives can't hold."""
        for path, kind in self.named.items():
            if kind != _REMOVED and path not in self.comparison.seen:
                self.comparison.take_special(Member(path, "s", 0))

    def tell_gone(self) -> None:
        for path, kind in self.named.items():
            if kind == _REMOVED and path in self.comparison.before.entries:
                self.comparison.tell_removed(path)


def _is_special(daemon: Daemon, container: str, path: str) -> bool:
    """Tell whether a path is a device, a fifo or a socket: of the last, a daemon makes no archive."""
    seen = daemon.look(container, path)
    return seen is not None and seen.is_special


def _below(folder: str, path: str) -> str:
    return f"{folder}/{path}" if folder else path


def make_plan(named: Mapping[str, int], before: Before, sizes: Mapping[str, int]) -> Plan:
    """Say what to ask for so that least has to come, of paths that are sorted, by kind."""
    children: dict[str, list[str]] = {}
    for path in named:
        children.setdefault(path.rpartition("/")[0], []).append(path)

    def of(path: str) -> Plan:
        kind = named[path]
        if kind == _REMOVED:
            return Plan(0, (), ())
        entry = before.entries.get(path)
        is_folder = entry is not None and entry.kind == "d"
        whole = Plan(REQUEST + (sizes.get(path, 0) if is_folder else 0), (), (path,))
        if kind == _ADDED or not is_folder:
            return whole
        return min(whole, _together(Plan(GLANCE, (path,), ()), map(of, children.get(path, ()))))

    return _together(Plan(0, (), ()), map(of, children.get("", ())))


def _together(first: Plan, others: Iterator[Plan]) -> Plan:
    parts = [first, *others]
    return Plan(
        sum(part.cost for part in parts),
        tuple(path for part in parts for path in part.folders),
        tuple(path for part in parts for path in part.archives),
    )


def _sizes(before: Before) -> dict[str, int]:
    """Add up the bytes below each folder of the tree; ``""``: all."""
    sizes: dict[str, int] = {}
    for entry in before.entries.values():
        path = entry.path
        while path and entry.size:
            path = path.rpartition("/")[0]
            sizes[path] = sizes.get(path, 0) + entry.size
    return sizes
