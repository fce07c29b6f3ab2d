"""A ``.deb`` read into the store: its entries, its control data, and the few bodies that later work reads.

Knows nothing of other packages nor of the tree. Source of the format: deb(5); its outer shell is an
``ar`` archive of ``debian-binary``, ``control.tar`` and ``data.tar``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, cast

from reprobuild.build.compression import unpacked
from reprobuild.debian.control import ControlError, Stanza, parse_stanza
from reprobuild.derivation.pins import Pin
from reprobuild.images.archive import ArchiveError, Member, Stream
from reprobuild.images.tar_reader import Body, read_tar
from reprobuild.tree import Entry, directory, file, link

if TYPE_CHECKING:
    from reprobuild.store.transaction import Transaction

LARGEST_CONTROL_FILE = 16 * 1024 * 1024
"""Bytes of one file of control data."""
LARGEST_SCRIPT = 256 * 1024
"""Bytes of a maintainer script that are looked at."""

KEPT = (
    "etc/ld.so.conf.d/",
    "usr/lib/R/etc/Renviron.ucf",
    "usr/share/base-files/",
    "usr/share/base-passwd/",
    "usr/share/ca-certificates/",
    "usr/share/debianutils/shells",
    "usr/share/libc-bin/nsswitch.conf",
    "usr/share/readline/inputrc",
)
"""Where files lie whose bytes decide what maintainer scripts would make."""

_MAGIC = b"!<arch>\n"
_HEADER = 60


@dataclass(frozen=True)
class Deb:
    """A package taken apart."""

    name: str
    version: str
    fields: Stanza
    control: dict[str, bytes]
    """Files of ``control.tar`` by name: ``control``, ``md5sums``, ``postinst``…"""
    entries: list[Entry]
    """In the archive's order, at the archive's paths, owned by 0:0."""
    bodies: dict[str, bytes] = field(default_factory=dict)
    """Bytes of the files below ``KEPT``."""

    def script(self, name: str) -> str:
        """Give a maintainer script's text, or empty."""
        return self.control.get(name, b"")[:LARGEST_SCRIPT].decode("utf-8", "replace")


def unpack(archive: BinaryIO, pin: Pin, group: Transaction) -> Deb:
    """Read a ``.deb``; file bodies go into the group. Raises ArchiveError, naming the package's file."""
    try:
        return _unpack(archive, pin, group)
    except (ArchiveError, ControlError) as error:
        raise ArchiveError(f"{pin.name}: {error.message}", error.hint) from None


def _unpack(archive: BinaryIO, pin: Pin, group: Transaction) -> Deb:
    control: dict[str, bytes] = {}
    entries: list[Entry] | None = None
    bodies: dict[str, bytes] = {}
    if archive.read(len(_MAGIC)) != _MAGIC:
        raise ArchiveError("this is no Debian package")
    while header := archive.read(_HEADER):
        name = header[:16].rstrip().rstrip(b"/").decode("ascii", "replace")
        digits = header[48:58].strip()
        if len(header) != _HEADER or header[58:60] != b"`\n" or not digits.isdigit():
            raise ArchiveError("this is no Debian package, or it is cut off")
        size = int(digits)
        end = archive.tell() + size + size % 2
        if name.startswith("control.tar"):
            control = _read_control(_unpacked(archive, size))
        elif name.startswith("data.tar"):
            entries = list(_read_data(_unpacked(archive, size), group, bodies))
            break
        archive.seek(end)
    if entries is None or "control" not in control:
        raise ArchiveError("this Debian package has no data or no control data")
    fields = parse_stanza(control["control"].decode("utf-8", "replace"))
    name, version = fields.get("package", ""), fields.get("version", "")
    wanted = (pin.hashed.get("package", name), pin.hashed.get("version", version))
    if (name, version) != wanted:
        raise ArchiveError(f"it is {name} {version}, not {' '.join(wanted)}")
    return Deb(name, version, fields, control, entries, bodies)


class _Part:
    """The bytes of one member of an ``ar`` archive, as a file."""

    def __init__(self, archive: BinaryIO, size: int) -> None:
        self._archive = archive
        self._left = size

    def read(self, size: int = -1) -> bytes:
        data = self._archive.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data

    def seek(self, offset: int, whence: int) -> int:
        """Go back, as far as was just read."""
        self._left -= offset
        return self._archive.seek(offset, whence)


def _unpacked(archive: BinaryIO, size: int) -> Stream:
    return unpacked(cast(BinaryIO, _Part(archive, size)), size)


def _read_control(stream: Stream) -> dict[str, bytes]:
    found = {}
    for member, body in read_tar(stream):
        if member.kind == "f":
            if member.size > LARGEST_CONTROL_FILE:
                raise ArchiveError(f"its control file {member.path} has {member.size:,} bytes")
            found[member.path] = body.read()
    return found


def _read_data(stream: Stream, group: Transaction, bodies: dict[str, bytes]) -> list[Entry]:
    entries: dict[str, Entry] = {}
    for member, body in read_tar(stream):
        if not member.path:
            continue
        if member.kind == "d":
            entries[member.path] = directory(member.path, _mode(member))
        elif member.kind == "l":
            entries[member.path] = link(member.path, member.target)
        elif member.kind == "h":
            first = entries.get(member.target)
            if first is None or first.kind != "f":
                raise ArchiveError(
                    f"{member.path} is a hard link to {member.target}, which is no file before it"
                )
            entries[member.path] = first._replace(path=member.path)
        else:
            entries[member.path] = _read_file(member, body, group, bodies)
    return list(entries.values())


def _read_file(member: Member, body: Body, group: Transaction, bodies: dict[str, bytes]) -> Entry:
    if member.path.startswith(KEPT) and member.size <= LARGEST_CONTROL_FILE:
        data = body.read()
        bodies[member.path] = data
        digest, size = group.add_bytes(data), len(data)
    else:
        digest, size = group.add_stream(cast(BinaryIO, body))
    return file(member.path, digest, size, _mode(member))._replace(capability=member.capability)


def _mode(member: Member) -> int:
    """Give the permission bits, without those that would lend the rights of an owner that is not kept."""
    mode = member.mode
    if member.uid:
        mode &= ~0o4000
    if member.gid:
        mode &= ~0o2000
    return mode
