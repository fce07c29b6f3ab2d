"""Registries: where an image's repository is served, and the manifests that it has under a tag or a digest.

Speaks the OCI distribution specification ("Pull"). Knows nothing of platforms, layers or trees.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from reprobuild.derivation.image_reference import (
    DOCKER_HUB,
    DOCKER_HUB_NAMES,
    DOCKER_HUB_SERVER,
    RegistryReference,
    read_reference,
)
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, UpstreamError, UsageError
from reprobuild.fetch.authorized_http import AuthorizedHttp
from reprobuild.fetch.credentials import is_loopback
from reprobuild.fetch.document import get
from reprobuild.fetch.http import UnreachableError
from reprobuild.fetch.registry_access import RegistryAccess
from reprobuild.fetch.transfer import ATTEMPTS
from reprobuild.images.manifest import LARGEST
from reprobuild.settings import Settings

WRONG_SCHEME = 400
"""What servers with TLS answer to plain http."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A repository as one server has it."""

    server: str
    """``https://registry-1.docker.io``."""
    repository: str
    registry: str
    """What people, and Docker's files, call the server."""
    is_trusted: bool = False
    """Whether the settings name it: its address need not be public."""

    def manifest(self, asked: str) -> str:
        """Give the address of a manifest by tag or digest."""
        return f"{self.server}/v2/{self.repository}/manifests/{asked}"

    def blob(self, digest: Digest) -> str:
        """Give the address of a blob."""
        return f"{self.server}/v2/{self.repository}/blobs/{digest}"

    @property
    def host(self) -> str:
        """The server's host, without a port."""
        return urlsplit(self.server).hostname or ""


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest that a registry gave."""

    body: bytes
    media_type: str
    endpoint: Endpoint

    @property
    def digest(self) -> Digest:
        """The digest of the manifest."""
        return Digest.of(self.body)


def endpoints(reference: RegistryReference, mirrors: Sequence[str], settings: Settings) -> list[Endpoint]:
    """Give where a reference's repository may be had, in turn: mirrors of the settings, the registry
    itself, mirrors of the recipe.

    Raises UsageError for a mirror in the settings that makes no sense.
    """
    found = [*_configured(reference, settings), *_servers(reference, settings)]
    for text in mirrors:
        mirror = read_reference(text)
        assert isinstance(mirror, RegistryReference)
        found.extend(_servers(mirror, settings))
    return list(dict.fromkeys(found))


def own_endpoints(reference: RegistryReference, settings: Settings) -> list[Endpoint]:
    """Give where a registry itself serves a reference's repository: where pushes go, no mirror."""
    return _servers(reference, settings)


def access_to(found: Iterable[Endpoint]) -> RegistryAccess:
    """Give what proves who asks at some endpoints."""
    return RegistryAccess(os.environ, {one.server: one.registry for one in found})


def get_manifest(
    reference: RegistryReference,
    asked: str,
    found: Sequence[Endpoint],
    http: AuthorizedHttp,
    attempts: int = ATTEMPTS,
) -> Found:
    """Give the manifest that a registry has under a tag or a digest, from the first server that gives one.

    ``attempts``: times that each is asked before it counts as failed.

    Raises UpstreamError where none does, OfflineError where there is no network, CheckFailedError for
    one that is not of the digest that was asked for.
    """
    failures: list[UpstreamError] = []
    answered: set[str] = set()
    for endpoint in found:
        name = urlsplit(endpoint.server).netloc
        if name in answered:
            continue  # with TLS or without, it is one server
        try:
            document = get(endpoint.manifest(asked), http=http, limit=LARGEST, attempts=attempts)
        except UpstreamError as error:
            failures.append(error)
            if has_answered(error):
                answered.add(name)
            continue
        assert document is not None
        digest = Digest.of(document.body)
        if asked.startswith("sha256:") and str(digest) != asked:
            raise CheckFailedError(
                f"{endpoint.registry} gives another manifest of {reference.name} than it was asked for\n"
                f"  expected  {asked}\n  got       {digest}",
                "its server, or somebody on the way, changed it: try another mirror",
            )
        return Found(document.body, document.content_type, endpoint)
    first = failures[0]
    first.message = "\n".join([first.message, *(f"  also tried: {one.message}" for one in failures[1:])])
    first.args = (first.message,)
    raise first


def has_answered(error: UpstreamError) -> bool:
    """Whether a server that failed is not to be asked again with, or without, TLS."""
    if isinstance(error, UnreachableError):
        return error.is_untrusted
    return getattr(error, "status", 0) != WRONG_SCHEME


def _configured(reference: RegistryReference, settings: Settings) -> Iterator[Endpoint]:
    """Give mirrors that the settings have for a registry: ``docker.io=https://mirror.test/prefix``."""
    for text in settings.oci_mirrors:
        registry, equals, server = text.partition("=")
        parts = urlsplit(server)
        if not equals or not registry or parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"the setting [mirrors] oci: {text!r} is not REGISTRY=ADDRESS",
                'write "docker.io=https://mirror.example"',
            )
        if registry == reference.registry or {registry, reference.registry} <= DOCKER_HUB_NAMES:
            prefix = parts.path.strip("/").removeprefix("v2").strip("/")
            repository = f"{prefix}/{reference.repository}" if prefix else reference.repository
            yield Endpoint(f"{parts.scheme}://{parts.netloc}", repository, parts.netloc, is_trusted=True)


def _servers(reference: RegistryReference, settings: Settings) -> list[Endpoint]:
    """Give a registry's own server; one of this machine, or one that is allowed, may speak plain http.

    On this machine that is tried first: a server with TLS says at once that it is one.
    """
    name = DOCKER_HUB_SERVER if reference.registry == DOCKER_HUB else reference.registry
    host = urlsplit(f"//{name}").hostname or ""
    schemes = ["https"]
    if is_loopback(host):
        schemes = ["http", "https"]
    elif host in settings.allow_private:
        schemes = ["https", "http"]
    return [Endpoint(f"{scheme}://{name}", reference.repository, reference.registry) for scheme in schemes]
