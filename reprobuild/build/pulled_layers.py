"""Compressed layers of a published image become listings and blobs of the store, as if they were built here.

Each is read while it arrives, and must come to the ``diff_id`` that the image's config names, in the one form
that layers have; nothing is laid out. What the store has is not asked for. Knows nothing of tags and locks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from reprobuild.build.carrier import Carrier, Wanted
from reprobuild.build.published import Published
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, RecipeError, ReprobuildError
from reprobuild.events import Tell
from reprobuild.images.image import LayerReference
from reprobuild.images.manifest import Descriptor
from reprobuild.store.diff_ids import known_diff_ids, remember_diff_id
from reprobuild.store.realisations import bodies_of_listing
from reprobuild.store.store import Store
from reprobuild.value import Value

if TYPE_CHECKING:
    from reprobuild.store.transaction import Transaction

AGAIN = "take the image from elsewhere, or build it from its recipe"


class KnownLayer(Value):
    """A layer that the store has whole."""

    listing: Digest
    size: int
    """Bytes of its tar stream."""


class Pulled(Value):
    """The layers of an image, all of them in the store now."""

    layers: tuple[LayerReference, ...]
    """Lowest first."""
    is_new: tuple[bool, ...]
    """Whether each was brought now."""
    received: int
    """Bytes that travelled for them."""


def known_layers(
    store: Store, wanted: Sequence[Digest], has: Callable[[Digest], bool]
) -> dict[Digest, KnownLayer]:
    """Give those of some layers, by their ``diff_id``, that the store has with all their bodies.

    ``has``: whether it has a blob; ``Transaction.has`` keeps those from ``gc``.
    """
    return {
        diff_id: KnownLayer(listing, size)
        for diff_id, listing, size in known_diff_ids(store)
        if diff_id in wanted and has(listing) and _has_bodies(store, listing, has)
    }


def missing_layers(store: Store, published: Published) -> tuple[Descriptor, ...]:
    """Give the compressed layers of an image that the store would have to be brought."""
    diff_ids = published.config.diff_ids
    known = known_layers(store, diff_ids, store.blobs.has)
    pairs = zip(published.layers, diff_ids, strict=True)
    return tuple({one.digest: one for one, diff_id in pairs if diff_id not in known}.values())


def bring_layers(
    store: Store,
    group: Transaction,
    carrier: Carrier,
    published: Published,
    titles: Sequence[str],
    tell: Tell,
) -> Pulled:
    """Bring the layers of an image that the store lacks; ``titles``: of the steps that made them.

    ``group``: open until the image is recorded; what is there is kept from ``gc`` by it. What has come stays
    in the store when another layer fails. Raises CheckFailedError for a layer that is not the one that the
    config names, UpstreamError and what else the carrier raises.
    """
    diff_ids = published.config.diff_ids
    known = known_layers(store, diff_ids, group.has)
    lacking = {
        diff_id: (one, title)
        for one, diff_id, title in zip(published.layers, diff_ids, titles, strict=True)
        if diff_id not in known
    }
    wanted = [
        Wanted(
            title, one.digest, one.size, _Reader(store, diff_id, one, f"{published.where}: {title}", known)
        )
        for diff_id, (one, title) in lacking.items()
    ]
    received = carrier.bring(wanted, store, tell) if wanted else 0
    layers = tuple(
        LayerReference(known[diff_id].listing, diff_id, known[diff_id].size, title)
        for diff_id, title in zip(diff_ids, titles, strict=True)
    )
    return Pulled(layers, tuple(diff_id in lacking for diff_id in diff_ids), received)


class _Reader:
    """Reads a compressed layer into the store."""

    def __init__(
        self, store: Store, diff_id: Digest, packed: Descriptor, what: str, known: dict[Digest, KnownLayer]
    ) -> None:
        """``known``: where it says what came of the layer."""
        self._store = store
        self._diff_id = diff_id
        self._packed = packed
        self._what = what
        self._known = known

    def __call__(self, file: BinaryIO) -> None:
        from reprobuild.build.compression import unpacked
        from reprobuild.images.tar_layer import read_layer

        with self._store.transaction() as group:
            try:
                layer, found, size = read_layer(unpacked(file, self._packed.size), group.add_stream)
            except (CheckFailedError, RecipeError) as error:
                raise CheckFailedError(f"{self._what}: {error.message}", AGAIN) from None
            if found != self._diff_id:
                raise CheckFailedError(
                    f"{self._what}: the layer is not the one that the image's config names\n"
                    f"  expected  {self._diff_id}, unpacked\n  got       {found}",
                    AGAIN,
                )
            group.add_bytes(layer.listing)
            remember_diff_id(group, layer, found, size)
        self._known[found] = KnownLayer(layer.digest, size)


def _has_bodies(store: Store, listing: Digest, has: Callable[[Digest], bool]) -> bool:
    try:
        bodies = bodies_of_listing(store.blobs.read(listing))
    except ReprobuildError:
        return False
    return all(has(Digest.trusted(digits)) for digits in bodies)
