"""Images of the store by what people call them: a tag, or the beginning of an image ID.

Knows nothing of recipes.
"""

from __future__ import annotations

from collections.abc import Iterator

from reprobuild.build.image import Realised, image_from_record
from reprobuild.errors import UsageError
from reprobuild.store.store import Store

SHORTEST_PREFIX = 6
"""Hex digits of an image ID that are taken for one at all."""


def images(store: Store) -> Iterator[Realised]:
    """Give every image that the store has a realisation of, in no order."""
    for key in store.realisations:
        record = store.realisations.get(key)
        if record is not None and record.get("kind") == "image":
            yield image_from_record(record)


def is_reference(text: str) -> bool:
    """Tell whether a text names a built image (tag, image ID) rather than a recipe."""
    digits = text.removeprefix("sha256:")
    return ":" in text or (len(digits) >= SHORTEST_PREFIX and set(digits) <= set("0123456789abcdef"))


def find_image(store: Store, text: str) -> Realised:
    """Give the image with a tag, or with an image ID that begins so.

    Raises UsageError where there is none, or more than one.
    """
    prefix = text.removeprefix("sha256:")
    found = {
        image.image_id: image
        for image in images(store)
        if text in (image.tag, image.tag.partition("/")[2]) or image.image_id.hex.startswith(prefix)
    }
    if not found:
        raise UsageError(f"no image {text} is in the store", "reprobuild list shows what there is")
    if len(found) > 1:
        tags = ", ".join(sorted(f"{image.tag} ({image.image_id.short})" for image in found.values()))
        raise UsageError(f"{text} fits several images: {tags}", "give more of the image ID")
    return next(iter(found.values()))
