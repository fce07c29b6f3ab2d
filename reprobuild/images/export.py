"""Images for other tools: as an OCI layout (a folder, or one tar archive) and as a docker archive.

What is in them is specified in ``docs/image-format.md``. Streams: no layer is unpacked, kept on the way,
or held in memory. Knows nothing of stores and daemons.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from reprobuild.canonical import canonical
from reprobuild.digest import BUFFER_SIZE, Digest
from reprobuild.errors import CheckFailedError, OutsideError, UsageError
from reprobuild.images.image import MANIFEST_TYPE, Config, Image, LayerReference
from reprobuild.images.tar import (
    BLOCK,
    END,
    OpenBlob,
    Sink,
    layer_chunks,
    layer_size,
    member_header,
    write_layer,
)
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
    left_out = {_blob(diff_id) for diff_id in without}
    files = [file for file in _files(image, read_layer, open_blob, tag, docker) if file.name not in left_out]
    return _archive_size(files), _archive(files)


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
    files = _files(image, read_layer, open_blob, tag, docker)
    if os.path.lexists(path):
        if path.is_dir():
            raise UsageError(f"{path} is a folder, and an archive is one file", f"write to {path}/image.tar")
        if path.is_file() and path.stat().st_size == _archive_size(files) and _has(path, _archive(files)):
            return False
        if not replace:
            raise UsageError(
                f"{path} is there already, with other content", "name another file, or remove it"
            )
    with _temporary(path) as temporary:
        _write(temporary, _archive(files))
        os.replace(temporary, path)
    return True


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
    with _temporary(path) as temporary:
        temporary.mkdir()
        (temporary / "blobs" / "sha256").mkdir(parents=True)
        for file in files:
            _write(temporary / file.name, file.chunks())
        if is_there:
            # A folder cannot be renamed over one that holds something.
            with _temporary(path) as old:
                os.rename(path, old)
                try:
                    os.rename(temporary, path)
                except BaseException:
                    os.rename(old, path)
                    raise
        else:
            os.rename(temporary, path)
    return True


@dataclass(frozen=True, slots=True)
class _File:
    """A file of an export: its name, and its bytes when they are asked for."""

    name: str
    size: int
    chunks: Callable[[], Iterable[bytes]]


def _files(image: Image, read_layer: ReadLayer, open_blob: OpenBlob, tag: str, docker: bool) -> list[_File]:
    """Give the files of an export, in the order that they have in an archive."""
    if not _TAG.fullmatch(tag):
        raise UsageError(
            f"container engines take no image of the name {tag!r}",
            "lower-case letters, digits, '.', '_' and '-' make a recipe's name",
        )
    files = [
        _known("oci-layout", canonical({"imageLayoutVersion": "1.0.0"})),
        _known("index.json", _index(image, tag)),
    ]
    if docker:
        files.append(_known("manifest.json", _docker_manifest(image, tag)))
    files.append(_known(_blob(image.image_id), image.config))
    files.append(_known(_blob(image.manifest_digest), image.manifest))
    for layer in {layer.diff_id: layer for layer in image.layers}.values():
        files.append(_File(_blob(layer.diff_id), layer.size, verified_chunks(layer, read_layer, open_blob)))
    return files


def _known(name: str, data: bytes) -> _File:
    return _File(name, len(data), lambda: (data,))


def _blob(digest: Digest) -> str:
    return f"blobs/sha256/{digest.hex}"


def _index(image: Image, tag: str) -> bytes:
    config = Config.parse(image.config)
    system, architecture, *variant = config.platform.split("/")
    platform = {"architecture": architecture, "os": system}
    if variant:
        platform["variant"] = variant[0]
    manifest = {
        "annotations": {
            "io.containerd.image.name": full_name(tag),
            "org.opencontainers.image.ref.name": tag,
        },
        "digest": str(image.manifest_digest),
        "mediaType": MANIFEST_TYPE,
        "platform": platform,
        "size": len(image.manifest),
    }
    return canonical({"manifests": [manifest], "mediaType": INDEX_TYPE, "schemaVersion": 2})


def _docker_manifest(image: Image, tag: str) -> bytes:
    """Give what ``docker load`` reads (moby, image/tarexport/load.go)."""
    layers = [_blob(layer.diff_id) for layer in image.layers]
    return canonical([{"Config": _blob(image.image_id), "Layers": layers, "RepoTags": [tag]}])


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


def _archive(files: Iterable[_File]) -> Iterator[bytes]:
    for file, head in _with_headers(files):
        yield head
        if file is not None:
            yield from file.chunks()
            yield bytes(-file.size % BLOCK)
    yield END


def _archive_size(files: Iterable[_File]) -> int:
    return len(END) + sum(
        len(head) + (file.size + -file.size % BLOCK if file is not None else 0)
        for file, head in _with_headers(files)
    )


def _with_headers(files: Iterable[_File]) -> Iterator[tuple[_File | None, bytes]]:
    """Give files with their headers, and the headers of folders before what is in them."""
    made = set()
    for file in files:
        folder = ""
        for part in file.name.split("/")[:-1]:
            folder += part + "/"
            if folder not in made:
                made.add(folder)
                yield None, member_header(folder, 0, 0o755, "d")
        yield file, member_header(file.name, file.size)


def _is_layout_of(path: Path, files: Iterable[_File]) -> bool:
    """Tell whether a folder holds exactly these files."""
    wanted = {file.name: file for file in files}
    found = {
        str(item.relative_to(path)): item
        for item in path.rglob("*")
        if item.is_symlink() or not item.is_dir()
    }
    return set(found) == set(wanted) and all(
        item.is_file() and item.stat().st_size == wanted[name].size and _has(item, wanted[name].chunks())
        for name, item in found.items()
    )


def _has(path: Path, chunks: Iterable[bytes]) -> bool:
    """Tell whether a file has exactly these bytes."""
    with open(path, "rb", buffering=BUFFER_SIZE) as file:
        return all(file.read(len(chunk)) == chunk for chunk in chunks) and not file.read(1)


def _write(path: Path, chunks: Iterable[bytes]) -> None:
    file: BinaryIO
    with open(path, "xb", buffering=BUFFER_SIZE) as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Give a name beside a path that nobody else uses; what has it is removed at the end."""
    temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}.part"
    try:
        yield temporary
    except OSError as error:
        raise OutsideError(
            f"cannot write {path}: {error.strerror or error}", "name a folder that is there and writable"
        ) from error
    finally:
        if temporary.is_dir() and not temporary.is_symlink():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
