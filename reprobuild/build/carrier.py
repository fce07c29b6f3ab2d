"""What carries published images: a registry's repository, or a layout in a file; one interface for both.

Knows nothing of what is in an image. Whatever a carrier gives fits the digest that it was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.images.manifest import Descriptor
from reprobuild.value import Value

if TYPE_CHECKING:
    from reprobuild.events import Tell
    from reprobuild.fetch.following import Take
    from reprobuild.registry.repository import Repository
    from reprobuild.settings import Settings
    from reprobuild.store.store import Store


class Carried(Value):
    """A manifest as a carrier has it."""

    body: bytes
    media_type: str

    @property
    def digest(self) -> Digest:
        """The digest of the manifest."""
        return Digest.of(self.body)


class Wanted(Value):
    """A blob that is to come into the store."""

    name: str
    """What a person calls it."""
    digest: Digest
    size: int
    take: Take | None = None
    """Reads it instead of keeping it, as ``fetch.download.Download.take``."""


class Carrier(Protocol):
    """Where published images are."""

    @property
    def name(self) -> str:
        """What people call it."""

    def manifest(self, asked: str, *, attempts: int = ...) -> Carried | None:
        """Give the manifest under a tag or a digest; None where there is none."""

    def read(self, one: Descriptor, limit: int) -> bytes:
        """Give a small blob of at most ``limit`` bytes. Raises CheckFailedError for a larger one."""

    def referrers(self, subject: Digest) -> Sequence[Descriptor]:
        """Give what refers to a manifest."""

    def bring(self, wanted: Sequence[Wanted], store: Store, tell: Tell) -> int:
        """Bring blobs, several at a time; give the bytes that travelled."""


class RegistryCarrier:
    """A repository of a registry."""

    def __init__(self, repository: Repository, settings: Settings) -> None:
        self._repository = repository
        self._settings = settings

    @property
    def name(self) -> str:
        return self._repository.name

    def manifest(self, asked: str, *, attempts: int = 5) -> Carried | None:
        found = self._repository.manifest(asked, attempts=attempts)
        return None if found is None else Carried(found.body, found.media_type)

    def read(self, one: Descriptor, limit: int) -> bytes:
        check_limit(one, limit, self.name)
        return self._repository.read_blob(one.digest, limit=limit)

    def referrers(self, subject: Digest) -> Sequence[Descriptor]:
        return self._repository.referrers(subject)

    def bring(self, wanted: Sequence[Wanted], store: Store, tell: Tell) -> int:
        from reprobuild.fetch.download import Download, fetch_all

        there = self._repository.endpoint
        downloads = [
            Download(
                name=one.name,
                urls=(there.blob(one.digest),),
                sha256=one.digest,
                size=one.size,
                where=self.name,
                trusted=(there.host,),
                access=self._repository.access,
                mend="its server, or somebody on the way, changed it: take it from elsewhere, or build it",
                take=one.take,
            )
            for one in wanted
        ]
        settings = self._settings
        found = fetch_all(
            store, downloads, tell=tell, offline=settings.offline, jobs=settings.jobs, settings=settings
        )
        return sum(one.received for one in found)


def check_limit(one: Descriptor, limit: int, name: str) -> None:
    """Raise CheckFailedError for what is too large to be read at once."""
    if one.size > limit:
        raise CheckFailedError(f"{name}: {one.digest} has {one.size:,} bytes; {limit:,} are read")
