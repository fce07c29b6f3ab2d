"""One repository of a registry: what it has, and what is pushed to it.

Speaks the OCI distribution specification 1.1. Knows nothing of layers, lock files or what is published.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from reprobuild.derivation.image_reference import RegistryReference
from reprobuild.digest import Digest
from reprobuild.events import PushFinished, PushStarted, Tell, ignore
from reprobuild.fetch.docker_credentials import Credentials
from reprobuild.fetch.registry import Endpoint, Found
from reprobuild.fetch.registry_access import RegistryAccess
from reprobuild.fetch.transfer import ATTEMPTS
from reprobuild.images.manifest import Descriptor
from reprobuild.registry.blob import BlobSource
from reprobuild.registry.connection import Connection
from reprobuild.registry.crew import push_all
from reprobuild.registry.download import Download
from reprobuild.registry.journal import Journal
from reprobuild.registry.referrers import Referrers
from reprobuild.registry.tags import put_tag
from reprobuild.registry.upload import Upload
from reprobuild.settings import Settings

if TYPE_CHECKING:
    from reprobuild.store.store import Store


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
        self._jobs = settings.jobs
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

    @property
    def endpoint(self) -> Endpoint:
        """Where it is served. Raises OfflineError, UpstreamError."""
        return self._connection.endpoint

    @property
    def access(self) -> RegistryAccess:
        """What proves who asks, for whoever brings its blobs over connections of their own."""
        return self._connection.access

    def manifest(self, asked: str, *, attempts: int = ATTEMPTS) -> Found | None:
        """Give the manifest under a tag or a digest, None where there is none.

        ``attempts``: times that it is asked before the registry counts as failed. Raises CheckFailedError
        for one that is not of the digest that was asked for, UpstreamError.
        """
        return self._connection.manifest(asked, attempts)

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has a blob."""
        return self._connection.has_blob(digest)

    def read_blob(self, digest: Digest, *, limit: int) -> bytes:
        """Give a small blob, verified. Raises CheckFailedError, for one larger than ``limit`` too."""
        parts: list[bytes] = []
        Download(self._connection, digest, parts.append).run(size=None, most=limit)
        return b"".join(parts)

    def fetch_blob(self, digest: Digest, size: int, take: Callable[[bytes], object]) -> None:
        """Hand a blob's bytes to ``take`` as they arrive, going on where a connection is cut.

        Raises CheckFailedError, at the end, where they were not the right ones: what was taken is then
        not to be used.
        """
        Download(self._connection, digest, take).run(size=size, most=size)

    def push_blob(self, blob: BlobSource) -> int:
        """Bring a blob into the repository; give the bytes that travelled, 0 where it is there already.

        Raises UpstreamError, CheckFailedError for bytes that are not what their digest says, here or there.
        """
        return self._push(blob, self._tell, threading.Event())

    def push_blobs(self, blobs: Sequence[BlobSource]) -> int:
        """Bring blobs into the repository, several at a time; give the bytes that travelled.

        Raises what ``push_blob`` raises, for the first blob that fails.
        """
        return push_all(self._push, blobs, jobs=self._jobs, tell=self._tell)

    def _push(self, blob: BlobSource, tell: Tell, stopping: threading.Event) -> int:
        tell(PushStarted(blob.shown, blob.size))
        sent = 0
        if not self._connection.has_blob(blob.digest, blob.size):
            with self._journal.note(blob.digest) as note:
                upload = Upload(self._connection, blob, note, tell=tell, stopping=stopping)
                upload.run()
                sent = upload.sent
        self._journal.has(blob.digest)
        tell(PushFinished(blob.shown, blob.size, sent))
        return sent

    def put_manifest(self, body: bytes, media_type: str, asked: str, *, subject: Digest | None = None) -> int:
        """Put a manifest under its digest or a tag; give the bytes that travelled.

        ``subject``: what the manifest says that it refers to: where the registry has no referrers API, it
        is listed under the fallback tag. A tag that is there is overwritten: ``put_tag`` does not do that.
        Raises UpstreamError, CheckFailedError for a registry that stores something else.
        """
        if subject is not None:
            return self._referrers.put(subject, [(body, media_type)])
        digest = Digest.of(body)
        if asked == str(digest) and self._connection.has_manifest(digest):
            return 0
        self._connection.put_manifest(body, media_type, asked)
        return len(body)

    def put_tag(self, tag: str, digest: Digest) -> bool:
        """Let a tag name a manifest that is there; tell whether it did not before.

        Raises CheckFailedError where the tag names another one: tags never move.
        """
        return put_tag(self._connection, tag, digest)

    def put_referrers(self, subject: Digest, manifests: Sequence[tuple[bytes, str]]) -> int:
        """Put manifests (body, media type) that refer to another one, and list them all at once.

        What is listed already is not sent again; gives the bytes that travelled. The subject need not be
        there yet. Raises UpstreamError, CheckFailedError.
        """
        return self._referrers.put(subject, manifests)

    def referrers(self, subject: Digest, artifact_type: str = "") -> list[Descriptor]:
        """Give what refers to a manifest, of one type or of all. Raises UpstreamError, CheckFailedError."""
        return self._referrers.find(subject, artifact_type)
