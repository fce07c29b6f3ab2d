"""A closure: an image with all that goes with it as one file, for machines without a network.

The file is an OCI layout of the same bundle that a registry gets (``docs/pulling.md``); predictions may go
with it. Knows nothing of registries.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from reprobuild.build.carrier import Wanted
from reprobuild.build.companions import read_companions
from reprobuild.build.derive import NAMESPACE, derive_recipe
from reprobuild.build.find import find_image, is_reference
from reprobuild.build.image import Realised, pulled_key
from reprobuild.build.layout import AGAIN, NAME, Layout, open_layout
from reprobuild.build.project import Project
from reprobuild.build.published import Announced, announced, check_tag, read_published, tag_of
from reprobuild.build.realize import realize
from reprobuild.derivation.image_reference import read_reference
from reprobuild.derivation.predictors import Json
from reprobuild.digest import BUFFER_SIZE, Digest
from reprobuild.errors import CheckFailedError, MissingBlobError, OutsideError, RecipeError, UsageError
from reprobuild.events import Note
from reprobuild.images.artifact import (
    EMPTY,
    LAYER_GZIP_TYPE,
    PREDICTIONS_TYPE,
    PROVENANCE_TYPE,
    TITLE,
    artifact_manifest,
    image_manifest,
)
from reprobuild.images.export import image_entry, index_of, layout_file
from reprobuild.images.file_archive import ArchivedFile, export_files, known
from reprobuild.images.image import INPUT_HASH_ANNOTATION, manifest_annotations
from reprobuild.images.manifest import Descriptor, layout_path, read_artifact, read_manifest
from reprobuild.images.manifest import Manifest as ImageManifest
from reprobuild.publish.about import About
from reprobuild.publish.bundle import Bundle, Manifest, bundled, references
from reprobuild.publish.content import held, stored
from reprobuild.publish.packing import Packing
from reprobuild.publish.receive import Received, receive
from reprobuild.registry.blob import BlobSource
from reprobuild.settings import ENGINES
from reprobuild.store.store import Store
from reprobuild.value import Value

PREDICTIONS = "predictions.jsonl.gz"


class Exported(Value):
    """A closure that is in a file."""

    image: Realised
    manifest: Digest
    artifacts: tuple[str, ...]
    """Types of what refers to the image."""
    size: int
    """Bytes of the file."""
    is_written: bool
    """Whether it had to be written: the same closure may be there already."""


def export_closure(
    project: Project,
    name: str,
    options: Mapping[str, Json],
    path: Path,
    about: About,
    *,
    with_sources: bool = False,
    predictions: bool = False,
    trust: bool = False,
) -> Exported:
    """Write a recipe's image (built first if need be) with all that goes with it to one file.

    ``name``: a recipe's, or the tag of an image that was pulled or imported, which goes out with what came
    with it; ``with_sources``: with every pinned file; ``predictions``: with what the cache has of it. Raises
    what ``realize`` and ``fetch`` raise, as ``export_files``, and CheckFailedError for what is damaged in the
    store.
    """
    if not path.parent.is_dir():
        raise OutsideError(f"{path.parent} is no folder", f"mkdir -p {path.parent}")
    with ExitStack() as stack:
        if is_reference(project, name):
            image = find_image(project.store, name)
            if with_sources or options:
                raise UsageError(
                    f"{name} is an image, and its recipe has sources and options", "name the recipe"
                )
            bundle = stack.enter_context(_bundle_of_image(project, image))
        else:
            image = realize(project, name, options, trust=trust)
            derived = derive_recipe(project, name, options, trust=trust)
            whole = stack.enter_context(bundled(project, derived, image, about, with_sources=with_sources))
            bundle = whole if image.engine in ENGINES else _without_provenance(project, image, whole)
        if predictions:
            bundle = stack.enter_context(_with_predictions(project, image, bundle))
        is_written = write_bundle(bundle, project.store.blobs.read(image.image_id), path)
    artifacts = tuple(one.artifact_type for one in bundle.referrers)
    return Exported(image, bundle.manifest.digest, artifacts, path.stat().st_size, is_written)


def _without_provenance(project: Project, image: Realised, bundle: Bundle) -> Bundle:
    """Leave out what would say how an image was built that was not built here."""
    project.tell(Note(f"{image.tag} was not built here ({image.isolation}): it goes without provenance"))
    kept = tuple(one for one in bundle.referrers if one.artifact_type != PROVENANCE_TYPE)
    return Bundle(bundle.tag, bundle.manifest, kept)


def write_bundle(bundle: Bundle, config: bytes, path: Path) -> bool:
    """Write a bundle to one file, whole or not at all; tell whether it had to be written."""
    entries = [image_entry(config, bundle.manifest.body, bundle.tag), *map(_entry, bundle.referrers)]
    blobs: dict[Digest, BlobSource] = {}
    for manifest in (bundle.manifest, *bundle.referrers):
        blobs |= {blob.digest: blob for blob in manifest.blobs}
    manifests = [bundle.manifest, *bundle.referrers]
    files = [
        layout_file(),
        known("index.json", index_of(entries)),
        *(known(layout_path(one.digest), one.body) for one in manifests),
        *(_file(blob) for blob in blobs.values()),
    ]
    return export_files(files, path)


@contextmanager
def _bundle_of_image(project: Project, image: Realised) -> Iterator[Bundle]:
    """Give an image of which there is no recipe here: as it was published, as far as that is here.

    Where its layers were compressed otherwise, its manifest is another one, and nothing else refers to that.
    """
    store = project.store
    config = held(store.blobs.read(image.image_id), "image config")
    record = store.realisations.get(pulled_key(image.image_id, image.input_hash)) or {}
    with Packing(store, project.tell) as packing:
        layers = packing.pack(references(image))
        described = [Descriptor(LAYER_GZIP_TYPE, blob.digest, blob.size) for blob in layers]
        body = _manifest_of(store, record)
        if body is not None and _layers_of(body) == [blob.digest for blob in layers]:
            artifacts = tuple(_artifacts_of(store, record))
        else:
            said = manifest_annotations(name=image.recipe, version=image.version, input_hash=image.input_hash)
            body, artifacts = image_manifest(store.blobs.read(image.image_id), described, said), ()
        yield Bundle(image.tag, Manifest(body, (config, *layers)), artifacts)


def _manifest_of(store: Store, record: Mapping[str, Json]) -> bytes | None:
    """Give the manifest with which an image came, if that is here."""
    try:
        return store.blobs.read(Digest.parse(record["manifest"]))
    except (KeyError, ValueError, MissingBlobError):
        return None


def _layers_of(body: bytes) -> list[Digest]:
    manifest = read_manifest(body, "", "the manifest")
    return [one.digest for one in manifest.layers] if isinstance(manifest, ImageManifest) else []


def _artifacts_of(store: Store, record: Mapping[str, Json]) -> Iterator[Manifest]:
    """Give what came with an image and refers to it, if all of that is here."""
    for text in record.get("artifacts", ()):
        body = store.blobs.read(Digest.parse(text))
        artifact = read_artifact(body, text)
        if all(store.blobs.has(one.digest) for one in artifact.blobs):
            named = [(one, one.annotations.get(TITLE, one.digest.short)) for one in artifact.blobs]
            blobs = [stored(store, one.digest, one.size, title) for one, title in named]
            yield Manifest(body, (held(EMPTY, "empty config"), *blobs), artifact.artifact_type)


@contextmanager
def _with_predictions(project: Project, image: Realised, bundle: Bundle) -> Iterator[Bundle]:
    """Give a bundle with the predictions of its image that the cache has, as long as the context lasts."""
    from reprobuild.predict.cache import PredictionCache
    from reprobuild.publish.compress import compressed, workers
    from reprobuild.publish.predictions import lines_of

    with ExitStack() as stack:
        cache = stack.enter_context(PredictionCache.open(project.store.root))
        path = stack.enter_context(project.store.scratch("closure")) / PREDICTIONS
        lines = lines_of(cache, image)
        first = next(lines, None)
        if first is None:
            project.tell(Note(f"the cache has no predictions of {image.tag}: none go with it"))
            yield bundle
            return
        with workers() as pool, path.open("xb") as file:
            for piece in compressed(itertools.chain((first,), lines), pool):
                file.write(piece)
        blob = _source(path)
        others = (one for one in bundle.referrers if one.artifact_type != PREDICTIONS_TYPE)
        yield Bundle(bundle.tag, bundle.manifest, (*others, _artifact(bundle, image, blob)))


def _artifact(bundle: Bundle, image: Realised, blob: BlobSource) -> Manifest:
    """Give the artifact of predictions."""
    subject = Descriptor(bundle.manifest.media_type, bundle.manifest.digest, len(bundle.manifest.body))
    content = Descriptor(PREDICTIONS_TYPE, blob.digest, blob.size, annotations={TITLE: PREDICTIONS})
    said = {INPUT_HASH_ANNOTATION: str(image.input_hash)}
    body = artifact_manifest(PREDICTIONS_TYPE, subject, [content], said)
    return Manifest(body, (held(EMPTY, "empty config"), blob), PREDICTIONS_TYPE)


def _source(path: Path) -> BlobSource:
    def chunks(offset: int) -> Iterator[bytes]:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            while piece := file.read(BUFFER_SIZE):
                yield piece

    return BlobSource(Digest.of_chunks(chunks(0)), path.stat().st_size, chunks, "predictions")


def _entry(one: Manifest) -> Mapping[str, Any]:
    return {
        "artifactType": one.artifact_type,
        "digest": str(one.digest),
        "mediaType": one.media_type,
        "size": len(one.body),
    }


def _file(blob: BlobSource) -> ArchivedFile:
    return ArchivedFile(layout_path(blob.digest), blob.size, lambda: blob.chunks(0))


# The way in.


class Closure(Value):
    """A file with an image of reprobuild."""

    layout: Layout
    image: Announced
    tag: str
    """What it is called."""


def closure_of(path: Path) -> Closure | None:
    """Open a file as a closure; None for one that is none: no layout, or no image of reprobuild in it.

    Raises CheckFailedError for one that is damaged or contradicts itself, OutsideError for what cannot be
    read.
    """
    layout = open_layout(path)
    images = [] if layout is None else list(_images(layout))
    if layout is None or not images:
        return None
    if len(images) > 1:
        raise CheckFailedError(f"{path} has {len(images)} images, and a closure has one", AGAIN)
    image, name = images[0]
    tag = name or f"{NAMESPACE}/{image.manifest.annotations.get(TITLE)}:{tag_of(image)}"
    try:
        reference = read_reference(tag)
    except ValueError as error:
        raise CheckFailedError(f"{path}: its image is called {tag!r}: {error}", AGAIN) from None
    check_tag(image, getattr(reference, "tag", ""))
    return Closure(layout, image, tag)


def import_closure(project: Project, closure: Closure) -> tuple[Received, int]:
    """Take a closure into the store: the image, its sources, and predictions; give how many of these are new.

    All of it is in order before anything counts. Raises as ``receive``.
    """
    predictions = _bring_predictions(project, closure)
    received = receive(project, closure.layout, closure.image, closure.tag, how="imported", everything=True)
    return received, _keep_predictions(project, received, predictions)


def _images(layout: Layout) -> Iterator[tuple[Announced, str]]:
    """Give the images of a layout that reprobuild wrote, with what the index calls them."""
    for one in layout.index():
        if one.artifact_type:
            continue
        try:
            found = announced(layout, str(one.digest), layout.name)
        except RecipeError:
            continue  # an artifact, or an image of other tools
        if found is not None and INPUT_HASH_ANNOTATION in found.manifest.annotations:
            yield found, one.annotations.get(NAME, "")


def _bring_predictions(project: Project, closure: Closure) -> tuple[Descriptor, ...]:
    """Bring the predictions of a closure into the store as they are, and look through them."""
    from reprobuild.build.compression import unpacked
    from reprobuild.predict.key import run_id
    from reprobuild.publish.predictions import check_lines

    layout, store = closure.layout, project.store
    found = read_companions(layout, closure.image).contents(PREDICTIONS_TYPE)
    if found:
        image = read_published(layout, closure.image)
        run = run_id(image.config.diff_ids, image.config.env, image.config.workdir)
        layout.bring([Wanted("predictions", one.digest, one.size) for one in found], store, project.tell)
        for one in found:
            with store.blobs.open(one.digest) as file:
                check_lines(unpacked(file, one.size), image.predictors, run, layout.name)
    return found


def _keep_predictions(project: Project, received: Received, found: Sequence[Descriptor]) -> int:
    from reprobuild.build.compression import unpacked
    from reprobuild.predict.cache import PredictionCache
    from reprobuild.publish.predictions import keep_lines

    new = 0
    for one in found:
        with project.store.blobs.open(one.digest) as file, PredictionCache.open(project.store.root) as cache:
            new += keep_lines(unpacked(file, one.size), cache, received.realised, received.manifest)
    return new
