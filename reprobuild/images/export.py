"""Images for other tools: as an OCI layout (a folder, or one tar archive) and as a docker archive.

What is in them is specified in ``docs/image-format.md``. Streams: no layer is unpacked, kept on the way,
or held in memory. Knows nothing of stores and daemons.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from reprobuild.canonical import canonical
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, UsageError
from reprobuild.images.file_archive import (
    ArchivedFile,
    archive,
    archive_size,
    export_files,
    has_bytes,
    known,
    temporary,
    write_synced,
)
from reprobuild.images.image import MANIFEST_TYPE, Config, Image, Json, LayerReference
from reprobuild.images.manifest import layout_path
from reprobuild.images.tar import OpenBlob, Sink, layer_chunks, layer_size, write_layer
from reprobuild.tree import Layer

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
DEFAULT_REGISTRY = "docker.io"
"""What a name without a registry means to container engines."""

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:localhost|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9-]+(?=:))(?::[0-9]+)?"
_TAG = re.compile(rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*:[a-zA-Z0-9_][a-zA-Z0-9._-]{{0,127}}")
"""Names that container engines take (distribution, reference/reference.go)."""

ReadLayer = Callable[[LayerReference], Layer]
"""Gives the layer that an image refers to."""


def write_archive(
    image: Image, read_layer: ReadLayer, open_blob: OpenBlob, out: Sink, *, tag: str, docker: bool
) -> int:
    """Stream an image as one tar archive; give its size in bytes. Arguments and errors: ``archive_of``."""
    size, chunks = archive_of(image, read_layer, open_blob, tag=tag, docker=docker)
    for chunk in chunks:
        out.write(chunk)
    return size


def archive_of(
    image: Image,
    read_layer: ReadLayer,
    open_blob: OpenBlob,
    *,
    tag: str,
    docker: bool,
    without: Collection[Digest] = (),
) -> tuple[int, Iterator[bytes]]:
    """Give the size in bytes of an image as one tar archive, and the archive, made as it is read.

    ``tag``: what it is called where it is loaded (``namespace/name:version-hash``); ``docker``: with what
    ``docker load`` reads, beside the OCI layout; ``without``: layers whose files are left out, by their
    ``diff_id``. Raises UsageError for a tag that container engines do not take; the archive raises
    CheckFailedError where a layer in the store is not the image's.
    """
    left_out = {layout_path(diff_id) for diff_id in without}
    files = [file for file in _files(image, read_layer, open_blob, tag, docker) if file.name not in left_out]
    return archive_size(files), archive(files)


def export_archive(
    image: Image,
    read_layer: ReadLayer,
    open_blob: OpenBlob,
    path: Path,
    *,
    tag: str,
    docker: bool,
    replace: bool = False,
) -> bool:
    """Write an image's archive to a path, whole or not at all; tell whether it had to be written.

    A file that is there is left alone where it has the same bytes, else it is a UsageError unless
    ``replace``. Raises OutsideError where the path cannot be written to, CheckFailedError as
    ``write_archive``.
    """
    return export_files(_files(image, read_layer, open_blob, tag, docker), path, replace=replace)


def export_layout(
    image: Image,
    read_layer: ReadLayer,
    open_blob: OpenBlob,
    path: Path,
    *,
    tag: str,
    replace: bool = False,
) -> bool:
    """Write an image's OCI layout to a folder, whole or not at all; tell whether it had to be written.

    A folder that is there is left alone where it holds the same, and filled where it is empty; else
    it is a UsageError, unless ``replace`` and it is an OCI layout. Raises as ``export_archive``.
    """
    files = _files(image, read_layer, open_blob, tag, docker=False)
    is_there = os.path.lexists(path)
    if is_there and not (path.is_dir() and not any(path.iterdir())):
        if path.is_dir() and _is_layout_of(path, files):
            return False
        if not path.is_dir() or not (path / "oci-layout").is_file():
            raise UsageError(f"{path} is there already, and is no OCI layout", "name another folder")
        if not replace:
            raise UsageError(
                f"{path} is there already, with another image", "name another folder, or remove it"
            )
    with temporary(path) as draft:
        draft.mkdir()
        (draft / "blobs" / "sha256").mkdir(parents=True)
        for file in files:
            write_synced(draft / file.name, file.chunks())
        if is_there:
            # A folder cannot be renamed over one that holds something.
            with temporary(path) as old:
                os.rename(path, old)
                try:
                    os.rename(draft, path)
                except BaseException:
                    os.rename(old, path)
                    raise
        else:
            os.rename(draft, path)
    return True


def _files(
    image: Image, read_layer: ReadLayer, open_blob: OpenBlob, tag: str, docker: bool
) -> list[ArchivedFile]:
    """Give the files of an export, in the order that they have in an archive."""
    files = [layout_file(), known("index.json", _index(image, tag))]
    if docker:
        files.append(known("manifest.json", _docker_manifest(image, tag)))
    files.append(known(layout_path(image.image_id), image.config))
    files.append(known(layout_path(image.manifest_digest), image.manifest))
    for layer in {layer.diff_id: layer for layer in image.layers}.values():
        files.append(
            ArchivedFile(
                layout_path(layer.diff_id), layer.size, verified_chunks(layer, read_layer, open_blob)
            )
        )
    return files


def _index(image: Image, tag: str) -> bytes:
    return index_of([image_entry(image.config, image.manifest, tag)])


def layout_file() -> ArchivedFile:
    """Give the file by which a layout is known."""
    return known("oci-layout", canonical({"imageLayoutVersion": "1.0.0"}))


def index_of(manifests: Sequence[Mapping[str, Json]]) -> bytes:
    """Give a layout's index of manifests."""
    return canonical({"manifests": list(manifests), "mediaType": INDEX_TYPE, "schemaVersion": 2})


def image_entry(config: bytes, manifest: bytes, tag: str) -> dict[str, Json]:
    """Give what a layout's index says of an image. Raises UsageError for a tag that no engine takes."""
    _check_tag(tag)
    system, architecture, *variant = Config.parse(config).platform.split("/")
    platform = {"architecture": architecture, "os": system}
    if variant:
        platform["variant"] = variant[0]
    return {
        "annotations": {
            "io.containerd.image.name": full_name(tag),
            "org.opencontainers.image.ref.name": tag,
        },
        "digest": str(Digest.of(manifest)),
        "mediaType": MANIFEST_TYPE,
        "platform": platform,
        "size": len(manifest),
    }


def _docker_manifest(image: Image, tag: str) -> bytes:
    """Give what ``docker load`` reads (moby, image/tarexport/load.go)."""
    layers = [layout_path(layer.diff_id) for layer in image.layers]
    return canonical([{"Config": layout_path(image.image_id), "Layers": layers, "RepoTags": [tag]}])


def _check_tag(tag: str) -> None:
    if not _TAG.fullmatch(tag):
        raise UsageError(
            f"container engines take no image of the name {tag!r}",
            "lower-case letters, digits, '.', '_' and '-' make a recipe's name",
        )


def full_name(tag: str) -> str:
    """Give a tag with its registry: ``a/b:1`` is ``docker.io/a/b:1`` to container engines."""
    first, slash, _ = tag.partition("/")
    if not slash:
        return f"{DEFAULT_REGISTRY}/library/{tag}"
    if "." in first or ":" in first or first == "localhost":
        return tag
    return f"{DEFAULT_REGISTRY}/{tag}"


def verified_chunks(
    reference: LayerReference, read_layer: ReadLayer, open_blob: OpenBlob
) -> Callable[[], Iterator[bytes]]:
    """Give a function that streams a layer and ends in a CheckFailedError where it is not the image's."""

    def chunks() -> Iterator[bytes]:
        layer = read_layer(reference)
        if layer_size(layer) != reference.size:
            raise _not_the_images(reference)
        hasher = hashlib.sha256()
        for chunk in layer_chunks(layer, open_blob, verify=False):
            hasher.update(chunk)
            yield chunk
        if hasher.hexdigest() != reference.diff_id.hex:
            write_layer(layer, open_blob)  # names the file, if one of the bodies is to blame
            raise _not_the_images(reference)

    return chunks


def _not_the_images(reference: LayerReference) -> CheckFailedError:
    return CheckFailedError(
        f"the layer of the step {reference.step!r} is not the one of the image ({reference.diff_id})",
        "reprobuild audit --all tells what is damaged",
    )


def _is_layout_of(path: Path, files: Iterable[ArchivedFile]) -> bool:
    """Tell whether a folder holds exactly these files."""
    wanted = {file.name: file for file in files}
    found = {
        str(item.relative_to(path)): item
        for item in path.rglob("*")
        if item.is_symlink() or not item.is_dir()
    }
    return set(found) == set(wanted) and all(
        item.is_file() and item.stat().st_size == wanted[name].size and has_bytes(item, wanted[name].chunks())
        for name, item in found.items()
    )
