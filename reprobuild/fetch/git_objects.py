"""Objects of a git repository as data: a commit's files, without a work tree, filters or attributes.

Format: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects. What git gives under a name has that name,
since its packs were indexed here. Knows nothing of submodules, of LFS, nor of where objects came from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal

from reprobuild.errors import CheckFailedError, UpstreamError

if TYPE_CHECKING:
    from pathlib import Path

    from reprobuild.fetch.git_program import Git

MOST_FILES = 2_000_000
"""Entries of one commit: some thousand bytes of trees can stand for any number."""
MOST_PATH = 4095
"""Bytes of a path (Linux: PATH_MAX)."""
MOST_LINK = 4095

Kind = Literal["file", "program", "link", "folder", "commit"]
_KINDS: dict[bytes, Kind] = {
    b"100644": "file",
    b"100664": "file",
    b"100755": "program",
    b"120000": "link",
    b"40000": "folder",
    b"040000": "folder",
    b"160000": "commit",
}
_GIT_FOLDER = re.compile(r"\.git[. ]*(::.*)?|git~1", re.IGNORECASE)


class HostileTreeError(CheckFailedError):
    """A commit with a path that no file system should be given; the message names it."""


@dataclass(frozen=True, slots=True)
class Item:
    """One path of a commit."""

    path: str
    kind: Kind
    """``commit``: the place of a submodule."""
    name: str
    """The object, in hex digits."""


class Body:
    """A blob's bytes as they come out of git: a binary file that ends where the blob does."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        self._source = source
        self.size = size
        self.left = size

    def read(self, size: int = -1) -> bytes:
        """Give at most ``size`` bytes, all that is left for -1."""
        data = self._source.read(self.left if size < 0 else min(size, self.left))
        if not data and self.left and size:
            raise UpstreamError("git ended in the middle of an object")
        self.left -= len(data)
        return data


def read_commit(git: Git, commit: str, scratch: Path) -> list[Item]:
    """Give all paths of a commit, folders before what is in them, sorted.

    Raises HostileTreeError, naming the path; UpstreamError where the repository has not all of it.
    """
    (tree,) = re.findall(rb"\Atree ([0-9a-f]+)\n", _whole(git, commit, "commit", scratch))
    found: list[Item] = []
    level = [("", tree.decode())]
    while level:
        raw: dict[str, bytes] = {}
        for name, body in read_objects(git, {one for _, one in level}, "tree", scratch):
            raw[name] = body.read()
        deeper = []
        for path, name in level:
            items = list(_items(path, raw[name], len(name) // 2))
            if len(found) + len(items) > MOST_FILES:
                raise HostileTreeError(f"the commit {commit} has more than {MOST_FILES:,} files")
            found += items
            deeper += [(item.path, item.name) for item in items if item.kind == "folder"]
        level = deeper
    return sorted(found, key=lambda item: item.path)


def read_objects(git: Git, names: Iterable[str], kind: str, scratch: Path) -> Iterator[tuple[str, Body]]:
    """Give objects of a kind, each with its body, which is read before the next one is asked for.

    Raises UpstreamError for one that is not there or of another kind.
    """
    asked = scratch / "asked"
    wanted = list(names)
    asked.write_text("".join(f"{name}\n" for name in wanted))
    with asked.open("rb") as stdin, git.reading("cat-file", "--batch", "--buffer", stdin=stdin) as output:
        for name in wanted:
            head = output.readline(256).split()
            if len(head) != 3 or head[1] != kind.encode():
                what = head[1].decode() if len(head) == 3 else "missing"
                raise UpstreamError(f"the repository's object {name} is {what}, and a {kind} is needed")
            body = Body(output, int(head[2]))
            yield name, body
            while body.left:
                body.read(1 << 16)
            output.read(1)


def kind_of(git: Git, name: str) -> str:
    """Give what an object is (``commit``, ``tag``, …), or ``""`` where there is none of that name."""
    try:
        return git.run("cat-file", "-t", name).decode().strip()
    except UpstreamError:
        return ""


def _whole(git: Git, name: str, kind: str, scratch: Path) -> bytes:
    for _, body in read_objects(git, [name], kind, scratch):
        return body.read()
    raise UpstreamError(f"the repository has no {kind} {name}")


def _items(folder: str, raw: bytes, width: int) -> Iterator[Item]:
    """Read a tree object: mode, space, name, NUL, object name in ``width`` bytes, again and again."""
    names: set[str] = set()
    at = 0
    while at < len(raw):
        space, end = raw.find(b" ", at), raw.find(b"\0", at)
        if not at < space < end or end + 1 + width > len(raw):
            raise HostileTreeError(f"/{folder}: its tree object makes no sense")
        mode, name = raw[at:space], raw[space + 1 : end]
        at = end + 1 + width
        shown = f"/{folder}/".replace("//", "/") + repr(name)[2:-1]
        kind = _KINDS.get(mode)
        if kind is None:
            raise HostileTreeError(
                f"{shown} has the mode {mode.decode(errors='replace')}, which means nothing"
            )
        text = _checked(name, shown)
        if text in names:
            raise HostileTreeError(f"{shown} is in its folder twice")
        names.add(text)
        path = f"{folder}/{text}" if folder else text
        if len(path.encode()) > MOST_PATH:
            raise HostileTreeError(f"{shown[:200]}… is longer than a path can be")
        yield Item(path, kind, raw[end + 1 : at].hex())


def _checked(name: bytes, shown: str) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise HostileTreeError(f"{shown}: the name is not UTF-8") from None
    if text in ("", ".", "..") or "/" in text or "\\" in text or len(name) > 255:
        raise HostileTreeError(f"{shown}: no name of a file")
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise HostileTreeError(f"{shown}: a name with control characters")
    if _GIT_FOLDER.fullmatch(text):
        raise HostileTreeError(f"{shown}: git itself lives under such a name, and no commit may bring it")
    if text.startswith(".wh."):
        raise HostileTreeError(f"{shown}: names that begin with .wh. mean removal in an image's layers")
    return text


def link_target(body: bytes, path: str) -> str:
    """Read a symbolic link's target. Raises HostileTreeError for what is no path."""
    try:
        target = body.decode()
    except UnicodeDecodeError:
        target = ""
    if not target or "\0" in target or len(body) > MOST_LINK:
        raise HostileTreeError(f"/{path} is a link to what is no path: {body[:80]!r}")
    return target


def parse_config(git: Git, text: bytes, scratch: Path) -> dict[str, str]:
    """Read a file in the form of git's settings (``.gitmodules``): name → value. Raises UpstreamError."""
    asked = scratch / "settings"
    asked.write_bytes(text)
    listed = git.run("config", "--no-includes", "--null", "--list", "--file", str(asked))
    pairs: Sequence[str] = listed.decode(errors="replace").split("\0")[:-1]
    return {name: value for name, _, value in (pair.partition("\n") for pair in pairs)}
