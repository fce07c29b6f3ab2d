"""Members of archives, of whatever format: what is known of each, and the names that an image can hold.

Knows nothing of formats, nor of where members go.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple, Protocol

from reprobuild.errors import RecipeError

Kind = Literal["d", "f", "l", "h", "s"]


class ArchiveError(RecipeError):
    """An archive that cannot be unpacked: damaged, cut off, or with what an image cannot hold."""


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Say in an ArchiveError that is raised inside which archive it is about."""
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"{what}: {error.message}", error.hint) from None


class Stream(Protocol):
    """What archives are read from: a binary file, or something that unpacks one."""

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes, ``b""`` at the end."""


class Member(NamedTuple):
    """One member of an archive."""

    path: str
    """Relative, with no empty, ``.`` or ``..`` part; ``""`` for the root itself."""
    kind: Kind
    """A directory, a file, a symbolic link, or a hard link (``h``) to an earlier member; in an image's layer
    a device or fifo too (``s``)."""
    mode: int
    """Permission bits, 0 to 0o7777."""
    uid: int = 0
    gid: int = 0
    size: int = 0
    """Bytes of the body; 0 unless a file."""
    target: str = ""
    """Of a symbolic link, as it is; of a hard link, the member's path, in the form of ``path``."""
    capability: bytes = b""
    """The value of ``security.capability``, if any."""
    mtime: int = 0
    """Whole seconds since the epoch; read in an image's layer alone."""


def clean_path(name: bytes, *, any_bytes: bool = False) -> str:
    """Give an archive's name as a relative path without ``.`` parts; ``""`` for the root.

    ``any_bytes``: as ``decoded`` has it. Raises ArchiveError for what is absolute, leads upwards, or is
    no UTF-8.
    """
    path = decoded(name, any_bytes=any_bytes)
    if path.startswith("/"):
        raise ArchiveError(f"{path!r} is an absolute path, which leads outside the place to unpack to")
    if "//" in path or "/." in path or path.startswith("./") or path.endswith("/") or path in (".", ".."):
        parts = [part for part in path.split("/") if part and part != "."]
        if ".." in parts:
            raise ArchiveError(f"{path!r} leads outside the place to unpack to")
        return "/".join(parts)
    if path.startswith("../"):
        raise ArchiveError(f"{path!r} leads outside the place to unpack to")
    return path


def decoded(name: bytes, *, any_bytes: bool = False) -> str:
    """Give a name or the target of a link as text.

    ``any_bytes``: bytes that are no UTF-8 become lone surrogates, as ``os.fsdecode`` has them; without,
    they are an ArchiveError.
    """
    try:
        text = name.decode(errors="surrogateescape" if any_bytes else "strict")
    except UnicodeDecodeError:
        raise ArchiveError(
            f"the name {shown(name)} is not UTF-8", "pack the archive again with names in UTF-8"
        ) from None
    if "\0" in text:
        raise ArchiveError(f"the name {text!r} holds a zero byte")
    return text


def shown(name: bytes) -> str:
    """Give a name in quotes for a message, whatever bytes it has."""
    text = name.decode("utf-8", "backslashreplace")
    return f"'{text}'" if text.isprintable() else repr(text)
