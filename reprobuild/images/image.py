"""Images: the OCI config whose digest is the image ID, and the manifest around it.

The exact fields are specified in ``docs/image-format.md``. Knows nothing of recipes, nor of where layers
and configs are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from reprobuild.canonical import canonical
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, UsageError

CREATED = "1980-01-02T00:00:00Z"
"""NORMAL_TIME as RFC 3339."""
USER = "0:0"
MORE = ("Cmd", "Entrypoint", "ExposedPorts", "Healthcheck", "Shell", "StopSignal", "User", "Volumes")
"""Fields of the config that an image has only where its Dockerfile or its base says so."""
PREDICTORS_LABEL = "org.reprobuild.predictors"
INPUT_HASH_ANNOTATION = "org.reprobuild.input-hash"

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"

MOST_LAYERS = 120
"""Docker's overlay driver stops at 128 (moby, daemon/graphdriver/overlay2)."""
LARGEST_CONFIG = 4 * 1024 * 1024
"""Bytes; container tools read no larger config (containers/image, internal/iolimits)."""

Json = Any
"""A JSON value, as Python's json module gives it."""


@dataclass(frozen=True, slots=True)
class LayerReference:
    """A layer of an image: what its stream is, and which step made it."""

    layer_digest: Digest
    """Of the layer's listing, by which the store has it."""
    diff_id: Digest
    """Of its tar stream."""
    size: int
    """Bytes of its tar stream."""
    step: str
    """The title of the step that made it; no part of the image."""

    def to_json(self) -> dict[str, Json]:
        """Give what a record of the image keeps."""
        return {
            "layer": str(self.layer_digest),
            "diff_id": str(self.diff_id),
            "size": self.size,
            "step": self.step,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> LayerReference:
        """Read what ``to_json`` gives; raises KeyError or ValueError for anything else."""
        return cls(
            Digest.parse(value["layer"]),
            Digest.parse(value["diff_id"]),
            int(value["size"]),
            str(value["step"]),
        )


@dataclass(frozen=True)
class Config:
    """What an image is beside its files: the world of its commands, its predictors, its layers' digests."""

    platform: str
    """``linux/amd64``, with a variant if there is one: ``linux/arm64/v8``."""
    env: Mapping[str, str]
    """The whole environment of a command, so that ``docker run`` and ``predict`` agree."""
    workdir: str
    """An absolute path."""
    predictors: Mapping[str, Json]
    """Name → predictor, as JSON."""
    diff_ids: tuple[Digest, ...]
    """Lowest layer first."""
    more: Mapping[str, Json] = field(default_factory=dict)
    """Fields of the OCI config that a Dockerfile states: ``Entrypoint``, ``Cmd``, ``User``, ``Labels``."""

    def encode(self) -> bytes:
        """Give the OCI config: canonical JSON, the same bytes for the same image.

        Raises UsageError for more than 120 layers, a config past 4 MiB, or a variable that no
        process can have.
        """
        if len(self.diff_ids) > MOST_LAYERS:
            raise UsageError(
                f"the image has {len(self.diff_ids)} layers; container engines stop at {MOST_LAYERS}",
                "join steps: several commands in one run(…), several packages in one apt(…)",
            )
        for name, value in self.env.items():
            if not name or "=" in name or "\0" in name + value:
                raise UsageError(f"no process can have the environment variable {name!r} = {value!r}")
        system, architecture, *variant = self.platform.split("/")
        document: dict[str, Json] = {
            **({"variant": variant[0]} if variant else {}),
            "architecture": architecture,
            "config": {
                "User": USER,
                **self.more,
                "Env": [f"{name}={self.env[name]}" for name in sorted(self.env)],
                "Labels": {
                    **self.more.get("Labels", {}),
                    PREDICTORS_LABEL: canonical(dict(self.predictors)).decode(),
                },
                "WorkingDir": self.workdir,
            },
            "created": CREATED,
            "history": [{"created": CREATED, "created_by": "reprobuild"} for _ in self.diff_ids],
            "os": system,
            "rootfs": {"diff_ids": [str(diff_id) for diff_id in self.diff_ids], "type": "layers"},
        }
        encoded = canonical(document)
        if len(encoded) > LARGEST_CONFIG:
            raise UsageError(
                f"the image's config has {len(encoded)} bytes; container tools read at most {LARGEST_CONFIG}",
                "shorten the predictors' examples, or put them into files that tests read",
            )
        return encoded

    @classmethod
    def parse(cls, encoded: bytes) -> Config:
        """Read a config that ``encode`` wrote; raises CheckFailedError for anything else."""
        try:
            document = json.loads(encoded)
            inner = document["config"]
            parts = [document["os"], document["architecture"]]
            if "variant" in document:
                parts.append(document["variant"])
            config = cls(
                platform="/".join(parts),
                env=dict(item.split("=", 1) for item in inner["Env"]),
                workdir=inner["WorkingDir"],
                predictors=json.loads(inner["Labels"][PREDICTORS_LABEL]),
                diff_ids=tuple(map(Digest.parse, document["rootfs"]["diff_ids"])),
                more=_more(inner),
            )
            same = config.encode() == encoded
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise CheckFailedError(f"an image's config makes no sense: {error!r}") from None
        if not same:
            raise CheckFailedError("an image's config is not one that reprobuild writes")
        return config


def _more(inner: Mapping[str, Json]) -> dict[str, Json]:
    """Give the fields of a config that only some images have. Raises ValueError for what none has."""
    more = {name: value for name, value in inner.items() if name not in ("Env", "WorkingDir", "Labels")}
    if more.get("User") == USER:
        del more["User"]
    for name, value in more.items():
        if name not in MORE or not value:
            raise ValueError(name)
    labels = {name: value for name, value in inner["Labels"].items() if name != PREDICTORS_LABEL}
    return {**more, "Labels": labels} if labels else more


@dataclass(frozen=True)
class Image:
    """An image: its config, its layers, and what its manifest says about it."""

    config: bytes
    """As ``Config.encode`` gives it."""
    layers: tuple[LayerReference, ...]
    """Lowest first."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Of the manifest; no part of the image's identity."""

    def __post_init__(self) -> None:
        found = json.loads(self.config)["rootfs"]["diff_ids"]
        if found != [str(layer.diff_id) for layer in self.layers]:
            raise ValueError("the config names other layers than the image has")

    @cached_property
    def image_id(self) -> Digest:
        """The digest of the config."""
        return Digest.of(self.config)

    @cached_property
    def manifest(self) -> bytes:
        """The OCI manifest with uncompressed layers, as canonical JSON."""
        document = {
            "annotations": dict(self.annotations),
            "config": {"digest": str(self.image_id), "mediaType": CONFIG_TYPE, "size": len(self.config)},
            "layers": [
                {"digest": str(layer.diff_id), "mediaType": LAYER_TYPE, "size": layer.size}
                for layer in self.layers
            ],
            "mediaType": MANIFEST_TYPE,
            "schemaVersion": 2,
        }
        if not self.annotations:
            del document["annotations"]
        return canonical(document)

    @cached_property
    def manifest_digest(self) -> Digest:
        """The digest of the manifest."""
        return Digest.of(self.manifest)


def make_image(
    layers: Sequence[LayerReference],
    *,
    platform: str,
    env: Mapping[str, str],
    workdir: str,
    predictors: Mapping[str, Json],
    more: Mapping[str, Json] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Image:
    """Make an image of layers (lowest first) and the world of its commands.

    ``env``: all variables that a command has without being given any; ``predictors``: name →
    predictor as JSON; ``more``: further fields of the config; ``annotations``: as
    ``manifest_annotations`` gives them. Raises UsageError as ``Config.encode`` does.
    """
    diff_ids = tuple(layer.diff_id for layer in layers)
    config = Config(platform, env, workdir, predictors, diff_ids, dict(more or {}))
    return Image(config.encode(), tuple(layers), dict(annotations or {}))


def manifest_annotations(
    *, name: str, version: str, input_hash: Digest, source: str = "", licences: Sequence[str] = ()
) -> dict[str, str]:
    """Give the annotations of a manifest (OCI image specification, annotations.md).

    ``source``: an address where the recipe is kept; ``licences``: SPDX expressions. What is empty
    is left out.
    """
    found = {
        "org.opencontainers.image.created": CREATED,
        "org.opencontainers.image.licenses": " AND ".join(sorted(set(licences))),
        "org.opencontainers.image.source": source,
        "org.opencontainers.image.title": name,
        "org.opencontainers.image.version": version,
        INPUT_HASH_ANNOTATION: str(input_hash),
    }
    return {key: value for key, value in found.items() if value}
