"""Gives an image of the store to other tools: an OCI layout, or an archive for ``docker load``.

Knows nothing of the formats, which are ``oci.export``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from reprobuild.build.image import Realised
from reprobuild.errors import OutsideError
from reprobuild.images.image import Image, LayerReference, manifest_annotations
from reprobuild.store.store import Store
from reprobuild.tree import Layer

Format = Literal["oci", "oci-dir", "docker"]
"""An OCI layout as one tar archive, as a folder, or an archive that ``docker load`` reads."""


def oci_image(store: Store, realised: Realised) -> Image:
    """Give a realised image as OCI has it. Raises CheckFailedError for a config that is gone or damaged."""
    references = tuple(
        LayerReference(layer.listing, layer.diff_id, layer.size, layer.step) for layer in realised.layers
    )
    annotations = manifest_annotations(
        name=realised.recipe, version=realised.version, input_hash=realised.input_hash
    )
    return Image(store.blobs.read(realised.image_id), references, annotations)


def layer_reader(store: Store) -> Callable[[LayerReference], Layer]:
    """Give the function by which exports get the layers of an image."""

    def read_layer(reference: LayerReference) -> Layer:
        return Layer.parse(store.blobs.read(reference.layer_digest))

    return read_layer


def export(store: Store, realised: Realised, path: Path, form: Format) -> bool:
    """Write an image to a path, whole or not at all; tell whether it had to be written.

    What is there already with the same content is left alone. Raises UsageError for a path that
    holds something else, OutsideError where it cannot be written, CheckFailedError for damage.
    """
    from reprobuild.images.export import export_archive, export_layout

    image = oci_image(store, realised)
    read_layer = layer_reader(store)
    if not path.parent.is_dir():
        raise OutsideError(f"{path.parent} is no folder", f"mkdir -p {path.parent}")
    if form == "oci-dir":
        return export_layout(image, read_layer, store.blobs.open, path, tag=realised.tag)
    docker = form == "docker"
    return export_archive(image, read_layer, store.blobs.open, path, tag=realised.tag, docker=docker)
