"""The way to one repository of a registry: its server, found once, and requests to it that are tried again.

Knows nothing of what is pushed or pulled.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from reprobuild.derivation.image_reference import RegistryReference
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, OfflineError, UpstreamError
from reprobuild.fetch.authorized_http import AuthorizedHttp
from reprobuild.fetch.docker_credentials import Credentials
from reprobuild.fetch.http import READ_SECONDS, Http, Response, UnreachableError
from reprobuild.fetch.registry import WRONG_SCHEME, Endpoint, Found, get_manifest, has_answered, own_endpoints
from reprobuild.fetch.registry_access import RegistryAccess
from reprobuild.fetch.registry_refusal import RegistryError
from reprobuild.fetch.transfer import ATTEMPTS, persist
from reprobuild.settings import Settings

MEBIBYTE = 1024 * 1024

T = TypeVar("T")


class Connection:
    """A repository's server, and who asks it; for many threads."""

    def __init__(
        self,
        reference: RegistryReference,
        settings: Settings,
        environment: Mapping[str, str],
        given: Credentials | None,
    ) -> None:
        self.reference = reference
        self._candidates = own_endpoints(reference, settings)
        self._is_offline = settings.offline
        self._http = Http(environment, connections=settings.jobs, settings=settings)
        self._http.trust(one.host for one in self._candidates)
        names = {one.server: one.registry for one in self._candidates}
        self.access = RegistryAccess(environment, names, given)
        self.http = AuthorizedHttp(self._http, self.access)
        self._lock = threading.Lock()
        self._endpoint: Endpoint | None = None
        self.chunk = settings.upload_chunk * MEBIBYTE
        """Bytes of a blob that go in one request: fewer once the registry has refused so many."""
        self.takes_chunks = True
        """Whether the registry takes blobs in chunks, as far as is known."""

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    @property
    def endpoint(self) -> Endpoint:
        """Where the repository is served. Raises OfflineError, UpstreamError."""
        if self._is_offline:
            raise OfflineError(
                f"this run may not use the network (--offline), and {self.reference.registry} is asked",
                "run the same command without --offline",
            )
        with self._lock:
            if self._endpoint is None:
                self._endpoint = self.persist(self._find)
            return self._endpoint

    def _find(self) -> Endpoint:
        """Find whether the server speaks TLS, where it may do without."""
        if len(self._candidates) == 1:
            return self._candidates[0]
        failures: list[UpstreamError] = []
        for one in self._candidates:
            try:
                with self._http.open(f"{one.server}/v2/") as response:
                    if response.status != WRONG_SCHEME:
                        return one
            except UpstreamError as error:
                failures.append(error)
                if has_answered(error):
                    break
        raise failures[0] if failures else UpstreamError(f"{self.reference.registry} is no registry")

    def url(self, path: str) -> str:
        """Give an address below the repository's: ``blobs/uploads/``."""
        one = self.endpoint
        return f"{one.server}/v2/{one.repository}/{path}"

    def persist(
        self,
        ask: Callable[[], T],
        *,
        progress: Callable[[], int] = lambda: 0,
        wait: Callable[[float], None] = time.sleep,
    ) -> T:
        """Ask until there is an answer, as ``transfer.persist`` does. Raises OfflineError, UpstreamError."""
        try:
            return persist(ask, wait=wait, progress=progress)
        except UnreachableError as error:
            if error.network_is_cut:
                raise OfflineError(
                    f"there is no network, and {self.reference.registry} is asked",
                    "run the same command once with the network",
                ) from None
            raise

    def has_blob(self, digest: Digest, size: int | None = None) -> bool:
        """Whether the repository has a blob, of a size where that is said."""
        said = self._head(self.url(f"blobs/{digest}"))
        length = said.get("content-length", "") if said is not None else ""
        return said is not None and (size is None or not length or length == str(size))

    def has_manifest(self, digest: Digest) -> bool:
        """Whether the repository has a manifest under its digest."""
        return self._head(self.url(f"manifests/{digest}")) is not None

    def _head(self, url: str) -> Mapping[str, str] | None:
        """Give what is said of a thing, None where there is none (404)."""

        def ask() -> Mapping[str, str] | None:
            try:
                with self.http.open(url, method="HEAD") as response:
                    return response.headers
            except RegistryError as error:
                if error.status == 404:
                    return None
                raise

        return self.persist(ask)

    def manifest(self, asked: str, attempts: int = ATTEMPTS) -> Found | None:
        """Give the manifest under a tag or a digest, verified against a digest; None where there is none."""
        try:
            return get_manifest(self.reference, asked, [self.endpoint], self.http, attempts)
        except RegistryError as error:
            if error.status == 404:
                return None
            raise

    def put_manifest(
        self, body: bytes, media_type: str, asked: str, *, headers: Mapping[str, str] | None = None
    ) -> Mapping[str, str]:
        """Put a manifest under a digest or a tag; give the headers of the answer.

        Raises CheckFailedError where the registry says that it stored something else.
        """
        fields = {"Content-Type": media_type, **(headers or {})}
        url = self.url(f"manifests/{asked}")

        def ask() -> Mapping[str, str]:
            with self.send("PUT", url, headers=fields, body=lambda: [body], size=len(body)) as response:
                return response.headers

        said = self.persist(ask)
        stored = said.get("docker-content-digest", "")
        if stored and stored != str(Digest.of(body)):
            raise CheckFailedError(
                f"{self.reference.registry} stored another manifest than {self.reference.name} was sent\n"
                f"  sent    {Digest.of(body)}\n  stored  {stored[:200]}",
                "its server, or somebody on the way, changes what it is sent: do not publish there",
            )
        return said

    @contextmanager
    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Iterable[bytes]] | None = None,
        size: int = 0,
        silence: float = READ_SECONDS,
    ) -> Iterator[Response]:
        """Send one request that changes something; see ``AuthorizedHttp.send``."""
        about = self.url("blobs/uploads/")
        with self.http.send(
            method, url, about=about, headers=headers or {}, body=body, size=size, silence=silence
        ) as response:
            yield response
