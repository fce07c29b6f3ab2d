"""What tests of pushes share: blobs that can be read from anywhere, repositories of a registry.

Knows nothing of what a registry answers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprobuild import settings
from reprobuild.derivation.image_reference import RegistryReference, read_reference
from reprobuild.digest import Digest
from reprobuild.events import Event
from reprobuild.registry.blob import BlobSource
from reprobuild.registry.repository import Repository
from reprobuild.store.store import Store
from tests.base_images import OCI, BaseImage, descriptor

MEBIBYTE = 1024 * 1024
MANIFEST = f"{OCI}manifest.v1+json"


def noise(size: int, seed: int = 1) -> bytes:
    """Give bytes that no compression makes smaller, the same each time."""
    import random

    return random.Random(seed).randbytes(size)


def source(body: bytes, *, piece: int = 300_000, name: str = "") -> BlobSource:
    """Make a blob of bytes, given in pieces of an odd size."""

    def chunks(offset: int) -> Iterator[bytes]:
        for start in range(offset, len(body), piece):
            yield body[start : start + piece]

    return BlobSource(Digest.of(body), len(body), chunks, name)


def stopping(body: bytes, at: int, stop: BaseException | Callable[[], None]) -> BlobSource:
    """Make a blob whose reading ends at an offset, with an exception, or a call that does not return."""

    def chunks(offset: int) -> Iterator[bytes]:
        if offset < at:
            yield body[offset:at]
        if isinstance(stop, BaseException):
            raise stop
        stop()

    return BlobSource(Digest.of(body), len(body), chunks)


def artifact(kind: str, subject: bytes, *, note: str = "") -> bytes:
    """Make a manifest that refers to another one."""
    empty = descriptor("application/vnd.oci.empty.v1+json", b"{}")
    value: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": empty,
        "layers": [empty],
        "subject": descriptor(MANIFEST, subject),
    }
    return json.dumps({**value, **({"annotations": {"note": note}} if note else {})}).encode()


@dataclass
class Pusher:
    """Makes repositories of one registry, with a store and settings of the test's own."""

    folder: Path
    registry: str
    environment: dict[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    chunk: int = 1
    """MiB."""

    def repository(
        self, name: str = "x/y", *, password: tuple[str, str] | None = None, remembers: bool = True
    ) -> Repository:
        reference = read_reference(f"{self.registry}/{name}")
        assert isinstance(reference, RegistryReference)
        environment = {"HOME": str(self.folder), "PATH": os.environ["PATH"], **self.environment}
        return Repository(
            reference,
            settings.load({"upload_chunk": self.chunk}, environment, str(self.folder)),
            environment=environment,
            tell=self.events.append,
            password=password,
            store=Store.open(self.folder / "store") if remembers else None,
        )


def push_image(repository: Repository, image: BaseImage, tag: str) -> int:
    """Push an image as ``publish`` does; give the bytes that travelled."""
    blobs = [source(image.config, name="config")]
    blobs += [source(body, name=f"layer {number}") for number, body in enumerate(image.packed, 1)]
    sent = repository.push_blobs(blobs)
    digest = Digest.of(image.manifest)
    sent += repository.put_manifest(image.manifest, image.manifest_type, str(digest))
    repository.put_tag(tag, digest)
    return sent
