"""Manifests of published images, and of the artifacts that refer to them, as bytes.

Writes the OCI image specification 1.1 (manifest.md, "Guidelines for Artifact Usage"); what is in which
artifact is specified in ``docs/publishing.md``. Knows nothing of registries, nor of what contents mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reprobuild.canonical import canonical
from reprobuild.digest import Digest
from reprobuild.images.image import CONFIG_TYPE, MANIFEST_TYPE
from reprobuild.images.manifest import Descriptor

LAYER_GZIP_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"

PROVENANCE_TYPE = "application/vnd.in-toto+json"
SBOM_TYPE = "application/vnd.cyclonedx+json"
LOCK_TYPE = "application/vnd.reprobuild.lock.v1+json"
SOURCES_TYPE = "application/vnd.reprobuild.sources.v1"
PREDICTIONS_TYPE = "application/vnd.reprobuild.predictions.v1+jsonl+gzip"
"""Types of artifacts."""
DERIVATION_TYPE = "application/vnd.reprobuild.derivation.v1+json"
"""Of the canonical derivation, whose digest is the input hash."""
SOURCE_TYPE = "application/vnd.reprobuild.source.v1"
"""Of one pinned file."""
BODIES_TYPE = "application/vnd.reprobuild.bodies.v1+tar"
"""Of a tar archive of files, each named by the hex digits of its sha256."""

TITLE = "org.opencontainers.image.title"
"""The annotation by which tools (oras) name the file that they make of a blob."""

EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
"""What an artifact has instead of a config."""


def image_manifest(config: bytes, layers: Sequence[Descriptor], annotations: Mapping[str, str]) -> bytes:
    """Give the manifest of an image; ``layers``: lowest first."""
    return _manifest(Descriptor(CONFIG_TYPE, Digest.of(config), len(config)), layers, annotations)


def artifact_manifest(
    artifact_type: str, subject: Descriptor, content: Sequence[Descriptor], annotations: Mapping[str, str]
) -> bytes:
    """Give the manifest of an artifact that refers to another manifest."""
    config = Descriptor(EMPTY_TYPE, Digest.of(EMPTY), len(EMPTY))
    more = {"artifactType": artifact_type, "subject": _descriptor(subject)}
    return _manifest(config, content, annotations, more)


def _manifest(
    config: Descriptor,
    layers: Sequence[Descriptor],
    annotations: Mapping[str, str],
    more: Mapping[str, Any] | None = None,
) -> bytes:
    return canonical(
        {
            **({"annotations": dict(annotations)} if annotations else {}),
            "config": _descriptor(config),
            "layers": [_descriptor(layer) for layer in layers],
            "mediaType": MANIFEST_TYPE,
            "schemaVersion": 2,
            **(more or {}),
        }
    )


def _descriptor(one: Descriptor) -> dict[str, Any]:
    found: dict[str, Any] = {"mediaType": one.media_type, "digest": str(one.digest), "size": one.size}
    return {**found, "annotations": dict(one.annotations)} if one.annotations else found
