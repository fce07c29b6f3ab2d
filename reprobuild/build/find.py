"""Images of the store by what people call them: a tag, or the beginning of an image ID.

Knows nothing of recipes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from reprobuild.build import recipes
from reprobuild.build.image import Realised, images_of_record
from reprobuild.build.project import Project
from reprobuild.errors import UsageError
from reprobuild.store.store import Store

SHORTEST_PREFIX = 6
"""Hex digits of an image ID that are taken for one at all."""
SHOWN_TAGS = 8
TAKEN = ("pulled", "imported")
"""Why roots are kept that are tags, not recipes."""
HEX = frozenset("0123456789abcdef")


def images(store: Store) -> Iterator[Realised]:
    """Give every image that the store has a realisation of, in no order.

    Records that make no sense are passed over: an audit names them.
    """
    for key in store.realisations:
        record = store.realisations.get(key)
        if record is not None and record.get("kind") == "image":
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                yield from images_of_record(record)


def taken_images(store: Store) -> list[Realised]:
    """Give the images that were pulled or imported by their tags alone, and that ``gc`` keeps, by tag."""
    found = []
    for root in store.roots:
        for key in root.keys:
            record = store.realisations.get(key)
            if record is not None and root.why in TAKEN and record.get("kind") == "image":
                with suppress(KeyError, TypeError, ValueError, AttributeError):
                    found += [one for one in images_of_record(record) if one.tag == root.name]
    return found


def is_reference(project: Project, text: str) -> bool:
    """Tell whether a text names a built image (tag, image ID) rather than a recipe.

    The name of a recipe that there is may look like the beginning of an image ID; it is the recipe's.
    """
    return ":" in text or (_is_prefix(text) and text not in recipes.names(project.settings.recipes))


def _is_prefix(text: str) -> bool:
    return len(text) >= SHORTEST_PREFIX and set(text) <= HEX


def find_image(store: Store, text: str) -> Realised:
    """Give the image with a tag, or with an image ID that begins so.

    Raises UsageError where there is none, or more than one.
    """
    prefix = text.removeprefix("sha256:")
    is_prefix = _is_prefix(prefix)
    tag, _, pinned = text.partition("@")
    # Images that are equal may have several tags: the first of them, in any order of the records.
    found = {
        image.image_id: image
        for image in sorted(images(store), key=lambda image: image.tag, reverse=True)
        if (f"/{image.tag}".endswith(f"/{tag}") and image.isolation.endswith(pinned))
        or (is_prefix and image.image_id.hex.startswith(prefix))
    }
    if not found:
        tags = sorted({image.tag for image in images(store)})
        shown = ", ".join(tags[:SHOWN_TAGS]) + (", …" if len(tags) > SHOWN_TAGS else "")
        hint = f"there are: {shown}" if tags else "reprobuild realize NAME builds one"
        hint += f"; reprobuild pull {text} takes it from its registry" if "/" in text else ""
        raise UsageError(f"no image {text} is in the store", hint)
    if len(found) > 1:
        several = ", ".join(sorted(f"{image.tag} ({image.image_id.short})" for image in found.values()))
        raise UsageError(f"{text} fits several images: {several}", "give more of the image ID")
    return next(iter(found.values()))
