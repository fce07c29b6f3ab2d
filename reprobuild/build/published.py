"""An image as somebody published it: manifest and config, held against each other and against its tag.

Knows nothing of what carries it. Whether it is what its tag promises is for a lock to say: here it is checked
that nothing contradicts itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from reprobuild.derivation.predictors import Predictor
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.images.image import INPUT_HASH_ANNOTATION, LARGEST_CONFIG, Config
from reprobuild.images.manifest import Descriptor, Manifest, read_manifest
from reprobuild.value import Value

if TYPE_CHECKING:
    from reprobuild.build.carrier import Carrier

TITLE = "org.opencontainers.image.title"
VERSION = "org.opencontainers.image.version"
NOT_OURS = "reprobuild publish NAME --to REPOSITORY publishes images that can be pulled"

_TAG = re.compile(r".+-[0-9a-f]{12}")


class Announced(Value):
    """What a manifest says, before anything else was asked for."""

    where: str
    """What people call the image: ``docker.io/user/tutorial:1.0-0123456789ab``."""
    body: bytes
    manifest: Manifest
    """What the body says."""

    @property
    def digest(self) -> Digest:
        """The digest of the manifest."""
        return Digest.of(self.body)

    @property
    def image_id(self) -> Digest:
        """The digest of the config."""
        return self.manifest.config.digest

    @property
    def input_hash(self) -> Digest:
        """What the annotation says; raises CheckFailedError where there is none."""
        try:
            return Digest.parse(self.manifest.annotations[INPUT_HASH_ANNOTATION])
        except (KeyError, ValueError):
            raise CheckFailedError(
                f"{self.where}: its manifest names no input hash: it is none of reprobuild's", NOT_OURS
            ) from None


class Published(Value):
    """An image whose config was read."""

    announced: Announced
    config: Config
    body: bytes
    """Of the config."""
    predictors: dict[str, Predictor]

    @property
    def where(self) -> str:
        """What people call it."""
        return self.announced.where

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """The compressed layers, lowest first; as many as the config has."""
        return self.announced.manifest.layers

    @property
    def name(self) -> str:
        """What its recipe was called."""
        return self.announced.manifest.annotations.get(TITLE, "")

    @property
    def version(self) -> str:
        """The recipe's version."""
        return self.announced.manifest.annotations.get(VERSION, "")


def announced(carrier: Carrier, asked: str, where: str, *, attempts: int = 5) -> Announced | None:
    """Read the manifest under a tag or a digest; None where there is none.

    Raises RecipeError for what is no image, CheckFailedError for what makes no sense, UpstreamError.
    """
    found = carrier.manifest(asked, attempts=attempts)
    if found is None:
        return None
    manifest = read_manifest(found.body, found.media_type, where)
    if not isinstance(manifest, Manifest):
        raise CheckFailedError(f"{where} is a list of images, and reprobuild publishes single ones", NOT_OURS)
    return Announced(where, found.body, manifest)


def read_published(carrier: Carrier, found: Announced) -> Published:
    """Read an image's config, and hold it against the manifest.

    Raises CheckFailedError and RecipeError for what reprobuild did not write, UpstreamError.
    """
    from reprobuild.derivation.verify import predictors_from_stranger

    body = carrier.read(found.manifest.config, LARGEST_CONFIG)
    try:
        config = Config.parse(body)
    except CheckFailedError as error:
        raise CheckFailedError(f"{found.where}: {error.message}", NOT_OURS) from None
    if not isinstance(config.workdir, str) or not config.workdir.startswith("/"):
        raise CheckFailedError(f"{found.where}: its work folder makes no sense: {config.workdir!r}", NOT_OURS)
    if len(config.diff_ids) != len(found.manifest.layers):
        raise CheckFailedError(
            f"{found.where}: its config names {len(config.diff_ids)} layers, its manifest "
            f"{len(found.manifest.layers)}",
            NOT_OURS,
        )
    return Published(found, config, body, predictors_from_stranger(config.predictors, found.where))


def tag_of(found: Announced) -> str:
    """Give the tag that an image should have by what its manifest says."""
    return f"{found.manifest.annotations.get(VERSION, '')}-{found.input_hash.short}"


def check_tag(found: Announced, tag: str) -> None:
    """Compare a tag with the version and the input hash that the manifest names.

    Raises CheckFailedError where they differ, or the tag is none that reprobuild gives.
    """
    if not _TAG.fullmatch(tag):
        raise CheckFailedError(
            f"{found.where}: {tag!r} is no tag that reprobuild gives: it would end in 12 hex digits of the "
            "input hash",
            f"to take it all the same, name the manifest instead: @{found.digest}",
        )
    if tag != tag_of(found):
        raise CheckFailedError(
            f"{found.where}: what its manifest says would have the tag {tag_of(found)!r}: its input hash is "
            f"{found.input_hash}",
            "somebody gave it another image's tag: take it from whoever built it",
        )
