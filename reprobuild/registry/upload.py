"""One blob on its way to a registry: begun or taken up again, sent whole or in chunks, finished.

Speaks the distribution specification's "Push" (POST, PATCH, PUT; GET for what has arrived). Knows nothing
of manifests, nor of other blobs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from typing import cast
from urllib.parse import quote

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, UpstreamError
from reprobuild.events import PushProgressed, Tell
from reprobuild.fetch.credentials import without_query
from reprobuild.fetch.http import Response, UnreachableError, follow
from reprobuild.fetch.partial import Stopped
from reprobuild.fetch.registry_refusal import RegistryError
from reprobuild.fetch.transfer import BUSY
from reprobuild.registry.blob import BlobSource
from reprobuild.registry.connection import Connection
from reprobuild.registry.journal import Note

PIECE = 64 * 1024
"""Bytes handed to a socket at once."""
LEAST_CHUNK = 1024 * 1024
"""Bytes below which a chunk is not made smaller, whatever the server says."""
COMMIT_SECONDS = 600.0
"""How long a server may be silent when it puts a large blob together and hashes it."""
PROGRESS_SECONDS = 0.1
GONE = frozenset({404, 410})
"""Of an upload: the server knows it no longer."""
NO_CHUNKS = frozenset({400, 405, 411, 415, 416, 501})
"""Of a first chunk: the server wants blobs whole."""

_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


class _AgainError(UnreachableError):
    """An upload did not go on, and another try makes sense."""


class _Reader:
    """A blob's bytes, read on where the last read ended."""

    def __init__(self, blob: BlobSource) -> None:
        self._blob = blob
        self._pieces: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        self._position = -1

    def read(self, offset: int, count: int) -> Iterator[memoryview]:
        """Give bytes in pieces. Raises CheckFailedError where there are fewer."""
        if self._pieces is None or offset != self._position:
            self.close()
            self._pieces, self._rest, self._position = self._blob.chunks(offset), memoryview(b""), offset
        while count:
            if not self._rest:
                self._rest = memoryview(next(self._pieces, b""))
                if not self._rest:
                    raise CheckFailedError(
                        f"{self._blob.shown} ({self._blob.digest}) ends after {self._position:,} of "
                        f"{self._blob.size:,} bytes",
                        "reprobuild audit --repair",
                    )
            piece = self._rest[: min(count, PIECE)]
            self._rest = self._rest[len(piece) :]
            self._position += len(piece)
            count -= len(piece)
            yield piece

    def close(self) -> None:
        """Let go of what the bytes come from."""
        if self._pieces is not None and hasattr(self._pieces, "close"):
            self._pieces.close()
        self._pieces = None


class Upload:
    """Brings one blob to a repository. Not for two threads at once."""

    def __init__(
        self, connection: Connection, blob: BlobSource, note: Note, *, chunk: int, tell: Tell
    ) -> None:
        """``note``: where the upload's address is remembered; ``chunk``: bytes of one request."""
        self._connection = connection
        self._blob = blob
        self._note = note
        self._chunk = max(1, chunk)
        self._least = LEAST_CHUNK
        self._tell = tell
        self._told = 0.0
        self._location = note.location
        self._offset = 0
        self._is_certain = False
        """Whether the server has just as many bytes as ``_offset`` says."""
        self._is_whole = False
        self._has_restarted = False
        self._tries = 0
        self._furthest = 0
        self._reader = _Reader(blob)
        self.sent = 0
        """Bytes that travelled."""

    def run(self) -> None:
        """Bring the blob. Raises UpstreamError, CheckFailedError, OfflineError."""
        with closing(self._reader):
            self._connection.persist(self._advance, progress=lambda: self._furthest)
        self._note.forget()

    def _advance(self) -> None:
        self._tries += 1
        if self._tries > 1 and self._is_there():
            return  # what was lost is the answer alone
        try:
            if self._location and not self._is_certain:
                self._ask()
            if not self._location and self._begin():
                return
            while self._offset < self._blob.size and not self._is_monolithic:
                self._send_chunk()
            self._finish()
        except RegistryError as error:
            self._is_certain = False
            if error.status not in BUSY:
                raise
            raise
        except UnreachableError:
            self._is_certain = False
            raise

    @property
    def _is_monolithic(self) -> bool:
        return self._offset == 0 and (self._is_whole or self._blob.size <= self._chunk)

    def _is_there(self) -> bool:
        return self._connection.head(self._connection.url(f"blobs/{self._blob.digest}")) is not None

    def _begin(self) -> bool:
        """Begin an upload; tell whether that was all, since the registry had the blob elsewhere."""
        url = self._connection.url("blobs/uploads/")
        for source in self._note.mounts():
            asked = f"{url}?mount={quote(str(self._blob.digest))}&from={quote(source)}"
            self._connection.access.want(url, f"repository:{source}:pull")
            with self._connection.send("POST", asked) as response:
                if response.status == 201:
                    self._check(response)
                    return True
                self._take(response, url)
                return False
        with self._connection.send("POST", url) as response:
            self._take(response, url)
        return False

    def _take(self, response: Response, url: str) -> None:
        """Learn where the upload is, and what its chunks may be."""
        least = response.headers.get("oci-chunk-min-length", "")
        if least.isascii() and least.isdigit() and len(least) < 12:
            self._least = max(self._least, int(least))
            self._chunk = max(self._chunk, self._least)
        self._offset, self._is_certain = 0, True
        self._move(response, url)
        if not self._location:
            raise UpstreamError(f"{without_query(url)}: the registry does not say where to send a blob")

    def _move(self, response: Response, url: str) -> None:
        """Note where the next request of the upload goes."""
        if location := response.headers.get("location", ""):
            self._location = follow(url, location, without_query(url))
        self._note.keep(self._location)

    def _ask(self) -> None:
        """Ask how much has arrived; an upload that the server knows no longer is begun anew."""
        try:
            with self._connection.send("GET", self._location) as response:
                self._learn(response)
        except RegistryError as error:
            if error.status in BUSY:
                raise
            self._lose()

    def _learn(self, response: Response) -> None:
        match = _RANGE.fullmatch(response.headers.get("range", ""))
        if match is None or int(match[1]) >= self._blob.size:
            self._lose()
            return
        end = int(match[1])
        # "0-0" is what servers say of nothing, too.
        self._offset = end + 1 if end else 0
        self._is_certain = True
        self._move(response, self._location)
        self._advanced()

    def _lose(self) -> None:
        self._location, self._offset, self._is_certain = "", 0, False
        self._note.forget()

    def _advanced(self) -> None:
        self._furthest = max(self._furthest, self._offset)
        self._tell(PushProgressed(self._blob.shown, self._offset))

    def _send_chunk(self) -> None:
        count = min(self._chunk, self._blob.size - self._offset)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{self._offset}-{self._offset + count - 1}",
        }
        try:
            with self._connection.send(
                "PATCH", self._location, headers=headers, body=lambda: self._body(count), size=count
            ) as response:
                match = _RANGE.fullmatch(response.headers.get("range", ""))
                before = self._offset
                self._offset = int(match[1]) + 1 if match is not None else before + count
                if not before < self._offset <= before + count:
                    self._lose()
                    raise _AgainError(f"{self._blob.shown}: the registry counts other bytes than were sent")
                self._move(response, self._location)
                self._advanced()
        except RegistryError as error:
            self._reconsider(error, count)
            raise

    def _reconsider(self, error: RegistryError, count: int) -> None:
        """Choose another way where a chunk was refused; returns where there is none."""
        again = _AgainError(error.message, error.hint)
        if error.status == 413 and count > self._least:
            self._chunk = max(self._least, count // 2)
            self._is_certain = False
            raise again from None
        if error.status in NO_CHUNKS and self._offset == 0 and not self._is_whole:
            self._is_whole = True
            self._lose()
            raise again from None
        if error.status in GONE and not self._has_restarted:
            self._has_restarted = True
            self._lose()
            raise again from None
        if error.status == 416:
            self._is_certain = False
            raise again from None

    def _body(self, count: int) -> Iterator[bytes]:
        sent = 0
        for piece in self._reader.read(self._offset, count):
            if self._connection.stopping.is_set():
                raise Stopped
            yield cast(bytes, piece)
            sent += len(piece)
            self.sent += len(piece)
            now = time.monotonic()
            if now - self._told >= PROGRESS_SECONDS:
                self._told = now
                self._tell(PushProgressed(self._blob.shown, self._offset + sent))

    def _finish(self) -> None:
        """Send what is left, and have it all put together and checked."""
        joint = "&" if "?" in self._location else "?"
        url = f"{self._location}{joint}digest={quote(str(self._blob.digest), safe='')}"
        count = self._blob.size - self._offset
        headers = {"Content-Type": "application/octet-stream"}
        try:
            with self._connection.send(
                "PUT",
                url,
                headers=headers,
                body=(lambda: self._body(count)) if count else None,
                size=count,
                silence=COMMIT_SECONDS,
            ) as response:
                self._check(response)
        except RegistryError as error:
            self._reconsider_end(error, count)
            raise
        self._offset = self._blob.size
        self._advanced()

    def _reconsider_end(self, error: RegistryError, count: int) -> None:
        again = _AgainError(error.message, error.hint)
        if error.status == 413 and count > self._least and not self._is_whole:
            self._chunk = max(self._least, count // 2)
            self._lose()
            raise again from None
        if error.status == 400 and error.code == "DIGEST_INVALID":
            self._check_source()
        if (error.status in GONE or error.code == "DIGEST_INVALID") and not self._has_restarted:
            self._has_restarted = True
            self._lose()
            raise again from None

    def _check_source(self) -> None:
        """Raise CheckFailedError where what was sent is not what its digest says."""
        found = Digest.of_chunks(self._blob.chunks(0))
        if found != self._blob.digest:
            raise CheckFailedError(
                f"{self._blob.shown}: the bytes that are to be pushed are not what they should be\n"
                f"  expected  {self._blob.digest}\n  got       {found}",
                "reprobuild audit --repair",
            )

    def _check(self, response: Response) -> None:
        """Raise CheckFailedError where the registry says that it stored something else."""
        said = response.headers.get("docker-content-digest", "")
        if said and said != str(self._blob.digest):
            raise CheckFailedError(
                f"{self._connection.reference.registry} stored {self._blob.shown} as something else\n"
                f"  sent    {self._blob.digest}\n  stored  {said[:200]}",
                "its server, or somebody on the way, changes what it is sent: do not publish there",
            )
