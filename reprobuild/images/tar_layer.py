"""Layers read back from their tar streams: what ``tar`` writes, and nothing else.

The format leaves no choice (``docs/layer-format.md``), so each header is made again and compared: a stream
that is read here is the one that its layer is written as. Knows nothing of compression, nor of where
bodies go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NoReturn, Protocol

from reprobuild.digest import BUFFER_SIZE, Digest
from reprobuild.errors import CheckFailedError
from reprobuild.images.tar import BLOCK, END, WHITEOUT, entry_header, whiteout_header
from reprobuild.tree import Entry, Kind, Layer, TreeError

LARGEST_PAX = 1024 * 1024
"""Bytes of the records before a member."""
MOST_MEMBERS = 2_000_000

_KINDS: dict[bytes, Kind] = {b"0": "f", b"2": "l", b"5": "d"}
_PAX = b"x"
_CAPABILITY = b"SCHILY.xattr.security.capability"
_NOT_OURS = "it was not made by reprobuild, or was changed since: take it from whoever built it"


class Stream(Protocol):
    """What a layer is read from: a binary file, or something that unpacks one."""

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes, ``b""`` at the end."""


TakeBody = Callable[[Stream], tuple[Digest, int]]
"""Takes the body of a file, and reads it to its end; gives digest and size in bytes."""


def read_layer(stream: Stream, take_body: TakeBody) -> tuple[Layer, Digest, int]:
    """Read a layer's tar stream; give the layer, its ``diff_id``, and the stream's size in bytes.

    Raises CheckFailedError, naming the member, for whatever is not exactly in the format.
    """
    source = _Source(stream)
    members = _Members()
    while (header := _next_header(source, members.last)) is not None:
        members.add(header, source, take_body)
    source.end(members.last)
    return members.layer(), Digest(source.hasher.hexdigest()), source.size


class _Source:
    """A stream, hashed, cut to size, and ended where its archive ends."""

    def __init__(self, stream: Stream) -> None:
        self._read = stream.read
        self._data = b""
        self._position = 0
        self.hasher = hashlib.sha256()
        self.size = 0
        """Bytes that were given out."""

    def _fill(self) -> bool:
        self._data, self._position = self._read(BUFFER_SIZE), 0
        self.hasher.update(self._data)
        return bool(self._data)

    def some(self, most: int) -> bytes:
        """Give one to ``most`` bytes; ``b""`` at the end of the stream."""
        if self._position >= len(self._data) and not self._fill():
            return b""
        found = self._data[self._position : self._position + most]
        self._position += len(found)
        self.size += len(found)
        return found

    def take(self, size: int, last: str) -> bytes:
        """Give exactly ``size`` bytes; ``last``: the member that errors name."""
        found = self.some(size) if size else b""
        while len(found) < size:
            more = self.some(size - len(found))
            if not more:
                _refuse("it is cut off", last)
            found += more
        return found

    def end(self, last: str) -> None:
        """See that nothing follows."""
        if self.some(1):
            _refuse("something follows its end", last)


class _Body:
    """The body of a file, as a binary file."""

    def __init__(self, source: _Source, size: int, path: str) -> None:
        self._source = source
        self._left = size
        self._path = path

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes, ``b""`` at the end."""
        wanted = min(size, self._left)
        if not wanted:
            return b""
        data = self._source.some(wanted)
        if not data:
            _refuse("it is cut off", self._path)
        self._left -= len(data)
        return data


def _next_header(source: _Source, last: str) -> bytes | None:
    """Give the blocks before a member's body, pax records included; None at the end of the archive."""
    block = source.take(BLOCK, last)
    if block == END[:BLOCK]:
        if source.take(BLOCK, last) != END[BLOCK:]:
            _refuse("it does not end as it should", last)
        return None
    if block[156:157] != _PAX:
        return block
    size = _octal(block[124:135], last)
    if size > LARGEST_PAX:
        _refuse(f"a header of {size:,} bytes", last)
    return block + source.take(size + -size % BLOCK, last) + source.take(BLOCK, last)


class _Members:
    """Collects the members of a layer in their order."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._whiteouts: list[str] = []
        self._directories = {""}
        self.last = ""
        """The path of the member before."""

    def layer(self) -> Layer:
        """Give what has been collected."""
        try:
            layer = Layer(self._entries, self._whiteouts)
        except TreeError as error:
            _refuse(error.message, "")
        if not layer:
            _refuse("it is empty", "")
        return layer

    def add(self, header: bytes, source: _Source, take_body: TakeBody) -> None:
        """Take a member, whose body comes next in the stream."""
        entry, is_whiteout = _parse(header, self.last)
        path = entry.path
        try:
            expected = whiteout_header(path, self._directories) if is_whiteout else entry_header(entry)
        except TreeError as error:
            _refuse(error.message, path)
        if expected != header:
            _refuse("its header is another than reprobuild writes", path)
        if path <= self.last:
            _refuse("it is out of order, or there twice", path)
        if path.rpartition("/")[0] not in self._directories:
            _refuse("the directory that it is in is missing", path)
        if len(self._entries) + len(self._whiteouts) >= MOST_MEMBERS:
            _refuse(f"more than {MOST_MEMBERS:,} members", path)
        self.last = path
        if is_whiteout:
            self._whiteouts.append(path)
            return
        if entry.kind == "d":
            self._directories.add(path)
        elif entry.kind == "f":
            digest, size = take_body(_Body(source, entry.size, path))
            assert size == entry.size
            if any(source.take(-size % BLOCK, path)):
                _refuse("bytes between it and the next member", path)
            entry = entry._replace(digest=digest)
        self._entries.append(entry)


def _parse(header: bytes, last: str) -> tuple[Entry, bool]:
    """Read a member's entry, without its body's digest, and whether it stands for a removed path.

    What is read carelessly here is found when the header is made again.
    """
    block = header[-BLOCK:]
    records = _records(header, last) if len(header) > BLOCK else {}
    kind = _KINDS.get(block[156:157])
    if kind is None:
        _refuse(f"a member of type {block[156:157]!r}", last)
    name = records.get(b"path") or _text(block[:100])
    if block[345:346] != b"\0" and b"path" not in records:
        name = _text(block[345:500]) + b"/" + name
    target = b""
    if kind == "l":
        target = records.get(b"linkpath") or _text(block[157:257])
    try:
        path = name.decode()
        size = int(records[b"size"]) if b"size" in records else _octal(block[124:135], last)
        entry = Entry(
            path.removesuffix("/") if kind == "d" else path,
            kind,
            _octal(block[100:107], last),
            _octal(block[108:115], last),
            _octal(block[116:123], last),
            size,
            target=target.decode(),
            capability=records.get(_CAPABILITY, b""),
        )
    except ValueError:
        _refuse("a header that makes no sense", last)
    parent, slash, bare = entry.path.rpartition("/")
    if bare.startswith(WHITEOUT):
        return entry._replace(path=parent + slash + bare.removeprefix(WHITEOUT)), True
    return entry, False


def _records(header: bytes, last: str) -> dict[bytes, bytes]:
    """Read the pax records of a member: ``LENGTH KEY=VALUE`` and a line end, one after another."""
    found = {}
    data = header[BLOCK : BLOCK + _octal(header[124:135], last)]
    while data:
        length = data[:9].partition(b" ")[0]
        end = int(length) if length.isdigit() else 0
        key, equals, value = data[len(length) + 1 : max(end - 1, 0)].partition(b"=")
        if not equals:
            _refuse("a header that makes no sense", last)
        found[key] = value
        data = data[end:]
    return found


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _octal(field: bytes, last: str) -> int:
    try:
        return int(field, 8)
    except ValueError:
        _refuse("a header that makes no sense", last)


def _refuse(what: str, path: str) -> NoReturn:
    where = f"at or after /{path}: " if path else ""
    raise CheckFailedError(f"the layer is not in reprobuild's layer format: {where}{what}", _NOT_OURS)
