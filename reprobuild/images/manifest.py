"""Indexes and manifests of images that others made, as values.

Reads the OCI image specification's (image-index.md, manifest.md) and Docker's own (distribution, "Image
Manifest V 2, Schema 2"). What cannot be used is refused by its name. Knows nothing of registries or stores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, RecipeError

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
INDEXES = (OCI_INDEX, DOCKER_LIST)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)

CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
LAYERS = frozenset(
    {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    }
)
LARGEST = 4 * 1024 * 1024
"""Bytes of a manifest; registries take no larger one (distribution specification, "Pushing Manifests")."""
MOST_LAYERS = 1000

_USUAL_VARIANTS = {"linux/amd64": ("", "v1"), "linux/arm64": ("", "v8")}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What an index or a manifest says of something else (OCI image specification, descriptor.md)."""

    media_type: str
    digest: Digest
    size: int
    platform: str = ""
    """``linux/arm/v7``; empty where nothing is said."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    """What an artifact is: of a manifest that refers to another."""


@dataclass(frozen=True, slots=True)
class Index:
    """Images for several platforms, under one name."""

    manifests: tuple[Descriptor, ...]

    @property
    def platforms(self) -> list[str]:
        """Platforms that there are images for; what is no image (an attestation) says ``unknown``."""
        named = (one.platform for one in self.manifests)
        return sorted({platform for platform in named if platform and "unknown" not in platform})

    def choose(self, platform: str) -> Descriptor | None:
        """Give the image for a platform, or None."""
        variants = _USUAL_VARIANTS.get(platform, ("",))
        wanted = [f"{platform}/{variant}".rstrip("/") for variant in variants]
        return next((one for one in self.manifests if one.platform in wanted), None)


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image for one platform."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    """Lowest first."""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something that is no image, kept as images are (manifest.md, "Guidelines for Artifact Usage")."""

    artifact_type: str
    blobs: tuple[Descriptor, ...]
    """What the manifest calls layers."""
    subject: Digest | None = None
    """The manifest that it refers to."""
    annotations: Mapping[str, str] = field(default_factory=dict)


def read_artifact(body: bytes, what: str) -> Artifact:
    """Read the manifest of an artifact; ``what``: what errors call it. Raises CheckFailedError."""
    try:
        value = json.loads(body)
        subject = value.get("subject")
        blobs = tuple(map(read_descriptor, value["layers"]))
        kind = value.get("artifactType") or value["config"]["mediaType"]
        return Artifact(
            str(kind),
            blobs,
            None if subject is None else read_descriptor(subject).digest,
            _annotations(value),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckFailedError(f"{what}: its manifest makes no sense: {error!r}") from None


def layout_path(digest: Digest) -> str:
    """Give where an OCI layout has a blob (OCI image specification, image-layout.md)."""
    return f"blobs/sha256/{digest.hex}"


def read_manifest(body: bytes, media_type: str, what: str) -> Index | Manifest:
    """Read an index or a manifest; ``media_type``: what its server said; ``what``: what errors call it.

    Raises RecipeError for what cannot be a base image, CheckFailedError for what makes no sense.
    """
    try:
        value = json.loads(body)
        declared = value.get("mediaType") or media_type.partition(";")[0].strip()
        if value.get("schemaVersion") == 1 or declared in DOCKER_SCHEMA_1:
            raise RecipeError(
                f"{what} has a manifest of Docker's old schema 1, which says nothing of its layers' content",
                "push the image again with a docker of 2016 or later, and name that",
            )
        if declared in INDEXES or (declared not in MANIFESTS and "manifests" in value):
            return Index(tuple(map(read_descriptor, value["manifests"])))
        if declared in MANIFESTS or "layers" in value:
            return _manifest(value, what)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckFailedError(f"{what}: its manifest makes no sense: {error!r}") from None
    raise RecipeError(f"{what} is no image: it is of type {declared or 'unknown'!r}")


def _manifest(value: Mapping[str, Any], what: str) -> Manifest:
    config = read_descriptor(value["config"])
    layers = tuple(map(read_descriptor, value["layers"]))
    if config.media_type not in CONFIGS:
        raise RecipeError(f"{what} is no image: its config is of type {config.media_type!r}")
    if len(layers) > MOST_LAYERS:
        raise RecipeError(f"{what} has {len(layers)} layers; {MOST_LAYERS} are read")
    for layer in layers:
        kind = layer.media_type
        if "foreign" in kind or "nondistributable" in kind:
            raise RecipeError(
                f"{what} has a layer that registries do not give out (it is of type {kind!r})",
                "such layers are Windows' own: choose an image for Linux",
            )
        if kind not in LAYERS:
            raise RecipeError(f"{what} has a layer of type {kind!r}; tar, with gzip or zstd, is read")
    return Manifest(config, layers, _annotations(value))


def read_descriptor(value: Mapping[str, Any]) -> Descriptor:
    """Read a descriptor. Raises ValueError, KeyError, TypeError or AttributeError for what is none."""
    size = value["size"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"the size {size!r}")
    platform = value.get("platform") or {}
    parts = [platform.get("os", ""), platform.get("architecture", ""), platform.get("variant", "")]
    return Descriptor(
        media_type=str(value.get("mediaType", "")),
        digest=Digest.parse(value["digest"]),
        size=size,
        platform="/".join(part for part in parts if part),
        annotations=_annotations(value),
        artifact_type=str(value.get("artifactType") or ""),
    )


def _annotations(value: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(item) for name, item in (value.get("annotations") or {}).items()}
