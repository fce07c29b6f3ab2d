"""What layers come to as tar streams: their ``diff_id``, worked out once and remembered.

Knows nothing of images.
"""

from __future__ import annotations

from reprobuild.canonical import canonical_digest
from reprobuild.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from reprobuild.store.store import Store
    from reprobuild.store.transaction import Transaction
    from reprobuild.tree import Layer


def diff_key(listing: Digest) -> Digest:
    """Give the key under which a layer's ``diff_id`` is remembered, by the digest of its listing."""
    from reprobuild.derivation.derive import ASSEMBLER

    return canonical_digest({"diff": ASSEMBLER, "layer": str(listing)})


def recall_diff_id(store: Store, listing: Digest) -> Digest | None:
    """Give what a layer is known to come to."""
    record = store.realisations.get(diff_key(listing))
    return None if record is None else Digest.parse(record["diff_id"])


def measured_diff_id(store: Store, group: Transaction, layer: Layer) -> tuple[Digest, int]:
    """Give the digest and the size in bytes of a layer's tar stream, remembered with the group."""
    key = diff_key(layer.digest)
    record = store.realisations.get(key)
    if record is not None:
        return Digest.parse(record["diff_id"]), int(record["size"])
    from reprobuild.images.tar import write_layer

    found, size = write_layer(layer, store.blobs.open)
    remember_diff_id(group, layer, found, size)
    return found, size


def remember_diff_id(group: Transaction, layer: Layer, found: Digest, size: int) -> None:
    """Remember the digest and the size in bytes of a layer's tar stream with a group."""
    group.record(
        diff_key(layer.digest),
        {"kind": "diff", "blobs": [], "layer": str(layer.digest), "diff_id": str(found), "size": size},
    )


def known_diff_ids(store: Store) -> Iterator[tuple[Digest, Digest, int]]:
    """Give all that is remembered: ``diff_id``, the listing's digest, the stream's size in bytes.

    Neither listing nor bodies need be there.
    """
    for key in store.realisations:
        record = store.realisations.get(key)
        if record is not None and record.get("kind") == "diff":
            yield Digest.parse(record["diff_id"]), Digest.parse(record["layer"]), int(record["size"])
