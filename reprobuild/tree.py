"""Trees and layers as values: sorted entries, their listings, and the arithmetic between them.

Knows nothing of stores, archives or engines: bodies of files are digests here. The listing format
is specified in ``docs/tree-format.md``.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Literal, NamedTuple
from urllib.parse import unquote_to_bytes

from reprobuild.digest import Digest
from reprobuild.errors import ReprobuildError

NORMAL_TIME = 315619200
"""1980-01-02T00:00:00Z in seconds: the time of every entry (DESIGN section 6)."""

MOST_LINKS = 40
"""Symbolic links followed in one path before it counts as a loop (Linux: MAXSYMLINKS)."""

Kind = Literal["d", "f", "l"]


class TreeError(ReprobuildError):
    """An entry that no tree can hold, or two that exclude each other; the message names the path."""


class Entry(NamedTuple):
    """One path of a tree: a directory (``d``), a file (``f``) or a symbolic link (``l``).

    Every file has its own entry: hard links do not exist here. Times do not either.
    """

    path: str
    """Relative to the root, without a leading or trailing slash: ``usr/bin/python3``."""
    kind: Kind
    mode: int
    """Permission bits, 0 to 0o7777; 0o777 for links."""
    uid: int = 0
    gid: int = 0
    size: int = 0
    """Bytes; 0 unless a file."""
    digest: Digest | None = None
    """Of the body; None unless a file."""
    target: str = ""
    """Where a link points, as written in it; empty unless a link."""
    capability: bytes = b""
    """The value of ``security.capability``; empty where there is none."""


def directory(path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
    """Make the entry of a directory."""
    return Entry(path, "d", mode, uid, gid)


def file(path: str, digest: Digest, size: int, mode: int = 0o644, uid: int = 0, gid: int = 0) -> Entry:
    """Make the entry of a file of ``size`` bytes."""
    return Entry(path, "f", mode, uid, gid, size, digest)


def link(path: str, target: str, uid: int = 0, gid: int = 0) -> Entry:
    """Make the entry of a symbolic link."""
    return Entry(path, "l", 0o777, uid, gid, target=target)


class Tree:
    """A file-system tree: entries by path, sorted, each below a directory entry of the same tree.

    The root itself is no entry: it is always ``0755 0:0``. Immutable.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Take entries in any order; raises TreeError for a path that no tree can hold,
        a path that is there twice, or a parent that is missing or no directory."""
        ordered = sorted(entries, key=_path_of)
        by_path = {entry.path: entry for entry in ordered}
        if len(by_path) != len(ordered):
            twice = next(a.path for a, b in itertools.pairwise(ordered) if a.path == b.path)
            raise TreeError(f"/{twice} is in the tree twice")
        for entry in ordered:
            _check(entry)
            parent = entry.path.rpartition("/")[0]
            if parent and (above := by_path.get(parent)) is None:
                raise TreeError(f"/{entry.path} has no parent directory in the tree")
            elif parent and above is not None and above.kind != "d":
                raise TreeError(f"/{entry.path} lies below /{parent}, which is no directory")
        self._entries: Mapping[str, Entry] = by_path

    @classmethod
    def _trusted(cls, by_path: Mapping[str, Entry]) -> Tree:
        """Take a sorted mapping that is known to be a tree."""
        tree = cls.__new__(cls)
        tree._entries = by_path
        return tree

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def get(self, path: str) -> Entry | None:
        """Give the entry at a path, taken literally (no links followed), or None."""
        return self._entries.get(path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def _paths(self) -> list[str]:
        return list(self._entries)

    def below(self, path: str) -> Iterator[Entry]:
        """Give the entries strictly below a directory path, in order (all of them for ``""``)."""
        if not path:
            yield from self
            return
        prefix = path + "/"
        start = bisect.bisect_left(self._paths, prefix)
        for index in range(start, len(self._paths)):
            candidate = self._paths[index]
            if not candidate.startswith(prefix):
                break
            yield self._entries[candidate]

    @cached_property
    def listing(self) -> bytes:
        """The tree as bytes: what its digest is the digest of."""
        return b"tree 1\n" + b"".join(map(_line, self))

    @cached_property
    def digest(self) -> Digest:
        """The sha256 of the listing."""
        return Digest.of(self.listing)

    @cached_property
    def size(self) -> int:
        """Bytes of all file bodies, each path counted."""
        return sum(entry.size for entry in self)

    @classmethod
    def parse(cls, listing: bytes) -> Tree:
        """Read a listing; raises TreeError where it is not one that ``listing`` writes."""
        entries, whiteouts = _parse(listing, b"tree 1")
        if whiteouts:
            raise TreeError("a tree's listing holds a whiteout")
        return cls(entries)

    def resolve(self, path: str, *, follow_last: bool = True) -> str:
        """Follow the links of this tree in a path; give the literal path it leads to.

        Parts that do not exist are kept as they are; ``..`` never leaves the root. Raises
        TreeError for a loop of links.
        """
        return resolve(self._entries, path, follow_last=follow_last)


class Layer:
    """The least difference between two trees: entries that are there or new, paths that went.

    Immutable; an empty layer is no layer at all (``if layer:``).
    """

    def __init__(self, entries: Iterable[Entry], whiteouts: Iterable[str] = ()) -> None:
        """Take entries and removed paths in any order; raises TreeError if a path is both."""
        self.entries: tuple[Entry, ...] = tuple(sorted(entries, key=_path_of))
        self.whiteouts: tuple[str, ...] = tuple(sorted(whiteouts))
        both = {entry.path for entry in self.entries}.intersection(self.whiteouts)
        if both:
            raise TreeError(f"/{min(both)} is an entry and a whiteout of one layer")

    def __bool__(self) -> bool:
        return bool(self.entries or self.whiteouts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layer) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def listing(self) -> bytes:
        """The layer as bytes, entries before whiteouts."""
        gone = (b"w\t" + escape(path) + b"\n" for path in self.whiteouts)
        return b"layer 1\n" + b"".join(map(_line, self.entries)) + b"".join(gone)

    @cached_property
    def digest(self) -> Digest:
        """The sha256 of the listing (not the ``diff_id``, which is that of the tar stream)."""
        return Digest.of(self.listing)

    @classmethod
    def parse(cls, listing: bytes) -> Layer:
        """Read a listing; raises TreeError where it is not one that ``listing`` writes."""
        return cls(*_parse(listing, b"layer 1"))


def difference(lower: Tree, upper: Tree) -> Layer:
    """Give the least layer that makes ``upper`` of ``lower``.

    An entry is in it if its record differs, or if it is a directory that contains a change; a
    removed path is one whiteout, and what was below it is not named.
    """
    changed = {entry.path for entry in upper if lower.get(entry.path) != entry}
    whiteouts = []
    for entry in lower:
        parent = entry.path.rpartition("/")[0]
        if entry.path not in upper and (not parent or _is_directory(upper, parent)):
            whiteouts.append(entry.path)
    holding = set(changed)
    for path in (*changed, *whiteouts):
        while path := path.rpartition("/")[0]:
            if path in holding:
                break
            holding.add(path)
    entries = [entry for entry in upper if entry.path in holding]
    return Layer(entries, whiteouts)


def apply(lower: Tree, layer: Layer) -> Tree:
    """Give the tree that a layer makes of the tree below it.

    Raises TreeError for a whiteout of nothing and for entries that do not fit the tree.
    """
    if not layer:
        return lower
    by_path = dict(lower._entries)
    gone = set()
    for path in layer.whiteouts:
        if path not in by_path:
            raise TreeError(f"the layer removes /{path}, which the tree below does not have")
        gone.add(path)
    for entry in layer.entries:
        before = by_path.get(entry.path)
        if before is not None and before.kind == "d" and entry.kind != "d":
            gone.add(entry.path)
    for path in gone:
        for below in lower.below(path):
            by_path.pop(below.path, None)
        by_path.pop(path, None)
    by_path.update((entry.path, entry) for entry in layer.entries)
    return Tree(by_path.values())


def overlay(lower: Tree, placed: Iterable[Entry]) -> Tree:
    """Place entries onto a tree, links of the tree below followed (merged ``/usr``).

    Directories that are missing on the way are made ``0755 0:0``; one that is there keeps its
    record; a file or link replaces a file or link. Later entries see earlier ones. Raises
    TreeError where a directory and something else claim one path.
    """
    by_path = dict(lower._entries)
    for entry in placed:
        _check(entry)
        path = resolve(by_path, entry.path, follow_last=False)
        before = by_path.get(path)
        if entry.kind == "d":
            if before is not None and before.kind == "l":
                path = resolve(by_path, path)
                before = by_path.get(path)
            if before is not None and before.kind != "d":
                raise TreeError(f"the directory /{entry.path} would replace a file")
            if before is not None:
                continue
        elif before is not None and before.kind == "d":
            raise TreeError(f"/{entry.path} would replace a directory")
        _make_parents(by_path, path)
        by_path[path] = entry._replace(path=path)
    return Tree._trusted(dict(sorted(by_path.items())))


def _make_parents(by_path: dict[str, Entry], path: str) -> None:
    missing = []
    while path := path.rpartition("/")[0]:
        above = by_path.get(path)
        if above is not None:
            if above.kind != "d":
                raise TreeError(f"/{path} is no directory, and something is placed below it")
            break
        missing.append(path)
    for path in missing:
        by_path[path] = directory(path)


def resolve(entries: Mapping[str, Entry], path: str, *, follow_last: bool = True) -> str:
    """Follow the links among entries in a path, as ``Tree.resolve`` says."""
    todo = [part for part in reversed(path.split("/")) if part and part != "."]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            if done:
                done.pop()
            continue
        done.append(part)
        here = entries.get("/".join(done))
        if here is None or here.kind != "l" or (not todo and not follow_last):
            continue
        links += 1
        if links > MOST_LINKS:
            raise TreeError(f"/{path} leads into a loop of symbolic links")
        if here.target.startswith("/"):
            done.clear()
        else:
            done.pop()
        todo.extend(part for part in reversed(here.target.split("/")) if part and part != ".")
    return "/".join(done)


def _is_directory(tree: Tree, path: str) -> bool:
    entry = tree.get(path)
    return entry is not None and entry.kind == "d"


def _path_of(entry: Entry) -> str:
    return entry.path


def _check(entry: Entry) -> None:
    """Refuse what no tree holds (DESIGN section 6); the message names the path."""
    path = entry.path
    if not path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise TreeError(f"not a path of a tree: {path!r}")
    if path.startswith(".wh.") or "/.wh." in path:
        raise TreeError(f"/{path}: names that begin with .wh. mean removal in an image's layers")
    try:
        path.encode()
        entry.target.encode()
    except UnicodeEncodeError:
        raise TreeError(f"{path!r}: the name is not UTF-8") from None
    if not 0 <= entry.mode <= 0o7777:
        raise TreeError(f"/{path} has the impossible mode {entry.mode:o}")
    if (entry.kind == "f") != (entry.digest is not None) or (entry.kind == "l") != bool(entry.target):
        raise TreeError(f"/{path} is not a whole entry of kind {entry.kind}")


# Listings: one line an entry, fields between tabs, the path last; %XX for bytes that would break it.

_UNSAFE = re.compile(rb"[\x00-\x1f%\x7f]")


def escape(text: str) -> bytes:
    """Write a path so that it holds no control character: ``%XX`` for those and for ``%``."""
    return _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], text.encode())


def unescape(data: bytes) -> str:
    """Read what ``escape`` wrote; raises ValueError where that is no UTF-8."""
    return (unquote_to_bytes(data) if b"%" in data else data).decode()


def _line(entry: Entry) -> bytes:
    head = b"%s\t%o\t%d:%d" % (entry.kind.encode(), entry.mode, entry.uid, entry.gid)
    if entry.kind == "f":
        assert entry.digest is not None
        head += b"\t%d\t%s\t%s" % (
            entry.size,
            entry.digest.hex.encode(),
            entry.capability.hex().encode() or b"-",
        )
    elif entry.kind == "l":
        head += b"\t" + escape(entry.target)
    return head + b"\t" + escape(entry.path) + b"\n"


def _parse(listing: bytes, header: bytes) -> tuple[list[Entry], list[str]]:
    first, _, rest = listing.partition(b"\n")
    if first != header:
        raise TreeError(f"not a listing that begins with {header.decode()!r}")
    if rest and not rest.endswith(b"\n"):
        raise TreeError("a listing that is cut off")
    entries: list[Entry] = []
    whiteouts: list[str] = []
    for number, line in enumerate(rest.split(b"\n")[:-1], start=2):
        try:
            fields = line.split(b"\t")
            if fields[0] == b"w":
                (_, gone) = fields
                whiteouts.append(unescape(gone))
            else:
                entries.append(_entry(fields))
        except (ValueError, IndexError):
            raise TreeError(f"line {number} of a listing makes no sense: {line[:200]!r}") from None
    return entries, whiteouts


def _entry(fields: list[bytes]) -> Entry:
    kind = fields[0]
    uid, _, gid = fields[2].partition(b":")
    mode = int(fields[1], 8)
    if kind == b"f":
        _, _, _, size, hex_digits, capability, path = fields
        held = b"" if capability == b"-" else bytes.fromhex(capability.decode())
        return Entry(
            unescape(path), "f", mode, int(uid), int(gid), int(size), Digest(hex_digits.decode()), "", held
        )
    if kind == b"l":
        _, _, _, target, path = fields
        return Entry(unescape(path), "l", mode, int(uid), int(gid), target=unescape(target))
    if kind != b"d":
        raise ValueError("an unknown kind")
    _, _, _, path = fields
    return Entry(unescape(path), "d", mode, int(uid), int(gid))
