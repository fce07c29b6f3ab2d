"""Tar streams, read forwards and never onto a file system: members with their bodies, in order.

Reads V7, ustar, GNU (long names, base-256 numbers) and pax archives (POSIX.1-2017, pax, "ustar
Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar Format"). Knows nothing of
compression, nor of where members go. Whatever is damaged, cut off or cannot be in an image (devices,
sparse files, names that lead upwards or are no UTF-8) ends in an ArchiveError that names the member.

Our own because ``tarfile`` spends its time on each member: with thousands of small files that is most of it.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from reprobuild.images.archive import ArchiveError, Kind, Member, Stream, clean_path, decoded, shown

BLOCK = 512
READ_SIZE = 256 * 1024
HEADERS = 4096
"""Bytes read at a time where bodies are passed over."""
LONGEST_NAME = 64 * 1024
LARGEST_HEADER = 8 * 1024 * 1024
"""Bytes of one pax header."""

_KINDS: Mapping[bytes, Kind] = {
    b"0": "f",
    b"\0": "f",
    b"7": "f",
    b"1": "h",
    b"2": "l",
    b"5": "d",
}
_REFUSED = {
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a fifo",
    b"S": "a sparse file",
    b"M": "the continuation of a file on another volume",
    b"D": "a dump of a directory",
    b"N": "a table of names of an old GNU tar",
}
_SPECIAL = (b"3", b"4", b"6")
_CAPABILITY = "SCHILY.xattr.security.capability"
_CAPABILITY_BASE64 = "LIBARCHIVE.xattr.security.capability"
_ZERO_BLOCK = bytes(BLOCK)
CUT_OFF = "the archive is cut off"
AGAIN = "take it from its source again"


class Body:
    """The body of a member: readable until the next member is asked for."""

    __slots__ = ("_blocks", "_path", "left")

    def __init__(self, blocks: _Blocks, size: int, path: str) -> None:
        self._blocks = blocks
        self._path = path
        self.left = size
        """Bytes not yet read."""

    def read(self, size: int = -1) -> bytes:
        """Give at most ``size`` bytes, all that is left for a negative size, ``b""`` at the end.

        Raises ArchiveError where the archive is cut off.
        """
        if size < 0 or size > self.left:
            size = self.left
        try:
            data = self._blocks.take(size)
        except ArchiveError as error:
            raise _named(error, self._path) from None
        self.left -= size
        return data

    def readinto(self, buffer: memoryview | bytearray) -> int:
        """Fill a buffer as far as there are bytes; give how many."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Blocks:
    """A stream cut to size; the end of it is an error here."""

    __slots__ = ("_data", "_position", "_read")

    def __init__(self, stream: Stream) -> None:
        self._read = stream.read
        self._data = b""
        self._position = 0

    def take(self, size: int) -> bytes:
        """Give exactly ``size`` bytes."""
        start = self._position
        end = start + size
        if end <= len(self._data):
            self._position = end
            return self._data[start:end]
        parts = [self._data[start:]]
        missing = size - len(parts[0])
        self._data, self._position = b"", 0
        while missing > 0:
            chunk = self._read(max(READ_SIZE, min(missing, 16 * READ_SIZE)))
            if not chunk:
                raise ArchiveError(CUT_OFF, AGAIN)
            if len(chunk) > missing:
                self._data, self._position = chunk, missing
                chunk = chunk[:missing]
            parts.append(chunk)
            missing -= len(chunk)
        return b"".join(parts)

    def is_at_end(self) -> bool:
        """Tell whether nothing more comes."""
        if self._position >= len(self._data):
            self._data, self._position = self._read(READ_SIZE), 0
        return not self._data

    def skip(self, size: int) -> None:
        """Pass over bytes without keeping them."""
        while size > 0:
            step = min(size, READ_SIZE)
            self.take(step)
            size -= step

    def drain(self) -> None:
        """Read on to the end of the stream, so that what unpacks it checks its last bytes."""
        self._data = b""
        while self._read(READ_SIZE):
            continue


class _FileBlocks(_Blocks):
    """The same of a file in which one can go forwards without reading."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._read = lambda size: file.read(min(size, HEADERS))

    @property
    def offset(self) -> int:
        """Where in the file the next byte is."""
        return self._file.tell() - len(self._data) + self._position

    def skip(self, size: int) -> None:
        if self.offset + size > self._size:
            raise ArchiveError(CUT_OFF, AGAIN)
        self._file.seek(self.offset + size)
        self._data, self._position = b"", 0

    def drain(self) -> None:
        return


def read_tar(
    stream: Stream, *, is_layer: bool = False, any_bytes: bool = False
) -> Iterator[tuple[Member, Body]]:
    """Give members with their bodies; a body that is not read is passed over.

    ``is_layer``: as container engines read an image's layers: devices and fifos are given as such, a name
    may begin with a slash, and the two blocks at the end may be missing. ``any_bytes``: names that are no
    UTF-8 are read too, with lone surrogates. Raises ArchiveError, naming the member.
    """
    return _members(_Blocks(stream), is_layer=is_layer, any_bytes=any_bytes)


def index_tar(file: BinaryIO) -> Iterator[tuple[Member, int]]:
    """Give members with where their bodies begin in the file, of which headers alone are read.

    Raises ArchiveError.
    """
    blocks = _FileBlocks(file)
    for member, _ in _members(blocks, is_layer=False, any_bytes=False):
        yield member, blocks.offset


def _members(blocks: _Blocks, *, is_layer: bool, any_bytes: bool) -> Iterator[tuple[Member, Body]]:
    everywhere: dict[str, bytes] = {}
    here: dict[str, bytes] = {}
    last = ""
    try:
        while True:
            if is_layer and blocks.is_at_end():
                return
            header = blocks.take(BLOCK)
            if header == _ZERO_BLOCK:
                blocks.drain()
                return
            flag = _checked_flag(header, last)
            size = _number(header[124:136], "size", last)
            if flag in b"xXgLK":
                _read_extension(flag, blocks, size, here, everywhere, last)
                continue
            records = {**everywhere, **here} if everywhere else here
            member = _member(header, flag, size, records, is_layer=is_layer, any_bytes=any_bytes)
            if here:
                here = {}
            if member is None:
                blocks.skip(_padded(size))
                continue
            last = member.path
            size = member.size
            body = Body(blocks, size, last)
            yield member, body
            if size:
                blocks.skip(body.left + -size % BLOCK)
    except ArchiveError as error:
        raise _named(error, last) from None


def _named(error: ArchiveError, last: str) -> ArchiveError:
    """Say where an archive is cut off."""
    if last and error.message == CUT_OFF:
        return ArchiveError(f"{CUT_OFF}, in or after {last!r}", error.hint)
    return error


def _padded(size: int) -> int:
    return size + -size % BLOCK


def _checked_flag(header: bytes, last: str) -> bytes:
    """Give the type of a header whose sum is right."""
    expected = _number(header[148:156], "checksum", last)
    total = sum(header) - sum(header[148:156]) + 256
    if total != expected and _signed_sum(header) != expected:
        if not last:
            raise ArchiveError("this is no tar archive: the checksum of its first header is wrong")
        raise ArchiveError(f"the archive is damaged: a wrong checksum in the header after {last!r}")
    return header[156:157]


def _signed_sum(header: bytes) -> int:
    """Add bytes as signed, as some old programs did."""
    rest = header[:148] + header[156:]
    return sum(byte - 256 if byte > 127 else byte for byte in rest) + 256


def _number(field: bytes, what: str, last: str) -> int:
    """Read octal digits, or GNU's base-256."""
    if field[0] in (0x80, 0xFF):
        value = int.from_bytes(field[1:], "big")
        if field[0] == 0xFF:
            value -= 256 ** (len(field) - 1)
    else:
        digits = field.split(b"\0", 1)[0].strip()
        try:
            value = int(digits, 8) if digits else 0
        except ValueError:
            value = -1
        if digits[:1] in (b"-", b"+") or b"_" in digits:
            value = -1
    if value < 0:
        raise ArchiveError(
            "this is no tar archive" if not last else f"the archive is damaged: no {what} after {last!r}"
        )
    return value


def _read_extension(
    flag: bytes,
    blocks: _Blocks,
    size: int,
    here: dict[str, bytes],
    everywhere: dict[str, bytes],
    last: str,
) -> None:
    """Read what says more of the next member: a GNU long name, or pax records."""
    most = LONGEST_NAME if flag in b"LK" else LARGEST_HEADER
    if size > most:
        raise ArchiveError(f"the archive has a header of {size:,} bytes after {last!r}; {most:,} are read")
    data = blocks.take(_padded(size))[:size]
    if flag in b"LK":
        here["path" if flag == b"L" else "linkpath"] = data.split(b"\0", 1)[0]
    else:
        (everywhere if flag == b"g" else here).update(_pax_records(data, last))


def _pax_records(data: bytes, last: str) -> Iterator[tuple[str, bytes]]:
    """Read ``<length> <key>=<value>\\n`` as often as it stands there."""
    position = 0
    while position < len(data) and data[position]:
        space = data.find(b" ", position, position + 20)
        length = data[position:space]
        end = position + int(length) if space > 0 and length.isdigit() else 0
        if end <= space + 1 or end > len(data) or data[end - 1 : end] != b"\n":
            raise ArchiveError(f"the archive is damaged: a pax header that makes no sense after {last!r}")
        key, separator, value = data[space + 1 : end - 1].partition(b"=")
        if not separator:
            raise ArchiveError(f"the archive is damaged: a pax record without a value after {last!r}")
        yield key.decode("utf-8", "replace"), value
        position = end


def _member(
    header: bytes,
    flag: bytes,
    size: int,
    records: Mapping[str, bytes],
    *,
    is_layer: bool,
    any_bytes: bool,
) -> Member | None:
    """Make a member of a header and what was said before it; None for what only labels a volume."""
    if "path" in records:
        name = records["path"]
    else:
        name = header[:100].split(b"\0", 1)[0]
        # GNU's old format has other fields where ustar has the prefix.
        if header[257:263] == b"ustar\0" and header[345]:
            name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    if flag == b"V":
        return None
    if flag in _REFUSED and not (is_layer and flag in _SPECIAL):
        raise ArchiveError(f"{shown(name)} is {_REFUSED[flag]}, which an image cannot hold")
    kind = "s" if flag in _SPECIAL else _KINDS.get(flag)
    if kind is None:
        raise ArchiveError(f"{shown(name)} is of a type that is not known, {flag!r}")
    if kind == "f" and name.endswith(b"/"):
        kind = "d"  # V7 has no other way to say it
    path = clean_path(name.lstrip(b"/") if is_layer else name, any_bytes=any_bytes)
    if records and any(key.startswith("GNU.sparse.") for key in records):
        raise ArchiveError(f"{path!r} is a sparse file", "pack the archive without --sparse")
    capability = b""
    target = ""
    if kind == "f":
        if "size" in records:
            size = _decimal(records["size"], path)
        if _CAPABILITY in records:
            capability = records[_CAPABILITY]
        elif _CAPABILITY_BASE64 in records:
            capability = _base64(records[_CAPABILITY_BASE64], path)
    else:
        size = 0
        if kind in "hl":
            link = records["linkpath"] if "linkpath" in records else header[157:257].split(b"\0", 1)[0]
            if kind == "h" and is_layer:
                link = link.lstrip(b"/")
            read = clean_path if kind == "h" else decoded
            target = read(link, any_bytes=any_bytes)
            if not target:
                raise ArchiveError(f"{path!r} is a link to nothing")
    return Member(
        path,
        kind,
        _number(header[100:108], "mode", path or "/") & 0o7777,
        _number(header[108:116], "owner", path or "/"),
        _number(header[116:124], "group", path or "/"),
        size,
        target,
        capability,
        _mtime(header, records) if is_layer else 0,
    )


def _mtime(header: bytes, records: Mapping[str, bytes]) -> int:
    """Read whole seconds; a time that makes no sense is no reason to stop."""
    try:
        said = records.get("mtime")
        if said is not None:
            return int(said.partition(b".")[0])
        return _number(header[136:148], "time", "")
    except (ValueError, ArchiveError):
        return 0


def _decimal(value: bytes, path: str) -> int:
    if not value.isdigit() or len(value) > 19:
        raise ArchiveError(f"the archive is damaged: {path!r} has the size {value[:40]!r}")
    return int(value)


def _base64(value: bytes, path: str) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4))
    except binascii.Error:
        raise ArchiveError(f"the archive is damaged: {path!r} has an attribute that is no base64") from None
