"""What a reference to a base image came to, wherever it was found.

Knows nothing of registries and files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.world import MANIFEST
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, RecipeError
from reprobuild.images.base_config import BaseConfig
from reprobuild.images.manifest import Descriptor, Index

LARGEST_CONFIG = 16 * 1024 * 1024
"""Bytes of a config."""
MOST_NESTED = 4
"""Indexes in indexes that are followed."""


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image for the platform at hand."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    manifest: Pin | None = None
    """Of an image that has one; a docker archive's has none."""
    paths: Mapping[Digest, str] = field(default_factory=dict)
    """Where files of a docker archive are in it."""


def choose_platform(index: Index, platform: str, what: str) -> Descriptor:
    """Give the image of an index for a platform. Raises RecipeError, naming those that there are."""
    chosen = index.choose(platform)
    if chosen is None and len(index.manifests) == 1 and not index.manifests[0].platform:
        return index.manifests[0]  # its config will say
    if chosen is None:
        known = ", ".join(index.platforms)
        raise RecipeError(
            f"{what} is not there for {platform}",
            f"it is there for {known}" if known else "it names no platform at all",
        )
    return chosen


def check_image(what: str, config: BaseConfig, found: FoundImage, platform: str) -> None:
    """Compare a config with the platform that is wanted and with the layers that it should have.

    Raises RecipeError, CheckFailedError.
    """
    if not config.fits(platform):
        raise RecipeError(
            f"{what} is for {config.platform}, says its config, and {platform} is wanted",
            "name an image for this platform",
        )
    if len(config.diff_ids) != len(found.layers):
        raise CheckFailedError(
            f"{what}: its config names {len(config.diff_ids)} layers, and it has {len(found.layers)}"
        )


def check_config_size(what: str, size: int) -> None:
    """Raises RecipeError for a config that is too large to be one."""
    if size > LARGEST_CONFIG:
        raise RecipeError(f"{what}: its config has {size:,} bytes; {LARGEST_CONFIG:,} are read")


def manifest_pin(body: bytes, url: str = "") -> Pin:
    """Give the pin of a manifest; ``url``: the reference that led to it."""
    return Pin(MANIFEST, len(body), Digest.of(body), found={"url": url} if url else {})
