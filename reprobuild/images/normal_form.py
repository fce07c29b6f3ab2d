"""The normal form: from what a command changed to the tree that it counts as having left.

A pure function of the tree below, the changes and the bodies that it reads; ``docs/normal-form.md`` says
the same in words. Knows nothing of engines, stores, or how a tree was laid out for the command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reprobuild.digest import Digest
from reprobuild.images.bytecode import SUFFIXES, Header, is_in_cache, parse_header, source_of, with_time
from reprobuild.images.changes import Changed, RawChange
from reprobuild.images.git_state import LARGEST as LARGEST_STATE
from reprobuild.images.git_state import is_state, normal_state
from reprobuild.images.java_keystore import LARGEST as LARGEST_KEYSTORE
from reprobuild.images.java_keystore import is_keystore, normal_keystore
from reprobuild.tree import NORMAL_TIME, Entry, Tree, TreeError, resolve

ReadBody = Callable[[Digest], bytes]
AddBody = Callable[[bytes], Digest]

MOUNTED = (
    ".dockerenv",
    "dev",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "proc",
    "run/.containerenv",
    "sys",
)
"""What engines mount over or leave behind: always as in the tree below."""


class Rule(NamedTuple):
    """Paths that commands write to and that no image needs."""

    reason: str
    pattern: re.Pattern[str]
    """Of whole paths, relative to the root."""
    files_only: bool = True
    """Whether folders and links that fit stay."""


DROPPED = (
    Rule("a log", re.compile(r"var/log/.+", re.DOTALL)),
    Rule("an index that apt makes again", re.compile(r"var/cache/apt/[^/]+\.bin")),
    Rule("a downloaded package", re.compile(r"var/cache/apt/archives/(partial/)?[^/]+\.deb")),
    Rule("a cache that ldconfig makes again", re.compile(r"var/cache/ldconfig/aux-cache")),
    Rule("pip's cache", re.compile(r"root/\.cache/pip(/.*)?", re.DOTALL), files_only=False),
)
"""What a command's changes lose. ``/tmp`` and ``/var/lib/apt/lists`` are not here: later steps
read what earlier ones left there."""

LARGEST_BYTE_CODE = 64 * 1024 * 1024
"""Bytes; what is larger is no byte code, whatever its name."""

SPECIAL = "a device, socket or fifo"
STALE = "byte code whose source is not the one it was made from"


class Dropped(NamedTuple):
    """A path that a command left and that the normal form does not have."""

    path: str
    reason: str


def is_rewritten(path: str) -> bool:
    """Tell whether a file's content may change on its way to the normal form, by its name."""
    return path.endswith(SUFFIXES) or is_state(path) or is_keystore(path)


@dataclass(frozen=True)
class NormalForm:
    """What a command counts as having left."""

    tree: Tree
    dropped: tuple[Dropped, ...]
    """Sorted by path; what engines mount over is not named."""


def normal_form(
    changes: Iterable[Changed],
    lower: Tree,
    *,
    read: ReadBody,
    add: AddBody,
    owners: bool = False,
    mounted: Iterable[str] = (),
) -> NormalForm:
    """Bring what a command changed in the tree ``lower`` to normal form.

    ``changes``: parents before what is in them; ``read`` gives a body by its digest, of a changed
    file or of one of the tree below; ``add`` keeps one that was rewritten; ``owners``: whether
    owners other than 0:0 count; ``mounted``: paths beside MOUNTED that the engine mounted over.
    Raises TreeError, naming the path, for what no tree can hold.
    """
    covered = (*MOUNTED, *(path.strip("/") for path in mounted))
    inside = tuple(path + "/" for path in covered)
    after = _After(lower, owners)
    for change, digest in changes:
        if change.path and change.path not in covered and not change.path.startswith(inside):
            after.take(change, digest)
    after.restore(covered)
    after.drop_listed()
    after.normalise_bytecode(read, add)
    after.normalise_state(read, add)
    after.check()
    return NormalForm(Tree(after.entries.values()), tuple(sorted(after.dropped)))


class _After:
    """The tree below as it becomes the one above, with what is known of the changes."""

    def __init__(self, lower: Tree, owners: bool) -> None:
        self.lower = lower
        self.owners = owners
        self.below: Mapping[str, Entry] = {entry.path: entry for entry in lower}
        self.entries: dict[str, Entry] = dict(self.below)
        self.times: dict[str, int] = {}
        """mtimes of files that were changed; all others have NORMAL_TIME."""
        self.dropped: list[Dropped] = []

    def take(self, change: RawChange, digest: Digest | None) -> None:
        """Do to the entries what the command did."""
        path, kind = change.path, change.kind
        if kind != "d":
            replaced = self.entries.pop(path, None)
            if replaced is not None and replaced.kind == "d":
                # Only of the tree below: what was changed there would come later.
                for below in self.lower.below(path):
                    self.entries.pop(below.path, None)
        if kind == "other":
            self.dropped.append(Dropped(_escape(path), SPECIAL))
        if kind in ("gone", "opaque", "other"):
            return
        before = self.below.get(path)
        uid, gid = change.uid, change.gid
        if not self.owners:
            # chown is without effect, so what was there keeps the owner that it had.
            uid, gid = (before.uid, before.gid) if before is not None and before.kind == kind else (0, 0)
        if kind == "d":
            entry = Entry(path, "d", change.mode, uid, gid)
        elif kind == "l":
            entry = Entry(path, "l", 0o777, uid, gid, target=change.target)
        else:
            if digest is None:
                raise ValueError(f"the change of the file {path!r} comes without its digest")
            capability = _capability(change.capability)
            if not (self.owners or capability) and before is not None and before.digest == digest:
                # A laid-out tree may not be able to hold capabilities; that it lost one is no change.
                capability = before.capability
            entry = Entry(path, "f", change.mode, uid, gid, change.size, digest, "", capability)
            self.times[path] = change.mtime
        self.entries[path] = entry

    def remove(self, path: str) -> None:
        """Take out a path with everything below it."""
        entry = self.entries.pop(path, None)
        if entry is None or entry.kind != "d":
            return
        prefix = path + "/"
        for below in [known for known in self.entries if known.startswith(prefix)]:
            del self.entries[below]

    def restore(self, covered: Iterable[str]) -> None:
        """Put back what the tree below has at paths that engines mount over."""
        for path in covered:
            self.remove(path)
            entry = self.below.get(path)
            if entry is not None and self._has_folder(path):
                self.entries[path] = entry
                self.entries.update((below.path, below) for below in self.lower.below(path))
        # Folders that were only made to mount something in them.
        for path in covered:
            while (path := path.rpartition("/")[0]) and path in self.entries and path not in self.below:
                prefix = path + "/"
                if any(known.startswith(prefix) for known in self.entries):
                    break
                del self.entries[path]

    def drop_listed(self) -> None:
        """Take back changes that the list names, to what the tree below has there."""
        for entry in list(self.entries.values()):
            before = self.below.get(entry.path)
            if entry == before or entry.path not in self.entries:
                continue
            for rule in DROPPED:
                if (entry.kind == "f" or not rule.files_only) and rule.pattern.fullmatch(entry.path):
                    self._drop(entry, before, rule.reason)
                    break

    def normalise_bytecode(self, read: ReadBody, add: AddBody) -> None:
        """Rewrite the times in byte code, and take out what belongs to no source that is there."""
        for entry in list(self.entries.values()):
            source = source_of(entry.path)
            if source is None or entry.digest is None or self._is_as_below(entry, source):
                continue
            data = read(entry.digest) if entry.size <= LARGEST_BYTE_CODE else b""
            header = parse_header(data)
            in_cache = is_in_cache(entry.path)
            is_new = entry.path in self.times
            if header is None:
                if in_cache:
                    self._take_out(entry.path)
            elif header.time is None:
                pass  # Known by its source's hash: no time is in it.
            elif not in_cache and _file_at(self.entries, source) is None:
                # Imported without a source: Python compares no time then.
                self._rewrite(entry, data, header, add)
            elif is_new and self._fits(header, source):
                self._rewrite(entry, data, header, add)
            else:
                self._take_out(entry.path)

    def normalise_state(self, read: ReadBody, add: AddBody) -> None:
        """Take times and inodes out of what git remembers, and times out of Java's authorities."""
        for entry in list(self.entries.values()):
            if entry.path not in self.times or entry.digest is None:
                continue
            if is_state(entry.path) and entry.size <= LARGEST_STATE:
                data = read(entry.digest)
                normal = normal_state(entry.path, data, NORMAL_TIME)
            elif is_keystore(entry.path) and entry.size <= LARGEST_KEYSTORE:
                data = read(entry.digest)
                normal = normal_keystore(data, NORMAL_TIME)
            else:
                continue
            if normal != data:
                self.entries[entry.path] = entry._replace(digest=add(normal), size=len(normal))

    def check(self) -> None:
        """Refuse names that no layer can hold."""
        for path, entry in self.entries.items():
            if entry is self.below.get(path):
                continue
            if path.startswith(".wh.") or "/.wh." in path:
                raise TreeError(
                    f"the command left /{_escape(path)}: names that begin with .wh. mean removal in layers",
                    "remove or rename the file at the end of the command",
                )
            try:
                path.encode()
                entry.target.encode()
            except UnicodeEncodeError:
                arrow = f" -> {_escape(entry.target)}" if entry.target else ""
                raise TreeError(
                    f"the command left /{_escape(path)}{arrow}, which is not UTF-8",
                    "remove or rename the file at the end of the command",
                ) from None

    def _is_as_below(self, entry: Entry, source: str) -> bool:
        """Tell whether neither this byte code nor its source differ from those of the tree below."""
        before = self.below.get(entry.path)
        if before is None or before.digest != entry.digest:
            return False
        now, then = self.entries.get(source), self.below.get(source)
        if now is then and (now is None or now.kind == "f"):
            return True
        now, then = _file_at(self.entries, source), _file_at(self.below, source)
        return (now and now.digest) == (then and then.digest)

    def _fits(self, header: Header, source: str) -> bool:
        """Tell whether Python would take this byte code for that source."""
        entry = _file_at(self.entries, source)
        if entry is None:
            return False
        time = self.times.get(entry.path, NORMAL_TIME)
        return header.time == time & 0xFFFFFFFF and header.size in (None, entry.size & 0xFFFFFFFF)

    def _rewrite(self, entry: Entry, data: bytes, header: Header, add: AddBody) -> None:
        if header.time == NORMAL_TIME:
            return
        self.entries[entry.path] = entry._replace(digest=add(with_time(data, header, NORMAL_TIME)))

    def _take_out(self, path: str) -> None:
        self.remove(path)
        self.dropped.append(Dropped(_escape(path), STALE))

    def _drop(self, entry: Entry, before: Entry | None, reason: str) -> None:
        """Put back what the tree below has, as far as it still has a place."""
        self.remove(entry.path)
        self.times.pop(entry.path, None)
        self.dropped.append(Dropped(_escape(entry.path), reason))
        if before is not None and self._has_folder(entry.path):
            self.entries[entry.path] = before
            self.entries.update((below.path, below) for below in self.lower.below(entry.path))

    def _has_folder(self, path: str) -> bool:
        parent = path.rpartition("/")[0]
        above = self.entries.get(parent)
        return not parent or (above is not None and above.kind == "d")


def _file_at(entries: Mapping[str, Entry], path: str) -> Entry | None:
    """Give the file that a path leads to, links followed."""
    try:
        entry = entries.get(resolve(entries, path))
    except TreeError:  # a loop of links: nothing is there
        return None
    return entry if entry is not None and entry.kind == "f" else None


def _escape(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _capability(value: bytes) -> bytes:
    """Give the form of a capability that does not name the user namespace it was made in.

    ``linux/capability.h``: revision 3 is revision 2 with the uid of the namespace's root behind it;
    the revision is the last byte of the first word, which is little-endian.
    """
    if len(value) == 24 and value[3] == 3:
        return value[:3] + b"\x02" + value[4:20]
    return value
