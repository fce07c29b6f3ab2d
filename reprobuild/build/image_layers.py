"""Layers of images that others made become one tree: read each, then stack them.

A layer is unpacked by itself, as container engines do, so that no path of it passes through a link of the
layers below; then what it has replaces what is below, folders are joined, and whiteouts take away (OCI image
specification, layer.md). Bodies go into the group. Knows nothing of manifests, nor of the normal form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, cast

from reprobuild.build.compression import LIMITS, Limits, unpacked
from reprobuild.digest import Digest
from reprobuild.images.archive import ArchiveError, Member, Stream
from reprobuild.images.changes import Changed, RawChange
from reprobuild.images.tar_reader import Body, read_tar
from reprobuild.tree import Entry, TreeError, directory, resolve

if TYPE_CHECKING:
    from reprobuild.store.transaction import Transaction

SMALL = 1024 * 1024
"""Bytes up to which a body is taken in one piece."""

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
AUFS = ".wh..wh."
"""Names that AUFS, Docker's first file system, had for itself; ``.wh..wh.plnk`` has hard links' bodies."""


@dataclass(slots=True)
class UnpackedLayer:
    """What one layer has, by itself."""

    diff_id: Digest
    """Of the tar stream, as it was read."""
    entries: dict[str, Entry] = field(default_factory=dict)
    """By path; every parent of a path is in it."""
    times: dict[str, int] = field(default_factory=dict)
    """When files were changed last: path → whole seconds since the epoch."""
    implied: set[str] = field(default_factory=set)
    """Folders that no member of the layer is about."""
    specials: set[str] = field(default_factory=set)
    """Paths of devices and fifos."""
    whiteouts: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)
    """Folders of which nothing below stays."""


def unpack_layer(file: BinaryIO, size: int, group: Transaction, limits: Limits = LIMITS) -> UnpackedLayer:
    """Read a layer of ``size`` bytes: tar, plain or compressed. Raises ArchiveError, naming the member."""
    stream = _Hashed(unpacked(file, size, limits))
    sink = _Sink(group)
    for count, (member, body) in enumerate(read_tar(stream, is_layer=True)):
        if count >= limits.members:
            raise ArchiveError(f"the layer has more than {limits.members:,} members")
        sink.add(member, body)
    stream.finish()
    sink.layer.diff_id = Digest(stream.hash.hexdigest())
    return sink.layer


def stack(layers: Iterable[UnpackedLayer]) -> Iterator[Changed]:
    """Give what layers, lowest first, come to together: as changes to an empty tree, parents first."""
    entries: dict[str, Entry] = {}
    times: dict[str, int] = {}
    specials: set[str] = set()
    for layer in layers:
        _take_away(entries, specials, layer)
        for path, entry in layer.entries.items():
            before = entries.get(path)
            if path in layer.implied and before is not None and before.kind == "d":
                continue
            entries[path] = entry
            specials.discard(path)
            times[path] = layer.times.get(path, 0)
        specials |= layer.specials
    for path in sorted({*entries, *specials}):
        if path in specials:
            yield Changed(RawChange(path, "other"))
            continue
        entry = entries[path]
        yield Changed(
            RawChange(
                path, entry.kind, entry.mode, entry.uid, entry.gid, times[path], entry.size, entry.target,
                entry.capability,
            ),
            entry.digest,
        )  # fmt: skip


def _take_away(entries: dict[str, Entry], specials: set[str], layer: UnpackedLayer) -> None:
    """Remove what a layer does not let through of those below it."""
    gone = set(layer.whiteouts)
    emptied = set(layer.opaque)
    replaced = {path for path, entry in layer.entries.items() if entry.kind != "d"} | layer.specials
    for path, entry in layer.entries.items():
        before = entries.get(path)
        if entry.kind == "d" and before is not None and before.kind != "d":
            gone.add(path)
    gone |= {path for path in replaced if path in entries and entries[path].kind == "d"}
    if not gone and not emptied and not specials:
        return
    for path in [*entries, *specials]:
        if path in gone or _is_below(path, gone) or _is_below(path, emptied):
            entries.pop(path, None)
            specials.discard(path)


def _is_below(path: str, folders: set[str]) -> bool:
    if not folders:
        return False
    if "" in folders:
        return True
    while path := path.rpartition("/")[0]:
        if path in folders:
            return True
    return False


class _Hashed:
    """A stream that is hashed while it is read."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.hash = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes, ``b""`` at the end."""
        data = self._stream.read(size)
        self.hash.update(data)
        return data

    def finish(self) -> None:
        """Read on to the end."""
        while self.read(SMALL):
            continue


class _Sink:
    """Collects the members of a layer by the path that they really come to."""

    def __init__(self, group: Transaction) -> None:
        self._group = group
        self._bodies: dict[str, Entry] = {}
        """Of what AUFS kept for hard links."""
        self.layer = UnpackedLayer(Digest.of(b""))

    def add(self, member: Member, body: Body) -> None:
        """Take a member."""
        name = member.path.rpartition("/")[2]
        if (member.path.startswith(AUFS) or name.startswith(AUFS)) and name != OPAQUE:
            if member.kind == "f":
                self._bodies[member.path] = self._file(member, body)
            return
        if name.startswith(WHITEOUT):
            self._whiteout(member, name)
            return
        if not member.path:
            if member.kind != "d":
                raise ArchiveError("the root of the layer is no folder")
            return
        path = self._real(member.path, member)
        if not path:
            raise ArchiveError(f"{member.path!r} would replace the root folder")
        entry = self._entry(member, body)
        self._make_room(path, entry)
        self._make_parents(path, member)
        layer = self.layer
        layer.implied.discard(path)
        if entry is None:
            layer.specials.add(path)
        else:
            layer.entries[path] = entry._replace(path=path)
            layer.times[path] = member.mtime
            if member.kind == "h":
                layer.times[path] = layer.times.get(self._real(member.target, member), member.mtime)

    def _entry(self, member: Member, body: Body) -> Entry | None:
        if member.kind == "d":
            return Entry(member.path, "d", member.mode, member.uid, member.gid)
        if member.kind == "l":
            return Entry(member.path, "l", 0o777, member.uid, member.gid, target=member.target)
        if member.kind == "f":
            return self._file(member, body)
        if member.kind == "s":
            return None
        original = self._bodies.get(member.target)
        path = self._real(member.target, member)
        if original is None:
            original = self.layer.entries.get(path)
            if path in self.layer.specials:
                return None
        if original is None or original.kind == "d":
            raise ArchiveError(
                f"{member.path!r} is a hard link to {member.target!r}, of which the layer has none before it"
            )
        # Engines link first, and then give both names what the header of the link says.
        mode = original.mode if original.kind == "l" else member.mode
        original = original._replace(mode=mode, uid=member.uid, gid=member.gid)
        if path in self.layer.entries:
            self.layer.entries[path] = original
        return original

    def _file(self, member: Member, body: Body) -> Entry:
        if member.size <= SMALL:
            digest = self._group.add_bytes(body.read())
        else:
            digest, _ = self._group.add_stream(cast(BinaryIO, body))
        return Entry(
            member.path, "f", member.mode, member.uid, member.gid, member.size, digest,
            capability=member.capability,
        )  # fmt: skip

    def _whiteout(self, member: Member, name: str) -> None:
        folder = self._real(member.path, member).rpartition("/")[0]
        if name == OPAQUE:
            self.layer.opaque.add(folder)
            return
        gone = name.removeprefix(WHITEOUT)
        if gone in ("", ".", ".."):
            raise ArchiveError(f"{member.path!r} removes nothing that a layer can remove")
        self.layer.whiteouts.add(f"{folder}/{gone}".lstrip("/"))

    def _real(self, path: str, member: Member) -> str:
        """Follow the layer's own links in all but the last part of a path, never out of the root."""
        entries = self.layer.entries
        parent = path.rpartition("/")[0]
        above = entries.get(parent)
        if not parent or (above is not None and above.kind == "d"):
            return path
        try:
            return resolve(entries, path, follow_last=False)
        except TreeError as error:
            raise ArchiveError(f"{member.path!r}: {error.message}") from None

    def _make_room(self, path: str, entry: Entry | None) -> None:
        """Let a member replace what an earlier one of the same path left, unless both are folders."""
        layer = self.layer
        layer.specials.discard(path)
        before = layer.entries.get(path)
        if before is None or (before.kind == "d" and entry is not None and entry.kind == "d"):
            return
        del layer.entries[path]
        if before.kind == "d":
            prefix = path + "/"
            for known in [known for known in layer.entries if known.startswith(prefix)]:
                del layer.entries[known]
            layer.specials = {known for known in layer.specials if not known.startswith(prefix)}

    def _make_parents(self, path: str, member: Member) -> None:
        entries = self.layer.entries
        while path := path.rpartition("/")[0]:
            above = entries.get(path)
            if above is None and path not in self.layer.specials:
                entries[path] = directory(path)
                self.layer.implied.add(path)
            elif above is not None and above.kind == "d":
                return
            else:
                raise ArchiveError(f"{member.path!r} lies below {path!r}, which is no folder")
