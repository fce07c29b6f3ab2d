"""One blob on its way to a registry: begun or taken up again, sent whole or in chunks, finished.

Speaks the distribution specification's "Push" (POST, PATCH, PUT; GET for what has arrived). Knows nothing
of manifests, nor of other blobs.
"""

from __future__ import annotations

import re
import threading
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
from reprobuild.fetch.transfer import BUSY, StatusError
from reprobuild.registry.blob import BlobReader, BlobSource
from reprobuild.registry.connection import Connection
from reprobuild.registry.journal import Note

SMALL_CHUNK = 4 * 1024 * 1024
"""Bytes of a chunk where larger ones are refused: what GitHub's and Azure's registries take."""
LEAST_CHUNK = 1024 * 1024
"""The same where those are refused, too: what a web server before a registry usually takes."""
CHUNK_SECONDS = 120.0
"""How long a server may be silent when it has a chunk."""
COMMIT_SECONDS = 600.0
"""How long it may be silent when it puts a large blob together and hashes it."""
PROGRESS_SECONDS = 0.1
GONE = frozenset({404, 410})
"""Of an upload: the server knows it no longer."""
NO_CHUNKS = frozenset({400, 405, 411, 415, 416, 501})
"""Of a first chunk that is small: the server wants blobs whole."""
NO_MOUNT = frozenset({400, 401, 403, 404, 405, 501})
OCTETS = "application/octet-stream"

_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,15})")


class _AgainError(UnreachableError):
    """An upload did not go on, and another try makes sense, after a while."""


class _OtherWayError(Exception):
    """An upload is refused in a way that lets it be tried at once in another."""


class Upload:
    """Brings one blob to a repository. Not for two threads at once."""

    def __init__(
        self,
        connection: Connection,
        blob: BlobSource,
        note: Note,
        *,
        tell: Tell,
        stopping: threading.Event,
    ) -> None:
        """``note``: where the upload's address is remembered; ``stopping``: set when the work is to end."""
        self._connection = connection
        self._blob = blob
        self._note = note
        self._tell = tell
        self._stopping = stopping
        self._told = 0.0
        self._location = note.location
        self._is_recalled = bool(note.location)
        self._offset = 0
        self._is_certain = False
        """Whether the server has just as many bytes as ``_offset`` says."""
        self._least = 0
        """Bytes that the server wants in a chunk at least."""
        self._most = connection.chunk
        """Bytes of a chunk that seem to get through."""
        self._is_sending = False
        """Whether bytes are on their way."""
        self._has_restarted = False
        self._tries = 0
        self._furthest = 0
        self._reader = BlobReader(blob)
        self.sent = 0
        """Bytes that travelled."""

    def run(self) -> None:
        """Bring the blob. Raises UpstreamError, CheckFailedError, OfflineError, Stopped."""
        with closing(self._reader):
            self._connection.persist(self._try, wait=self._wait, progress=lambda: self._furthest)
        self._note.forget()

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise Stopped

    def _try(self) -> None:
        self._tries += 1
        if self._tries > 1 and self._connection.has_blob(self._blob.digest):
            return  # what was lost is the answer alone
        while True:
            try:
                self._advance()
                return
            except _OtherWayError:
                continue
            except UpstreamError as error:
                self._is_certain = False
                if self._is_cut_short(error):
                    self._most = max(LEAST_CHUNK, self._most // 4)
                raise

    def _advance(self) -> None:
        """Go on from wherever the upload is, to its end."""
        if self._location and not self._is_certain:
            self._ask()
        if not self._location and self._begin():
            return
        while self._offset < self._blob.size and not self._is_monolithic:
            self._send_chunk()
        self._finish()

    def _is_cut_short(self, error: UpstreamError) -> bool:
        """Whether bytes did not get through; says so once."""
        was_sending, self._is_sending = self._is_sending, False
        return was_sending and isinstance(error, UnreachableError)

    @property
    def _chunk(self) -> int:
        return max(self._least, min(self._most, self._connection.chunk))

    @property
    def _is_monolithic(self) -> bool:
        fits = self._blob.size <= self._chunk or not self._connection.takes_chunks
        return self._offset == 0 and fits

    def _begin(self) -> bool:
        """Begin an upload; tell whether that was all, since the registry had the blob elsewhere."""
        url = self._connection.url("blobs/uploads/")
        if self._note.elsewhere:
            mounted = self._mount(url, self._note.elsewhere)
            if mounted is not None:
                return mounted
        with self._connection.send("POST", url) as response:
            self._take(response, url)
        return False

    def _mount(self, url: str, source: str) -> bool | None:
        """Ask for a blob that another repository has; None where that is refused."""
        self._note.elsewhere = ""
        scope = f"repository:{source}:pull"
        asked = f"{url}?mount={quote(str(self._blob.digest), safe='')}&from={quote(source, safe='')}"
        self._connection.access.want(url, {scope})
        try:
            with self._connection.send("POST", asked) as response:
                if response.status != 201:
                    self._take(response, url)
                    return False
                self._check(response)
                return True
        except StatusError as error:
            if error.status not in NO_MOUNT:
                raise
            self._connection.access.want(url, set())
            return None

    def _take(self, response: Response, url: str) -> None:
        """Learn where the upload is, and what its chunks may be."""
        self._least = _number(response, "oci-chunk-min-length")
        if most := _number(response, "oci-chunk-max-length"):
            self._connection.chunk = min(self._connection.chunk, most)
        self._offset, self._is_certain, self._is_recalled = 0, True, False
        self._move(response, url)
        if not self._location:
            raise UpstreamError(f"{without_query(url)}: the registry does not say where to send a blob")

    def _move(self, response: Response, url: str) -> None:
        """Note where the next request of the upload goes."""
        if location := response.headers.get("location", ""):
            self._location = follow(url, location, without_query(url))
        if self._location and not self._is_monolithic:
            self._note.keep(self._location)

    def _ask(self) -> None:
        """Ask how much has arrived; an upload that the server knows no longer is begun anew."""
        try:
            with self._connection.send("GET", self._location) as response:
                match = _RANGE.fullmatch(response.headers.get("range", ""))
                end = int(match[1]) if match is not None else self._blob.size
                if end >= self._blob.size:
                    self._lose()
                    return
                # "0-0" is what servers say of nothing, too.
                self._offset = end + 1 if end else 0
                self._is_certain = True
                self._move(response, self._location)
                self._advanced()
        except UpstreamError as error:
            is_busy = not isinstance(error, RegistryError) or error.status in BUSY
            if is_busy and not self._is_recalled:
                raise
            self._lose()

    def _lose(self) -> None:
        """Forget the upload: the next one begins anew."""
        self._location, self._offset, self._is_certain, self._is_recalled = "", 0, False, False
        self._note.forget()

    def _advanced(self) -> None:
        self._furthest = max(self._furthest, self._offset)
        self._tell(PushProgressed(self._blob.shown, self._offset))

    def _send_chunk(self) -> None:
        count = min(self._chunk, self._blob.size - self._offset)
        headers = {
            "Content-Type": OCTETS,
            "Content-Range": f"{self._offset}-{self._offset + count - 1}",
        }
        self._is_sending = True
        try:
            with self._connection.send(
                "PATCH",
                self._location,
                headers=headers,
                body=lambda: self._body(count),
                size=count,
                silence=CHUNK_SECONDS,
            ) as response:
                self._is_sending = False
                self._count(response, count)
                self._move(response, self._location)
                self._advanced()
        except RegistryError as error:
            self._is_sending = False
            self._reconsider_chunk(error, count)
            raise

    def _count(self, response: Response, count: int) -> None:
        """Learn how much of a chunk the server took."""
        match = _RANGE.fullmatch(response.headers.get("range", ""))
        before = self._offset
        self._offset = int(match[1]) + 1 if match is not None else before + count
        is_nothing = self._offset == 1 and count > 1
        if is_nothing or not before < self._offset <= before + count:
            self._lose()
            raise _AgainError(f"{self._blob.shown}: the registry counts other bytes than it was sent")

    def _body(self, count: int) -> Iterator[bytes]:
        sent = 0
        for piece in self._reader.read(self._offset, count):
            if self._stopping.is_set():
                raise Stopped
            self.sent += len(piece)
            yield cast(bytes, piece)
            sent += len(piece)
            now = time.monotonic()
            if now - self._told >= PROGRESS_SECONDS:
                self._told = now
                self._tell(PushProgressed(self._blob.shown, self._offset + sent))

    def _reconsider_chunk(self, error: RegistryError, count: int) -> None:
        """Choose another way where a chunk was refused; returns where there is none."""
        is_first = self._offset == 0
        if error.status == 413:
            self._shrink(count, SMALL_CHUNK, LEAST_CHUNK)
        if error.status == 416 and is_first:
            self._shrink(count, SMALL_CHUNK)
        if error.status in NO_CHUNKS and is_first and self._connection.takes_chunks:
            self._connection.takes_chunks = False
            self._lose()
            raise _OtherWayError from None
        if error.status in GONE:
            self._restart()
        if error.status == 416:
            raise _AgainError(error.message, error.hint) from None

    def _shrink(self, count: int, *sizes: int) -> None:
        """Send less at once from now on, unless that is little already."""
        for size in sizes:
            if max(size, self._least) < count:
                self._connection.chunk = size
                self._lose()
                raise _OtherWayError from None

    def _restart(self) -> None:
        """Begin anew, unless that was done before."""
        if not self._has_restarted:
            self._has_restarted = True
            self._lose()
            raise _OtherWayError from None

    def _finish(self) -> None:
        """Send what is left, and have it all put together and checked."""
        joint = "&" if "?" in self._location else "?"
        url = f"{self._location}{joint}digest={quote(str(self._blob.digest), safe='')}"
        count = self._blob.size - self._offset
        self._is_sending = count > 0
        try:
            with self._connection.send(
                "PUT",
                url,
                headers={"Content-Type": OCTETS},
                body=(lambda: self._body(count)) if count else None,
                size=count,
                silence=COMMIT_SECONDS,
            ) as response:
                self._is_sending = False
                self._check(response)
        except RegistryError as error:
            self._is_sending = False
            self._reconsider_end(error, count)
            raise
        self._offset = self._blob.size
        self._advanced()

    def _reconsider_end(self, error: RegistryError, count: int) -> None:
        """Choose another way where a blob was refused; returns where there is none."""
        if error.status == 413 and self._connection.takes_chunks:
            self._shrink(count, SMALL_CHUNK, LEAST_CHUNK)
        if error.status in GONE:
            self._restart()
        if error.code in ("DIGEST_INVALID", "SIZE_INVALID"):
            has_restarted, self._has_restarted = self._has_restarted, True
            self._lose()
            self._check_source()
            if not has_restarted:
                raise _OtherWayError from None
            raise CheckFailedError(
                f"{error.message}\n  the bytes that were sent are right: {self._blob.digest}",
                "its server, or somebody on the way, changes what it is sent: do not publish there",
            ) from None

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


def _number(response: Response, name: str) -> int:
    """Give the number of a header, 0 where there is none."""
    said = response.headers.get(name, "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 12 else 0
