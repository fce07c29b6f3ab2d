"""One blob on its way from a registry: taken on from where a connection was cut, verified at its end.

Knows nothing of what is done with the bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.fetch.http import UnreachableError
from reprobuild.fetch.transfer import CHUNK
from reprobuild.registry.connection import Connection

_RANGE = re.compile(r"bytes (\d{1,15})-")


class Download:
    """Hands one blob's bytes on as they arrive. Not for two threads at once."""

    def __init__(self, connection: Connection, digest: Digest, take: Callable[[bytes], object]) -> None:
        self._connection = connection
        self._digest = digest
        self._take = take
        self._hasher = hashlib.sha256()
        self._arrived = 0

    def run(self, *, size: int | None, most: int) -> None:
        """Bring the blob. ``size``: its bytes, where known; ``most``: after which to give up.

        Raises CheckFailedError for other bytes than were asked for, when they have been handed on;
        UpstreamError.
        """
        self._connection.persist(lambda: self._receive(size, most), progress=lambda: self._arrived)
        got = self._hasher.hexdigest()
        if got != self._digest.hex:
            raise self._wrong(f"  got       sha256:{got}, {self._arrived:,} bytes")

    def _receive(self, size: int | None, most: int) -> None:
        headers = {"Range": f"bytes={self._arrived}-"} if self._arrived else {}
        url = self._connection.url(f"blobs/{self._digest}")
        with self._connection.http.open(url, headers) as response:
            if response.status == 416:
                raise self._wrong(f"  got       {self._arrived:,} bytes")
            match = _RANGE.match(response.headers.get("content-range", ""))
            if response.status == 206 and (match is None or int(match[1]) != self._arrived):
                raise UnreachableError(f"{url}: the server gave another range than it was asked for")
            rest = response.length
            skip = self._arrived if response.status == 200 else 0
            expected = size if size is not None or rest is None else self._arrived - skip + rest
            while chunk := response.read(CHUNK):
                new, skip = chunk[skip:], max(0, skip - len(chunk))
                self._arrived += len(new)
                if self._arrived > most:
                    raise self._wrong(f"  got       more than {most:,} bytes")
                self._hasher.update(new)
                self._take(new)
        if expected is not None and self._arrived < expected:
            raise UnreachableError(f"{url}: the body ends after {self._arrived:,} of {expected:,} bytes")

    def _wrong(self, got: str) -> CheckFailedError:
        return CheckFailedError(
            f"{self._connection.reference.name} gives other bytes than it was asked for\n"
            f"  expected  {self._digest}\n{got}",
            "its server, or somebody on the way, changed them",
        )
