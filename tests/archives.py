"""Archives made by code, hostile ones too: bytes for tests of what reads them."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Mapping

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
END = bytes(1024)


def tar(
    files: Mapping[str, bytes] | None = None,
    *,
    infos: Iterable[tarfile.TarInfo] = (),
    format: int = tarfile.PAX_FORMAT,
) -> bytes:
    """Make a tar archive of files, then of members with no body."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, body in (files or {}).items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        for info in infos:
            archive.addfile(info)
    return out.getvalue()


def member(name: str, type: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    """Make a tar member without a body."""
    info = tarfile.TarInfo(name)
    info.type = type
    info.linkname = target
    info.mode = mode
    return info


def body_of(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    """Read a file that is in an archive."""
    body = archive.extractfile(member)
    assert body is not None
    return body.read()


def symlink(name: str, target: str) -> tarfile.TarInfo:
    """Make a tar member that is a symbolic link."""
    return member(name, tarfile.SYMTYPE, target)


def block(
    name: bytes = b"file",
    *,
    size: bytes = b"00000000000\0",
    flag: bytes = b"0",
    link: bytes = b"",
    mode: bytes = b"0000644\0",
    magic: bytes = b"ustar\00000",
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """Make one tar header, whatever it holds; the checksum is right unless it is given."""
    head = name.ljust(100, b"\0") + mode + b"0000000\0" * 2 + size + b"00000000000\0"
    tail = flag + link.ljust(100, b"\0") + magic + bytes(80) + prefix.ljust(155, b"\0") + bytes(12)
    assert len(head) + 8 + len(tail) == 512, (len(head), len(tail))
    if checksum is None:
        checksum = b"%06o\0 " % (sum(head) + sum(tail) + 8 * ord(" "))
    return head + checksum + tail


def padded(body: bytes) -> bytes:
    """Fill a body up to whole blocks."""
    return body + bytes(-len(body) % 512)


def octal(number: int) -> bytes:
    """Write a size as headers hold it."""
    return b"%011o\0" % number


def pax(records: Mapping[str, bytes], flag: bytes = b"x") -> bytes:
    """Make a pax header: what it says holds for the next member."""
    body = b""
    for key, value in records.items():
        rest = b" " + key.encode() + b"=" + value + b"\n"
        length = len(rest) + 1
        while len(b"%d" % length) + len(rest) != length:
            length += 1
        body += b"%d" % length + rest
    return block(b"pax", size=octal(len(body)), flag=flag) + padded(body)


def zipped(
    files: Mapping[str, bytes], *, modes: Mapping[str, int] | None = None, method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """Make a zip archive; ``modes``: whole Unix modes, with the kind of file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, body in files.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.compress_type = method
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(info, body)
    return out.getvalue()
