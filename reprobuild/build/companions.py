"""What was published with an image, and refers to its manifest: derivation, lock, sources, predictions.

Each is looked for by its type; what is not there is left out. Knows nothing of what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from reprobuild.build.published import Announced
from reprobuild.derivation.lockfile import LockError, Output, read_lock
from reprobuild.errors import CheckFailedError
from reprobuild.images.artifact import (
    BODIES_TYPE,
    DERIVATION_TYPE,
    LOCK_TYPE,
    PREDICTIONS_TYPE,
    SOURCE_TYPE,
    SOURCES_TYPE,
)
from reprobuild.images.manifest import Descriptor, read_artifact
from reprobuild.value import Value

if TYPE_CHECKING:
    from reprobuild.build.carrier import Carrier

LARGEST_TEXT = 256 * 1024 * 1024
"""Bytes of a lock or a derivation that are read: with many exchanges they are large."""
MOST_ARTIFACTS = 100


class Companions(Value):
    """What there is beside an image."""

    derivation: bytes | None
    """The canonical derivation: its digest is the input hash that the manifest names."""
    output: Output | None
    """What the lock that was published says that this image comes of."""
    sources: tuple[Descriptor, ...]
    """Pinned files."""
    bodies: tuple[Descriptor, ...]
    """Archives of the files of pinned trees."""
    predictions: tuple[Descriptor, ...]


def read_companions(carrier: Carrier, found: Announced) -> Companions:
    """Read what refers to an image. Raises CheckFailedError for what makes no sense, UpstreamError."""
    listed = [one for one in carrier.referrers(found.digest) if one.artifact_type in _TYPES]
    contents: list[Descriptor] = []
    for one in listed[:MOST_ARTIFACTS]:
        there = carrier.manifest(str(one.digest))
        if there is None:
            raise CheckFailedError(f"{found.where}: what is said to refer to it ({one.digest}) is not there")
        artifact = read_artifact(there.body, found.where)
        if artifact.subject != found.digest:
            raise CheckFailedError(f"{found.where}: what is said to refer to it refers to something else")
        contents += artifact.blobs
    derivation = next(
        (one for one in contents if (one.media_type, one.digest) == (DERIVATION_TYPE, found.input_hash)), None
    )
    return Companions(
        None if derivation is None else carrier.read(derivation, LARGEST_TEXT),
        _output(carrier, found, (one for one in contents if one.media_type == LOCK_TYPE)),
        tuple(one for one in contents if one.media_type == SOURCE_TYPE),
        tuple(one for one in contents if one.media_type == BODIES_TYPE),
        tuple(one for one in contents if one.media_type == PREDICTIONS_TYPE),
    )


_TYPES = frozenset({LOCK_TYPE, SOURCES_TYPE, PREDICTIONS_TYPE})


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
