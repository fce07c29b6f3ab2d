"""Trees and layers as values: sorted entries, their listings, and the arithmetic between them.

Knows nothing of stores, archives or engines: bodies of files are digests here. The listing format
is specified in ``docs/tree-format.md``.
"""

from __future__ import annotations

import bisect
import itertools
import operator
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Literal, NamedTuple

from reprobuild.digest import HEX_DIGITS, Digest
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
        _check_parents(by_path)
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
        return isinstance(other, Tree) and self._entries == other._entries

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
        return ("tree 1\n" + "".join(map(_line, self))).encode()

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
        entries, whiteouts = _parse(listing, "tree 1\n")
        if whiteouts:
            raise TreeError("a tree's listing holds a whiteout")
        by_path = {entry.path: entry for entry in entries}
        _check_parents(by_path)
        tree = cls._trusted(by_path)
        tree.__dict__["listing"] = listing
        return tree

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
        """Take entries and removed paths in any order; raises TreeError for a path that no tree can
        hold, and for one that is there twice or both."""
        self.entries: tuple[Entry, ...] = tuple(sorted(entries, key=_path_of))
        self.whiteouts: tuple[str, ...] = tuple(sorted(whiteouts))
        for entry in self.entries:
            _check(entry)
        for path in self.whiteouts:
            _check_path(path)
        self._check_once()

    @classmethod
    def _trusted(cls, entries: Iterable[Entry], whiteouts: Iterable[str]) -> Layer:
        """Take sorted entries and sorted paths that a tree can hold."""
        layer = cls.__new__(cls)
        layer.entries, layer.whiteouts = tuple(entries), tuple(whiteouts)
        return layer

    def _check_once(self) -> None:
        paths = {entry.path for entry in self.entries}
        if len(paths) != len(self.entries) or len(set(self.whiteouts)) != len(self.whiteouts):
            raise TreeError("a path is in one layer twice")
        if both := paths.intersection(self.whiteouts):
            raise TreeError(f"/{min(both)} is an entry and a whiteout of one layer")

    def __bool__(self) -> bool:
        return bool(self.entries or self.whiteouts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layer) and (self.entries, self.whiteouts) == (other.entries, other.whiteouts)

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def listing(self) -> bytes:
        """The layer as bytes, entries before whiteouts."""
        gone = "".join(f"w\t{_escaped(path)}\n" for path in self.whiteouts)
        return ("layer 1\n" + "".join(map(_line, self.entries)) + gone).encode()

    @cached_property
    def digest(self) -> Digest:
        """The sha256 of the listing (not the ``diff_id``, which is that of the tar stream)."""
        return Digest.of(self.listing)

    @classmethod
    def parse(cls, listing: bytes) -> Layer:
        """Read a listing; raises TreeError where it is not one that ``listing`` writes."""
        layer = cls._trusted(*_parse(listing, "layer 1\n"))
        layer._check_once()
        layer.__dict__["listing"] = listing
        return layer


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
    return Layer._trusted([entry for entry in upper if entry.path in holding], whiteouts)


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
        path = entry.path
        parent = path.rpartition("/")[0]
        above = by_path.get(parent)
        is_plain = not parent or (above is not None and above.kind == "d")
        if not is_plain:
            path = resolve(by_path, path, follow_last=False)
        before = by_path.get(path)
        if entry.kind == "d":
            if before is not None and before.kind == "l":
                path = resolve(by_path, path)
                before = by_path.get(path)
            if before is not None and before.kind != "d":
                raise TreeError(f"the directory /{entry.path} would replace a file")
            if before is not None or not path:
                continue
        elif before is not None and before.kind == "d":
            raise TreeError(f"/{entry.path} would replace a directory")
        if not is_plain or path != entry.path:
            _make_parents(by_path, path)
            entry = entry._replace(path=path)
        by_path[path] = entry
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


_SUSPECT = ("", ".", "/")


def _check(entry: Entry) -> None:
    """Refuse what no tree holds (DESIGN section 6); the message names the path."""
    path, kind, mode, uid, gid, size, digest, target, capability = entry
    # In nearly all paths there is nothing to look for: these five tests are cheap.
    if not path.isprintable() or "/." in path or "//" in path or path[:1] in _SUSPECT or path[-1] == "/":
        _check_path(path)
    if target and ("\0" in target or not (target.isascii() or _is_utf8(target))):
        raise TreeError(f"/{path} points to what is no path: {target!r}")
    if not 0 <= mode <= 0o7777 or uid < 0 or gid < 0:
        raise TreeError(f"/{path} has an impossible mode or owner: {mode:o} {uid}:{gid}")
    if kind == "f":
        fits = digest is not None and size >= 0 and not target
    elif kind == "l":
        fits = bool(target) and mode == 0o777 and digest is None and not size and not capability
    else:
        fits = kind == "d" and digest is None and not size and not target and not capability
    if not fits:
        raise TreeError(f"/{path} is not a whole entry of kind {kind}")


def _check_path(path: str) -> None:
    if not _is_utf8(path):
        raise TreeError(f"{path!r}: the name is not UTF-8")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise TreeError(f"not a path of a tree: {path!r}")
    if path.startswith(".wh.") or "/.wh." in path:
        raise TreeError(f"/{path}: names that begin with .wh. mean removal in an image's layers")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_parents(by_path: Mapping[str, Entry]) -> None:
    """Refuse entries whose parent is missing or no directory."""
    known = ""
    for path in by_path:
        parent = path.rpartition("/")[0]
        if parent == known or not parent:
            continue
        above = by_path.get(parent)
        if above is None:
            raise TreeError(f"/{path} has no parent directory in the tree")
        if above.kind != "d":
            raise TreeError(f"/{path} lies below /{parent}, which is no directory")
        known = parent


# Listings: one line an entry, fields between tabs, the path last; %XX for bytes that would break it.

_UNSAFE = re.compile(r"[\x00-\x1f%\x7f]")
_ESCAPE = re.compile(r"%(..)")
_TEXT = re.compile(r"[^\x00-\x1f%\x7f]*(?:%(?:[01][0-9A-F]|25|7F)[^\x00-\x1f%\x7f]*)*")
_HEAD = re.compile(r"(0|[1-7][0-7]{0,3})\t(0|[1-9][0-9]*):(0|[1-9][0-9]*)")
_BYTES = re.compile(r"(?:[0-9a-f][0-9a-f])+")


def escape(text: str) -> bytes:
    """Write a path so that it holds no control character: ``%XX`` for those and for ``%``."""
    return _escaped(text).encode()


def unescape(data: bytes) -> str:
    """Read what ``escape`` wrote; raises ValueError for anything else."""
    return _unescaped(data.decode())


def _escaped(text: str) -> str:
    if text.isprintable() and "%" not in text:
        return text
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", text)


def _unescaped(text: str) -> str:
    if text.isprintable() and "%" not in text:
        return text
    if not _TEXT.fullmatch(text):
        raise ValueError("not escaped as it should be")
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)


def _line(entry: Entry) -> str:
    path, kind, mode, uid, gid, size, digest, target, capability = entry
    if not path.isprintable() or "%" in path:
        path = _escaped(path)
    if kind == "f":
        assert digest is not None
        held = capability.hex() if capability else "-"
        return f"f\t{mode:o}\t{uid}:{gid}\t{size}\t{digest.hex}\t{held}\t{path}\n"
    if kind == "l":
        return f"l\t{mode:o}\t{uid}:{gid}\t{_escaped(target)}\t{path}\n"
    return f"d\t{mode:o}\t{uid}:{gid}\t{path}\n"


def _parse(listing: bytes, header: str) -> tuple[list[Entry], list[str]]:
    """Read a listing, refusing all that ``listing`` would not write, so that reading is one-to-one."""
    try:
        text = listing.decode()
    except UnicodeDecodeError:
        raise TreeError("a listing that is not UTF-8") from None
    if not text.startswith(header):
        raise TreeError(f"not a listing that begins with {header.strip()!r}")
    if not text.endswith("\n"):
        raise TreeError("a listing that is cut off")
    read = _Reader()
    entries: list[Entry] = []
    whiteouts: list[str] = []
    for number, line in enumerate(text.split("\n")[1:-1], start=2):
        try:
            fields = line.split("\t")
            if fields[0] == "w":
                (_, gone) = fields
                whiteouts.append(_unescaped(gone))
                _check_path(whiteouts[-1])
            elif whiteouts:
                raise ValueError("an entry after a whiteout")
            else:
                entry = read.entry(fields)
                _check(entry)
                entries.append(entry)
        except ValueError:
            raise TreeError(f"line {number} of a listing makes no sense: {line[:200]!r}") from None
    for paths in ([entry.path for entry in entries], whiteouts):
        if not all(map(operator.lt, paths, itertools.islice(paths, 1, None))):
            raise TreeError("a listing that is not in order")
    return entries, whiteouts


class _Reader:
    """Reads lines of one listing; modes and owners are few, so each pair is read once."""

    def __init__(self) -> None:
        self._heads: dict[tuple[str, str], tuple[int, int, int]] = {}

    def entry(self, fields: list[str]) -> Entry:
        """Make an entry of the fields of a line; raises ValueError where they are none."""
        kind = fields[0]
        pair = (fields[1], fields[2]) if len(fields) > 3 else ("", "")
        mode, uid, gid = self._heads.get(pair) or self._head(pair)
        if kind == "f":
            _, _, _, size, digits, held, path = fields
            if not size.isdecimal() or not size.isascii() or (size[0] == "0" and size != "0"):
                raise ValueError("no size")
            if len(digits) != 64 or digits.strip(HEX_DIGITS):
                raise ValueError("no digest")
            if held != "-" and not _BYTES.fullmatch(held):
                raise ValueError("no capability")
            capability = b"" if held == "-" else bytes.fromhex(held)
            if not path.isprintable() or "%" in path:
                path = _unescaped(path)
            digest = Digest.trusted(digits)
            return Entry(path, "f", mode, uid, gid, int(size), digest, "", capability)
        if kind == "l":
            _, _, _, target, path = fields
            return Entry(_unescaped(path), "l", mode, uid, gid, 0, None, _unescaped(target))
        _, _, _, path = fields
        if kind != "d":
            raise ValueError("an unknown kind")
        return Entry(_unescaped(path), "d", mode, uid, gid)

    def _head(self, pair: tuple[str, str]) -> tuple[int, int, int]:
        match = _HEAD.fullmatch("\t".join(pair))
        if match is None:
            raise ValueError("no mode and owner")
        head = self._heads[pair] = int(match[1], 8), int(match[2]), int(match[3])
        return head
