"""Where the files of a base image can be had: its manifest, its config and its layers.

Knows nothing of what is in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from reprobuild.derivation.image_reference import OCI_ARCHIVE, OCI_LAYOUT, LocalReference, read_reference
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Oci
from reprobuild.derivation.world import MANIFEST
from reprobuild.fetch.download import Download
from reprobuild.fetch.registry import access_to, endpoints
from reprobuild.images.manifest import layout_path
from reprobuild.settings import Settings


def downloads(step: Oci, pins: Sequence[Pin], settings: Settings) -> list[Download]:
    """Give a download for each pin: a registry's by digest, mirrors of the settings first; a file's by its
    place beside the recipe."""
    reference = read_reference(step.reference)
    if isinstance(reference, LocalReference):
        return [
            Download(
                name=f"{step.reference} {pin.name}",
                urls=(file_address(reference, pin.found.get("path") or layout_path(pin.sha256)),),
                sha256=pin.sha256,
                size=pin.size,
                where=str(step.where),
            )
            for pin in pins
        ]
    found = endpoints(reference, step.mirrors, settings)
    access = access_to(found)
    trusted = tuple(one.host for one in found if one.is_trusted)
    return [
        Download(
            name=f"{step.reference} {pin.name}",
            urls=tuple(
                one.manifest(str(pin.sha256)) if pin.name == MANIFEST else one.blob(pin.sha256)
                for one in found
            ),
            sha256=pin.sha256,
            size=pin.size,
            where=str(step.where),
            trusted=trusted,
            access=access,
        )
        for pin in pins
    ]


def file_address(reference: LocalReference, name: str) -> str:
    """Give the address of a file of an image beside the recipe: in a folder, or a member of a tar archive."""
    if reference.kind == OCI_LAYOUT:
        return f"file:{quote(reference.path)}/{quote(name)}"
    return f"file:{quote(reference.path)}#{quote(name)}"


def is_layout(reference: LocalReference) -> bool:
    """Tell whether an image is laid out as the OCI image specification has it."""
    return reference.kind in (OCI_LAYOUT, OCI_ARCHIVE)
