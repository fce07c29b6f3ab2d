"""Everything that goes out with an image, whatever carries it: its manifest, and what refers to that.

What is in which artifact is specified in ``docs/publishing.md``. Knows nothing of registries and files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

from reprobuild.build.derive import Derived
from reprobuild.build.image import Realised
from reprobuild.build.project import Project
from reprobuild.derivation.lockfile import LOCK_FILE
from reprobuild.digest import Digest
from reprobuild.images import artifact
from reprobuild.images.artifact import TITLE, artifact_manifest, image_manifest
from reprobuild.images.image import (
    CREATED,
    INPUT_HASH_ANNOTATION,
    MANIFEST_TYPE,
    LayerReference,
    manifest_annotations,
)
from reprobuild.images.manifest import Descriptor
from reprobuild.publish.about import About
from reprobuild.publish.content import Content, content, held
from reprobuild.publish.materials import Material, materials, sources
from reprobuild.publish.packing import Packing
from reprobuild.publish.provenance import PREDICATE_TYPE, provenance
from reprobuild.publish.sbom import sbom
from reprobuild.publish.sources import source_groups
from reprobuild.registry.blob import BlobSource
from reprobuild.store.store import Store
from reprobuild.value import Value

RECIPE = "org.reprobuild.recipe"
"""The annotation of a lock: the name of the recipe's folder."""
PREDICATE = "in-toto.io/predicate-type"


class Manifest(Value):
    """A manifest, and the blobs that it names."""

    body: bytes
    blobs: tuple[BlobSource, ...]
    artifact_type: str = ""
    """Of an artifact; empty for an image."""
    media_type: str = MANIFEST_TYPE

    @property
    def digest(self) -> Digest:
        """The digest of its body."""
        return Digest.of(self.body)


class Bundle(Value):
    """An image as it is published."""

    tag: str
    """``reprobuild/<name>:<version>-<12 hex digits of the input hash>``."""
    manifest: Manifest
    referrers: tuple[Manifest, ...]
    """What refers to the image's manifest."""


@contextmanager
def bundled(
    project: Project,
    derived: Derived,
    realised: Realised,
    about: About,
    *,
    with_sources: bool = False,
    published: bytes = b"",
) -> Iterator[Bundle]:
    """Give an image with all that goes with it, its blobs readable as long as the context lasts.

    ``published``: the body of the image's manifest where it is somewhere already; then the bundle has no
    blobs of the image. Raises CheckFailedError for what is damaged in the store, and as ``fetch`` for sources
    that it lacks.
    """
    store = project.store
    with Packing(store, project.tell) as packing:
        manifest = Manifest(published, ()) if published else _image(store, derived, realised, about, packing)
        listed = tuple(materials(derived))
        described = partial(_artifact, realised, manifest)
        found = [
            described(artifact.PROVENANCE_TYPE, _provenance(derived, realised, listed, manifest, about)),
            described(artifact.SBOM_TYPE, _sbom(store, derived, realised, listed, manifest)),
            described(artifact.LOCK_TYPE, _lock(derived), {RECIPE: derived.folder.name}),
        ]
        if with_sources:
            groups = source_groups(project, derived, listed)
            found += [described(artifact.SOURCES_TYPE, group) for group in groups]
        yield Bundle(realised.tag, manifest, tuple(found))


def image_annotations(derived: Derived, realised: Realised, about: About) -> dict[str, str]:
    """Give what the manifest says of an image."""
    licences = [one.licence for one in sources(derived) if one.licence]
    return manifest_annotations(
        name=realised.recipe,
        version=realised.version,
        input_hash=realised.input_hash,
        source=about.source,
        licences=[f"({text})" if " OR " in text and len(set(licences)) > 1 else text for text in licences],
    )


def references(realised: Realised) -> list[LayerReference]:
    """Give the layers of a realised image, lowest first."""
    return [LayerReference(one.listing, one.diff_id, one.size, one.step) for one in realised.layers]


def _image(store: Store, derived: Derived, realised: Realised, about: About, packing: Packing) -> Manifest:
    config = store.blobs.read(realised.image_id)
    layers = packing.pack(references(realised))
    described = [Descriptor(artifact.LAYER_GZIP_TYPE, blob.digest, blob.size) for blob in layers]
    body = image_manifest(config, described, image_annotations(derived, realised, about))
    return Manifest(body, (held(config, "image config"), *layers))


def _artifact(
    realised: Realised,
    image: Manifest,
    artifact_type: str,
    contents: Sequence[Content],
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    subject = Descriptor(image.media_type, image.digest, len(image.body))
    said = {
        "org.opencontainers.image.created": CREATED,
        INPUT_HASH_ANNOTATION: str(realised.input_hash),
        **(annotations or {}),
    }
    body = artifact_manifest(artifact_type, subject, [one.descriptor for one in contents], said)
    empty = held(artifact.EMPTY, "empty config")
    return Manifest(body, (empty, *(one.blob for one in contents)), artifact_type)


def _provenance(
    derived: Derived, realised: Realised, listed: Sequence[Material], image: Manifest, about: About
) -> list[Content]:
    data = provenance(derived, realised, listed, manifest=image.digest, builder=about.builder)
    said = {TITLE: "provenance.json", PREDICATE: PREDICATE_TYPE}
    return [content(held(data, "provenance"), artifact.PROVENANCE_TYPE, said)]


def _sbom(
    store: Store, derived: Derived, realised: Realised, listed: Sequence[Material], image: Manifest
) -> list[Content]:
    def open_source(digest: Digest) -> BinaryIO | None:
        return store.blobs.open(digest) if store.blobs.has(digest) else None

    data = sbom(realised, listed, manifest=image.digest, platform=derived.platform, open_source=open_source)
    return [content(held(data, "bill of materials"), artifact.SBOM_TYPE, {TITLE: "sbom.cdx.json"})]


def _lock(derived: Derived) -> list[Content]:
    text = held((derived.folder / LOCK_FILE).read_bytes(), "lock")
    derivation = held(derived.derivation.canonical, "derivation")
    return [
        content(text, artifact.LOCK_TYPE, {TITLE: LOCK_FILE}),
        content(derivation, artifact.DERIVATION_TYPE, {TITLE: "derivation.json"}),
    ]
