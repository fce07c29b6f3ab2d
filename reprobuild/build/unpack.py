"""Archives become entries of a tree, their bodies blobs; nothing is unpacked onto a file system.

Knows nothing of where archives come from, nor of the tree below. Formats are told by content, never by
name. Owners become 0:0 and times go; modes stay. A hard link becomes a file, the last of several members
with one path counts, folders that are only implied are made, and nothing gets out of the folder that an
archive is unpacked to, neither by its name nor through a link of the same archive.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

from reprobuild import tree
from reprobuild.build.compression import LIMITS, Limits, unpacked
from reprobuild.build.zip_reader import MAGIC, ZipBody, read_zip
from reprobuild.images.archive import ArchiveError, Member
from reprobuild.images.tar_reader import Body, read_tar
from reprobuild.tree import MOST_LINKS, Entry

if TYPE_CHECKING:
    from reprobuild.store.transaction import Transaction

SMALL = 1024 * 1024
"""Bytes up to which a body is taken in one piece."""


def unpack(
    file: BinaryIO, group: Transaction, *, to: str = "", strip: int = 0, limits: Limits = LIMITS
) -> tuple[Entry, ...]:
    """Give the entries of a tar or zip archive, sorted by path; their bodies join the group.

    ``file``: seekable, at its start; ``to``: the folder that gets them, relative to the root;
    ``strip``: leading path components dropped from names, and members that have no more. Raises ArchiveError,
    naming the member.
    """
    packed = file.seek(0, io.SEEK_END)
    file.seek(0)
    sink = _Sink(group, to.strip("/"), strip)
    for count, (member, body) in enumerate(_members(file, packed, limits)):
        if count >= limits.members:
            raise ArchiveError(f"the archive has more than {limits.members:,} members")
        sink.add(member, body)
    return sink.entries()


def is_tar(file: BinaryIO) -> bool:
    """Tell whether a file is a tar archive, compressed or not, as far as its first member shows; it is at its
    start again then."""
    packed = file.seek(0, io.SEEK_END)
    file.seek(0)
    try:
        return next(iter(read_tar(unpacked(file, packed, LIMITS))), None) is not None
    except ArchiveError:
        return False
    finally:
        file.seek(0)


def _members(file: BinaryIO, packed: int, limits: Limits) -> Iterator[tuple[Member, Body | ZipBody]]:
    if packed == 0:
        raise ArchiveError("the archive is empty: a file of 0 bytes")
    is_zip = file.read(4) in MAGIC
    file.seek(0)
    if is_zip:
        yield from read_zip(file, packed, limits)
    else:
        yield from read_tar(unpacked(file, packed, limits))


class _Sink:
    """Collects members by the path that they really come to."""

    def __init__(self, group: Transaction, to: str, strip: int) -> None:
        self._group = group
        self._to = to
        self._strip = strip
        self._entries: dict[str, Entry] = {}
        """By path below ``to``; every parent of a path is in it."""
        self._named: dict[str, Entry] = {}
        """Files and links by the archive's own name: what hard links mean."""
        self._has_links = False

    def add(self, member: Member, body: Body | ZipBody) -> None:
        """Take a member."""
        entry = self._entry(member, body)
        path = member.path
        if self._strip:
            path = "/".join(path.split("/")[self._strip :])
        if member.kind != "d":
            self._named[member.path] = entry
        if not path:
            if member.kind != "d" and not self._strip:
                raise ArchiveError("the archive's root is no folder")
            return
        if self._has_links:
            path = self._literal(path, member)
        before = self._entries.get(path)
        if before is not None and (before.kind == "d") != (entry.kind == "d"):
            if before.kind == "l" and self._leads_to_folder(path, member):
                return
            raise ArchiveError(f"{member.path!r} is a folder and something else in one archive")
        self._make_parents(path, member)
        self._entries[path] = entry._replace(path=path)
        self._has_links = self._has_links or entry.kind == "l"

    def _entry(self, member: Member, body: Body | ZipBody) -> Entry:
        if member.kind == "d":
            return tree.directory(member.path, member.mode)
        if member.kind == "l":
            return tree.link(member.path, member.target)
        if member.kind == "h":
            original = self._named.get(member.target)
            if original is None:
                raise ArchiveError(
                    f"{member.path!r} is a hard link to {member.target!r}, of which there is none before it"
                )
            return original._replace(path=member.path)
        if member.size <= SMALL:
            data = body.read()
            if len(data) != member.size:
                raise ArchiveError(f"{member.path!r} has {len(data):,} bytes instead of {member.size:,}")
            digest, size = self._group.add_bytes(data), len(data)
        else:
            digest, size = self._group.add_stream(cast(BinaryIO, body))
            if size != member.size:
                raise ArchiveError(f"{member.path!r} has {size:,} bytes instead of {member.size:,}")
        return Entry(member.path, "f", member.mode, 0, 0, size, digest, capability=member.capability)

    def _make_parents(self, path: str, member: Member) -> None:
        while path := path.rpartition("/")[0]:
            above = self._entries.get(path)
            if above is None:
                self._entries[path] = tree.directory(path)
            elif above.kind == "d":
                return
            else:
                raise ArchiveError(f"{member.path!r} lies below {path!r}, which is no folder")

    def _literal(self, path: str, member: Member) -> str:
        """Follow the archive's links in all but the last part of a path; they must not lead outside."""
        todo = path.split("/")[::-1]
        done: list[str] = []
        links = 0
        while len(todo) > 1:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not done:
                    raise self._outside(member)
                done.pop()
                continue
            done.append(part)
            here = self._entries.get("/".join(done))
            if here is None or here.kind != "l":
                continue
            links += 1
            if links > MOST_LINKS:
                raise ArchiveError(f"{member.path!r} leads into a loop of links")
            target = here.target
            if target.startswith("/"):
                inside = target.strip("/") + "/"
                if self._to and not inside.startswith(self._to + "/"):
                    raise self._outside(member)
                target = inside[len(self._to) :]
                done.clear()
            else:
                done.pop()
            todo.extend(target.split("/")[::-1])
        last = todo.pop()
        return "/".join([*done, last])

    def _outside(self, member: Member) -> ArchiveError:
        return ArchiveError(
            f"{member.path!r} would be written through a link that leads outside the place to unpack to"
        )

    def _leads_to_folder(self, path: str, member: Member) -> bool:
        """Tell whether a link of the archive leads to a folder of it: the same folder again adds nothing."""
        end = self._literal(path + "/.", member).rpartition("/")[0]
        here = self._entries.get(end)
        return not end or (here is not None and here.kind == "d")

    def entries(self) -> tuple[Entry, ...]:
        """Give what was collected, below ``to``."""
        if not self._entries:
            why = f"strip={self._strip} leaves nothing of" if self._strip else "there is nothing in"
            raise ArchiveError(f"{why} the archive")
        to = self._to
        placed = (
            entry._replace(path=f"{to}/{path}") if to else entry for path, entry in self._entries.items()
        )
        folder = (tree.directory(to),) if to else ()
        return tuple(sorted([*folder, *placed]))
