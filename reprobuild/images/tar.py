"""Layers as tar streams, byte for byte as ``docs/layer-format.md`` specifies.

Knows nothing of compression, images or stores: bodies come from whoever opens them by digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

from reprobuild.digest import BUFFER_SIZE, Digest
from reprobuild.errors import CheckFailedError
from reprobuild.tree import NORMAL_TIME, Entry, Layer, TreeError

BLOCK = 512
END = bytes(2 * BLOCK)
"""What ends an archive: two blocks of zeros, and nothing after them."""
WHITEOUT = ".wh."
"""What begins the name of an empty file that stands for a removed path (OCI image specification,
layer.md, "Whiteouts")."""

EMPTY = Digest.of(b"")

LONGEST_NAME = 100
LONGEST_PREFIX = 155
LARGEST_SIZE = 0o77777777777
LARGEST_ID = 0o7777777

OpenBlob = Callable[[Digest], BinaryIO]


class Sink(Protocol):
    """Takes bytes, all of them: a buffered file, a blob's writer, a pipe's end."""

    def write(self, data: bytes, /) -> object:
        """Take bytes."""


def write_layer(
    layer: Layer, open_blob: OpenBlob, out: Sink | None = None, *, verify: bool = True
) -> tuple[Digest, int]:
    """Write a layer's tar stream; give its ``diff_id`` and its size in bytes.

    ``open_blob`` gives an open file for a body's digest; ``out`` may be None, to learn the digest
    alone. Memory stays flat. With ``verify`` each body is hashed on the way too; leave that out only
    where the ``diff_id`` is compared with one that is known. Raises CheckFailedError for a body that
    is not what the layer says, TreeError for an entry that the format cannot hold.
    """
    hasher = hashlib.sha256()
    size = 0
    for chunk in layer_chunks(layer, open_blob, verify=verify):
        hasher.update(chunk)
        size += len(chunk)
        if out is not None:
            out.write(chunk)
    return Digest(hasher.hexdigest()), size


def layer_chunks(layer: Layer, open_blob: OpenBlob, *, verify: bool = True) -> Iterator[bytes]:
    """Give a layer's tar stream in pieces of some 256 KiB, as ``write_layer`` writes it."""
    pieces: list[bytes] = []
    waiting = 0
    for head, entry in _members(layer):
        pieces.append(head)
        waiting += len(head)
        if entry is None or entry.digest is None:
            continue
        if entry.size > BUFFER_SIZE:
            yield b"".join(pieces)
            yield from _large_body(entry, entry.digest, open_blob, verify)
            pieces = []
            waiting = 0
        elif entry.size or entry.digest != EMPTY:
            pieces.append(_small_body(entry, entry.digest, open_blob, verify))
            waiting += entry.size
        pieces.append(bytes(-entry.size % BLOCK))
        if waiting >= BUFFER_SIZE:
            yield b"".join(pieces)
            pieces = []
            waiting = 0
    pieces.append(END)
    yield b"".join(pieces)


def layer_size(layer: Layer) -> int:
    """Give the size in bytes of a layer's tar stream, without reading a body."""
    return len(END) + sum(
        len(head) + (entry.size + -entry.size % BLOCK if entry is not None else 0)
        for head, entry in _members(layer)
    )


def member_header(name: str, size: int, mode: int = 0o644, kind: str = "f") -> bytes:
    """Give the header of a file or a directory (``d``) that belongs to no tree, by the same rules.

    For archives around layers; raises TreeError where the format cannot hold it.
    """
    return _header(name, mode, 0, 0, size, b"0" if kind == "f" else b"5", "", b"")


def _members(layer: Layer) -> Iterator[tuple[bytes, Entry | None]]:
    """Give header and entry in the order of the stream; None for a whiteout."""
    directories = {""}
    whiteouts = iter(layer.whiteouts)
    gone = next(whiteouts, None)
    for entry in layer.entries:
        while gone is not None and gone < entry.path:
            yield whiteout_header(gone, directories), None
            gone = next(whiteouts, None)
        path = entry.path
        if path.rpartition("/")[0] not in directories:
            raise TreeError(f"the layer holds /{path} without the directory that it is in")
        if entry.kind == "d":
            directories.add(path)
        yield entry_header(entry), entry
    while gone is not None:
        yield whiteout_header(gone, directories), None
        gone = next(whiteouts, None)


_TYPES = {"f": b"0", "l": b"2", "d": b"5"}


def entry_header(entry: Entry) -> bytes:
    """Give the headers of an entry's member. Raises TreeError where the format cannot hold it."""
    path, kind, mode, uid, gid, size, _, target, capability = entry
    if path.startswith(WHITEOUT) or "/.wh." in path:
        raise TreeError(f"/{path}: names that begin with .wh. mean removal in an image's layers")
    name = path + "/" if kind == "d" else path
    return _header(name, mode, uid, gid, size, _TYPES[kind], target, capability)


def whiteout_header(path: str, directories: set[str]) -> bytes:
    """Give the headers of a removed path's member; ``directories``: those that the layer has so far."""
    parent, slash, name = path.rpartition("/")
    if parent not in directories:
        raise TreeError(f"the layer removes /{path} without the directory that it is in")
    return _header(parent + slash + WHITEOUT + name, 0o644, 0, 0, 0, b"0", "", b"")


_CONSTANT_TAIL = b"ustar\x0000" + bytes(64) + b"0000000\x000000000\x00"
"""Magic, version, empty user and group names, device numbers of nothing."""
_TIME = b"%011o\x00" % NORMAL_TIME


def _header(
    name: str, mode: int, uid: int, gid: int, size: int, kind: bytes, target: str, capability: bytes
) -> bytes:
    """Give the block of a member, after the pax header where ustar cannot say it all."""
    try:
        path = name.encode()
        linkpath = target.encode()
    except UnicodeEncodeError:
        raise TreeError(f"{name!r}: the name, or where the link points, is not UTF-8") from None
    if uid > LARGEST_ID or gid > LARGEST_ID or uid < 0 or gid < 0:
        raise TreeError(f"/{name} belongs to {uid}:{gid}; a layer holds numbers up to {LARGEST_ID}")
    prefix = b""
    short = path
    records: dict[bytes, bytes] = {}
    if capability:
        records[b"SCHILY.xattr.security.capability"] = capability
    if not linkpath.isascii() or len(linkpath) > LONGEST_NAME:
        records[b"linkpath"] = linkpath
        linkpath = linkpath[:LONGEST_NAME]
    if not path.isascii():
        records[b"path"] = path
        short = path[:LONGEST_NAME]
    elif len(path) > LONGEST_NAME:
        # The first slash after which the rest fits; a directory's last slash is part of its name.
        cut = path.find(b"/", len(path) - LONGEST_NAME - 1, -1)
        if 0 < cut <= LONGEST_PREFIX:
            prefix, short = path[:cut], path[cut + 1 :]
        else:
            records[b"path"] = path
            short = path[:LONGEST_NAME]
    if size > LARGEST_SIZE:
        records[b"size"] = b"%d" % size
        size = 0
    block = _block(short, mode, uid, gid, size, kind, linkpath, prefix)
    return _pax(records) + block if records else block


def _block(
    name: bytes, mode: int, uid: int, gid: int, size: int, kind: bytes, linkpath: bytes, prefix: bytes
) -> bytes:
    before = b"%b%07o\x00%07o\x00%07o\x00%011o\x00%b" % (
        name.ljust(100, b"\0"),
        mode,
        uid,
        gid,
        size,
        _TIME,
    )
    after = b"%b%b%b%b" % (kind, linkpath.ljust(100, b"\0"), _CONSTANT_TAIL, prefix.ljust(167, b"\0"))
    # The checksum counts its own eight bytes as spaces (POSIX.1-2017, pax, "ustar Interchange Format").
    return b"%b%06o\x00 %b" % (before, sum(before) + sum(after) + 8 * 32, after)


def _pax(records: dict[bytes, bytes]) -> bytes:
    body = b"".join(_record(key, records[key]) for key in sorted(records))
    head = _block(b"././@PaxHeader", 0o644, 0, 0, len(body), b"x", b"", b"")
    return head + body + bytes(-len(body) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    """Write ``LENGTH KEY=VALUE`` and a line end, the length counting its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _small_body(entry: Entry, digest: Digest, open_blob: OpenBlob, verify: bool) -> bytes:
    with open_blob(digest) as file:
        data = file.read(entry.size + 1)
        while 0 < len(data) < entry.size and (more := file.read(entry.size + 1 - len(data))):
            data += more
    if len(data) != entry.size:
        raise _wrong_size(entry, len(data))
    if verify and hashlib.sha256(data).hexdigest() != digest.hex:
        raise _wrong_digest(entry)
    return data


def _large_body(entry: Entry, digest: Digest, open_blob: OpenBlob, verify: bool) -> Iterator[bytes]:
    hasher = hashlib.sha256()
    left = entry.size
    with open_blob(digest) as file:
        while data := file.read(min(BUFFER_SIZE, left + 1)):
            left -= len(data)
            if left < 0:
                break
            if verify:
                hasher.update(data)
            yield data
    if left:
        raise _wrong_size(entry, entry.size - left)
    if verify and hasher.hexdigest() != digest.hex:
        raise _wrong_digest(entry)


def _wrong_size(entry: Entry, got: int) -> CheckFailedError:
    amount = f"more than {entry.size}" if got > entry.size else str(got)
    return CheckFailedError(
        f"/{entry.path}: the blob {entry.digest} has {amount} bytes where {entry.size} were promised",
        "reprobuild audit --all tells what else is damaged",
    )


def _wrong_digest(entry: Entry) -> CheckFailedError:
    return CheckFailedError(
        f"/{entry.path}: the blob {entry.digest} holds other bytes than its digest says",
        "reprobuild audit --all tells what else is damaged",
    )
