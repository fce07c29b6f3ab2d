"""Takes a gateway's authority out of what a command left, so that no layer ever holds it.

In texts it stands as a block of lines, which is cut while the file streams by: the rest is what there would
be without it. In any other form (DER, as in keystores; base64 in lines of another length) it can only be
found, and that is an error. Knows nothing of engines, nor of certificates: an authority is a block of base64.
"""

from __future__ import annotations

import binascii
import io
import re
from typing import BinaryIO

from reprobuild.errors import BuildFailedError
from reprobuild.images.changes import RawChange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

NAME = "reprobuild-gateway"
"""Of its files inside, whatever makes links to them or copies of them (``engine.trust``)."""

_CHUNK = 1 << 16  # larger ones are allocated anew each time, at half the speed
_HASHED_BUNDLE = re.compile(r"(.*/)?[0-9a-f]{8}\.[0-9]+")
"""Links that ``openssl rehash`` makes, of files that hold one certificate."""


class Authority:
    """What is looked for: an authority, as PEM."""

    def __init__(self, certificate: bytes) -> None:
        block = certificate.strip()
        encoded = b"".join(block.splitlines()[1:-1])
        raw = binascii.a2b_base64(encoded)
        self.blocks = (block, block.replace(b"\n", b"\r\n"))
        self.room = 2 * len(block) + 4
        """Bytes that are held back so that no block is missed between two pieces."""
        # Of base64 in lines of 57 characters or more, one of the two is never broken; neither is its start,
        # which is the same for many certificates.
        self.signs = [part for part in (encoded[80:112], encoded[112:144], raw[60:92]) if len(part) >= 24]
        if not self.signs:
            self.signs = [encoded, raw]

    def is_ours(self, change: RawChange) -> bool:
        """Tell whether a link is there for the authority's sake alone."""
        if change.kind != "l":
            return False
        target = change.target.rpartition("/")[2]
        if target in (f"{NAME}.crt", f"{NAME}.pem"):
            return True
        # Of a bundle that held nothing else when the link was made.
        return target == "ca-certificates.crt" and _HASHED_BUNDLE.fullmatch(change.path) is not None


class WithoutAuthority(io.RawIOBase):
    """A file as it is read to its end, less an authority; ``was_cut`` tells whether that was in it."""

    def __init__(self, file: BinaryIO, authority: Authority, path: str) -> None:
        """Path: the file's inside, for the error. Reading raises BuildFailedError where it can't be cut."""
        super().__init__()
        self.was_cut = False
        self._file = file
        self._authority = authority
        self._path = path
        self._held = b""
        self._ready = memoryview(b"")
        self._at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        while not self._ready and not self._at_end:
            self._fill()
        with memoryview(buffer) as view:
            count = min(len(view), len(self._ready))
            view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _fill(self) -> None:
        data = self._file.read(_CHUNK)
        self._at_end = not data
        data = self._held + data if self._held else data
        room = 0 if self._at_end else self._authority.room
        if any(sign in data for sign in self._authority.signs):
            data = self._cut(data, room)
        kept = max(len(data) - room, 0)
        self._ready, self._held = memoryview(data)[:kept], data[kept:]

    def _cut(self, data: bytes, room: int) -> bytes:
        for block in self._authority.blocks:
            while (start := data.find(block)) >= 0:
                end = start + len(block)
                if room and end + 2 > len(data):
                    break  # the end of its last line is still to come
                for line_end in (b"\n", b"\r\n"):
                    if data.startswith(line_end, end):
                        end += len(line_end)
                        break
                data = data[:start] + data[end:]
                self.was_cut = True
        # What is left may be the beginning of a block whose end is still to come.
        complete = data[: max(len(data) - room // 2, 0)] if room else data
        if any(sign in complete for sign in self._authority.signs):
            raise BuildFailedError(
                f"the command left the gateway's certificate in /{self._path[:200]}, which no layer may "
                "hold, and in this form it cannot be cut out",
                "at the end of the command, remove that file or the certificate in it",
            )
        return data
