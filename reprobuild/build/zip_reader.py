"""Zip archives, read in the order of their directory: members with their bodies, as ``read_tar`` gives them.

Knows nothing of where members go. The directory at the end counts (APPNOTE.TXT 6.3.10, 4.3); what it
says is checked against what is there. Whatever is damaged, encrypted, packed by a method that Python
does not have, or cannot be in an image ends in an ArchiveError that names the member.
"""

from __future__ import annotations

import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO

from reprobuild.build.compression import AGAIN, LIMITS, Limits
from reprobuild.images.archive import ArchiveError, Member, clean_path

MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
LONGEST_TARGET = 4096
"""Bytes of a symbolic link's target (Linux: PATH_MAX)."""
UNIX = (3, 19)
"""Systems (4.4.2) whose members have Unix modes: Unix, macOS."""
FAT = 0
ENCRYPTED = 0x1
UTF8 = 0x800

_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)


class ZipBody:
    """The body of a member, checked against its sum at the end."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name

    def read(self, size: int = -1) -> bytes:
        """Give at most ``size`` bytes, all that is left for a negative size, ``b""`` at the end."""
        with _damage(f"{self._name!r}: "):
            return self._file.read(size)

    def readinto(self, buffer: memoryview | bytearray) -> int:
        """Fill a buffer as far as there are bytes; give how many."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def read_zip(file: BinaryIO, packed: int, limits: Limits = LIMITS) -> Iterator[tuple[Member, ZipBody]]:
    """Give members with their bodies; a body may be left unread.

    Raises ArchiveError, naming the member.
    """
    with _damage(""), zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if len(infos) > limits.members:
            raise ArchiveError(f"the archive has {len(infos):,} members; {limits.members:,} are unpacked")
        limits.check(sum(info.file_size for info in infos), packed)
        for info in infos:
            yield from _read_member(archive, info)


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[tuple[Member, ZipBody]]:
    path = clean_path(_name(info))
    if info.flag_bits & ENCRYPTED:
        raise ArchiveError(f"{path!r} is encrypted", "name an archive that is not")
    mode = info.external_attr >> 16 if info.create_system in UNIX else 0
    kind = stat.S_IFMT(mode)
    bits = mode & 0o7777
    with _damage(f"{path!r}: "):
        try:
            body = archive.open(info)
        except (NotImplementedError, RuntimeError) as error:
            raise ArchiveError(f"{path!r} is packed in a way that cannot be read: {error}") from None
    with body:
        if info.orig_filename.endswith(("/", "\\")) or kind == stat.S_IFDIR:
            yield Member(path, "d", bits or 0o755), ZipBody(body, path)
        elif kind == stat.S_IFLNK:
            if info.file_size > LONGEST_TARGET:
                raise ArchiveError(f"{path!r} is a link with a target of {info.file_size:,} bytes")
            try:
                target = ZipBody(body, path).read().decode()
            except UnicodeDecodeError:
                raise ArchiveError(f"{path!r} is a link whose target is not UTF-8") from None
            if not target or "\0" in target:
                raise ArchiveError(f"{path!r} is a link to nothing")
            yield Member(path, "l", 0o777, target=target), ZipBody(body, path)
        elif kind in (0, stat.S_IFREG):
            yield Member(path, "f", bits or 0o644, size=info.file_size), ZipBody(body, path)
        else:
            raise ArchiveError(f"{path!r} is a device, a fifo or a socket, which an image cannot hold")


def _name(info: zipfile.ZipInfo) -> bytes:
    """Give a name as it stands in the archive; Windows' separators become ours."""
    name = info.orig_filename
    if info.create_system == FAT and "/" not in name:
        name = name.replace("\\", "/")
    return name.encode() if info.flag_bits & UTF8 else name.encode("cp437")


@contextmanager
def _damage(where: str) -> Iterator[None]:
    """Say what zipfile's exceptions mean."""
    try:
        yield
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or "it ends too early"
        raise ArchiveError(f"{where}the zip archive is damaged or cut off: {reason}", AGAIN) from None
