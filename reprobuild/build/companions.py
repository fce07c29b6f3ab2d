"""What was published with an image, and refers to its manifest: derivation, lock, sources, predictions.

Each is looked for by its type; what is not there is left out. Knows nothing of what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from reprobuild.build.published import Announced
from reprobuild.derivation.lockfile import LockError, Output, read_lock
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.images.artifact import (
    DERIVATION_TYPE,
    LOCK_TYPE,
    PREDICTIONS_TYPE,
    PROVENANCE_TYPE,
    SBOM_TYPE,
    SOURCES_TYPE,
)
from reprobuild.images.manifest import Artifact, Descriptor, read_artifact
from reprobuild.value import Value

if TYPE_CHECKING:
    from reprobuild.build.carrier import Carrier

LARGEST_TEXT = 256 * 1024 * 1024
"""Bytes of a lock or a derivation that are read: with many exchanges they are large."""
MOST_ARTIFACTS = 100


class Companion(Value):
    """An artifact that refers to an image."""

    body: bytes
    """Of its manifest."""
    artifact: Artifact

    @property
    def digest(self) -> Digest:
        """The digest of its manifest."""
        return Digest.of(self.body)


class Companions(Value):
    """What there is beside an image."""

    artifacts: tuple[Companion, ...] = ()
    derivation: bytes | None = None
    """The canonical derivation: its digest is the input hash that the manifest names."""
    output: Output | None = None
    """What the lock that was published says that this image comes of."""

    def contents(self, *media_types: str) -> tuple[Descriptor, ...]:
        """Give the blobs of some types, or all."""
        found = [blob for one in self.artifacts for blob in one.artifact.blobs]
        return tuple(one for one in found if not media_types or one.media_type in media_types)


def read_companions(carrier: Carrier, found: Announced) -> Companions:
    """Read what refers to an image. Raises CheckFailedError for what makes no sense, UpstreamError."""
    listed = [one for one in carrier.referrers(found.digest) if one.artifact_type in TYPES]
    companions = []
    for one in listed[:MOST_ARTIFACTS]:
        there = carrier.manifest(str(one.digest))
        if there is None:
            raise CheckFailedError(f"{found.where}: what is said to refer to it ({one.digest}) is not there")
        artifact = read_artifact(there.body, found.where)
        if artifact.subject != found.digest:
            raise CheckFailedError(f"{found.where}: what is said to refer to it refers to something else")
        companions.append(Companion(there.body, artifact))
    known = Companions(tuple(companions))
    derivations = [one for one in known.contents(DERIVATION_TYPE) if one.digest == found.input_hash]
    derivation = carrier.read(derivations[0], LARGEST_TEXT) if derivations else None
    return Companions(tuple(companions), derivation, _output(carrier, found, known.contents(LOCK_TYPE)))


TYPES = frozenset({DERIVATION_TYPE, LOCK_TYPE, PREDICTIONS_TYPE, PROVENANCE_TYPE, SBOM_TYPE, SOURCES_TYPE})
"""Types of artifacts that are looked at."""


def _output(carrier: Carrier, found: Announced, locks: Iterable[Descriptor]) -> Output | None:
    """Give what a lock says of this very image."""
    for one in locks:
        try:
            lock = read_lock(carrier.read(one, LARGEST_TEXT).decode(), found.where)
        except (LockError, UnicodeDecodeError) as error:
            raise CheckFailedError(f"{found.where}: the lock beside it cannot be read: {error}") from None
        for outputs in lock.outputs.values():
            for output in outputs:
                if (output.image_id, output.input_hash) == (found.image_id, found.input_hash):
                    return output
    return None
