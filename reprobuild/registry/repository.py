"""One repository of a registry: what it has, and what is pushed to it.

Speaks the OCI distribution specification 1.1. Knows nothing of layers, lock files or what is published.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from reprobuild.derivation.image_reference import RegistryReference
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, UpstreamError
from reprobuild.events import PushFinished, PushStarted, Tell, ignore
from reprobuild.fetch.docker_credentials import Credentials
from reprobuild.fetch.http import UnreachableError
from reprobuild.fetch.registry import Found
from reprobuild.fetch.transfer import CHUNK
from reprobuild.images.manifest import Descriptor
from reprobuild.registry.blob import BlobSource
from reprobuild.registry.connection import Connection
from reprobuild.registry.crew import push_all
from reprobuild.registry.journal import Journal
from reprobuild.registry.referrers import Referrers
from reprobuild.registry.tags import put_tag
from reprobuild.registry.upload import Upload
from reprobuild.settings import Settings

if TYPE_CHECKING:
    from reprobuild.store.store import Store

MEBIBYTE = 1024 * 1024


class Repository:
    """A repository, over connections that stay open; a context manager, for many threads."""

    def __init__(
        self,
        reference: RegistryReference,
        settings: Settings,
        *,
        environment: Mapping[str, str] = os.environ,
        tell: Tell = ignore,
        password: tuple[str, str] | None = None,
        store: Store | None = None,
    ) -> None:
        """``password``: user name and password to be used instead of those that are kept for the registry;
        ``store``: where interrupted pushes are remembered, None: nowhere."""
        self.name = reference.name
        self._settings = settings
        self._tell = tell
        given = Credentials(*password) if password is not None else None
        self._connection = Connection(reference, settings, environment, given)
        self._journal = Journal(store, reference.registry, reference.repository)
        self._referrers = Referrers(self._connection)

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._connection.close()

    def manifest(self, asked: str) -> Found | None:
        """Give the manifest under a tag or a digest, None where there is none.

        Raises CheckFailedError for one that is not of the digest that was asked for, UpstreamError.
        """
        return self._connection.manifest(asked)

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has a blob."""
        return self._connection.head(self._connection.url(f"blobs/{digest}")) is not None

    def read_blob(self, digest: Digest, *, limit: int) -> bytes:
        """Give a small blob, verified. Raises CheckFailedError, UpstreamError (one larger than ``limit``)."""
        parts: list[bytes] = []
        self._fetch(digest, None, limit, parts.append)
        return b"".join(parts)

    def fetch_blob(self, digest: Digest, size: int, take: Callable[[bytes], object]) -> None:
        """Hand a blob's bytes to ``take`` as they arrive, going on where a connection is cut.

        Raises CheckFailedError, at the end, where they were not the right ones: what was taken is then
        not to be used.
        """
        self._fetch(digest, size, size, take)

    def push_blob(self, blob: BlobSource) -> int:
        """Bring a blob into the repository; give the bytes that travelled, 0 where it is there already.

        Raises UpstreamError, CheckFailedError for bytes that are not what their digest says, here or there.
        """
        return self._push(blob, self._tell)

    def push_blobs(self, blobs: Sequence[BlobSource]) -> int:
        """Bring blobs into the repository, several at a time; give the bytes that travelled.

        Raises what ``push_blob`` raises, for the first blob that fails.
        """
        return push_all(
            self._push, blobs, jobs=self._settings.jobs, tell=self._tell, stopping=self._connection.stopping
        )

    def _push(self, blob: BlobSource, tell: Tell) -> int:
        tell(PushStarted(blob.shown, blob.size))
        sent = 0
        if not self.has_blob(blob.digest):
            with self._journal.note(blob.digest) as note:
                chunk = self._settings.upload_chunk * MEBIBYTE
                upload = Upload(self._connection, blob, note, chunk=chunk, tell=tell)
                upload.run()
                sent = upload.sent
        self._journal.has(blob.digest)
        tell(PushFinished(blob.shown, blob.size, sent))
        return sent

    def put_manifest(
        self, body: bytes, media_type: str, asked: str, *, subject: Digest | None = None
    ) -> None:
        """Put a manifest under its digest or a tag.

        ``subject``: what the manifest says that it refers to: where the registry has no referrers API, it
        is listed under the fallback tag.
        """
        self._connection.put_manifest(body, media_type, asked)
        if subject is not None:
            self._referrers.put(subject, [(body, media_type)])

    def put_tag(self, tag: str, digest: Digest) -> bool:
        """Let a tag name a manifest that is there; tell whether it did not before.

        Raises CheckFailedError where the tag names another one: tags never move.
        """
        return put_tag(self._connection, tag, digest)

    def put_referrers(self, subject: Digest, manifests: Sequence[tuple[bytes, str]]) -> None:
        """Put manifests (body, media type) that refer to another one, and list them all at once."""
        self._referrers.put(subject, manifests)

    def referrers(self, subject: Digest, artifact_type: str = "") -> list[Descriptor]:
        """Give what refers to a manifest, of one type or of all."""
        return self._referrers.find(subject, artifact_type)

    def _fetch(self, digest: Digest, size: int | None, most: int, take: Callable[[bytes], object]) -> None:
        url = self._connection.url(f"blobs/{digest}")
        hasher = hashlib.sha256()
        arrived = 0

        def ask() -> None:
            nonlocal arrived
            headers = {"Range": f"bytes={arrived}-"} if arrived else {}
            with self._connection.http.open(url, headers) as response:
                skip = arrived if response.status == 200 else 0
                if response.status == 416:
                    raise UpstreamError(f"{self.name}: {digest} ends after {arrived:,} bytes")
                while chunk := response.read(CHUNK):
                    if skip >= len(chunk):
                        skip -= len(chunk)
                        continue
                    chunk, skip = chunk[skip:], 0
                    arrived += len(chunk)
                    if arrived > most:
                        raise CheckFailedError(f"{self.name}: {digest} has more than {most:,} bytes")
                    hasher.update(chunk)
                    take(chunk)
                if size is not None and arrived < size:
                    raise UnreachableError(f"{self.name}: {digest} ends after {arrived:,} of {size:,} bytes")

        self._connection.persist(ask, progress=lambda: arrived)
        if hasher.hexdigest() != digest.hex:
            raise CheckFailedError(
                f"{self.name} gives other bytes than it was asked for\n  expected  {digest}\n"
                f"  got       sha256:{hasher.hexdigest()}",
                "its server, or somebody on the way, changed them",
            )
