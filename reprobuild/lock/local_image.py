"""Base images in files beside the recipe: OCI layouts, their archives, and what ``docker save`` writes.

Reads the OCI image specification (image-layout.md) and the docker archive (moby, image/tarexport). What it
finds of an archive is in the store then. Knows nothing of registries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from reprobuild.derivation.image_reference import LocalReference, RegistryReference, read_reference
from reprobuild.derivation.steps import Oci
from reprobuild.derivation.world import CONFIG
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, RecipeError
from reprobuild.fetch.download import Download, fetch_all
from reprobuild.fetch.local import open_local
from reprobuild.fetch.oci import file_address, is_layout
from reprobuild.images.manifest import CONFIGS, LARGEST, Descriptor, Index, layout_path, read_manifest
from reprobuild.lock.base_image import MOST_NESTED, FoundImage, choose_platform, manifest_pin
from reprobuild.lock.resolver import Context

NAMES = ("org.opencontainers.image.ref.name", "io.containerd.image.name")
"""Annotations that name an image of a layout."""
DOCKER_CONFIG = CONFIGS[1]
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def find_local(step: Oci, reference: LocalReference, context: Context) -> FoundImage:
    """Give an image that lies beside the recipe.

    Raises RecipeError for files that are not there, hold no such image or none for the platform, and
    CheckFailedError for what does not fit its digest.
    """
    if is_layout(reference):
        return _find_in_layout(step, reference, context)
    return _find_in_docker_archive(step, reference, context)


def _find_in_layout(step: Oci, reference: LocalReference, context: Context) -> FoundImage:
    what = f"{step.where}: {step.title}"
    body = _read(step, reference, "index.json", context)
    index = read_manifest(body, "", what)
    if not isinstance(index, Index):
        raise RecipeError(f"{what}: its index.json is no index")
    chosen = _named(index, reference.name, context.platform, what)
    for _ in range(MOST_NESTED):
        body = _read(step, reference, layout_path(chosen.digest), context)
        if Digest.of(body) != chosen.digest:
            raise CheckFailedError(
                f"{what}: the manifest in the layout is not the one that its name says\n"
                f"  expected  {chosen.digest}\n  got       {Digest.of(body)}",
                "make the layout again",
            )
        manifest = read_manifest(body, chosen.media_type, what)
        if not isinstance(manifest, Index):
            break
        chosen = choose_platform(manifest, context.platform, what)
    else:
        raise RecipeError(f"{what}: indexes in indexes, {MOST_NESTED} deep")
    with context.store.transaction() as group:
        group.add_bytes(body)
    return FoundImage(manifest.config, manifest.layers, manifest_pin(body))


def _named(index: Index, name: str, platform: str, what: str) -> Descriptor:
    """Give the image of a layout that has a name or a digest, or the only one there is."""
    found = [one for one in index.manifests if not name or name in _names(one) or name == str(one.digest)]
    if not found:
        known = sorted({given for one in index.manifests for given in _names(one)})
        raise RecipeError(f"{what}: no image of the layout is called {name!r}", _known(known))
    if len({one.digest for one in found}) == 1:
        return found[0]
    fitting = [one for one in found if Index((one,)).choose(platform) is not None]
    if len({one.digest for one in fitting}) == 1:
        return fitting[0]
    if not fitting and any(one.platform for one in found):
        return choose_platform(Index(tuple(found)), platform, what)
    known = sorted({given for one in found for given in _names(one)} or {str(one.digest) for one in found})
    raise RecipeError(f"{what}: the layout has several images, and nothing says which", _known(known))


def _names(one: Descriptor) -> list[str]:
    return [one.annotations[name] for name in NAMES if name in one.annotations]


def _known(names: Sequence[str]) -> str:
    return f"name one: {', '.join(names)}" if names else "none has a name: give it one when it is made"


def _find_in_docker_archive(step: Oci, reference: LocalReference, context: Context) -> FoundImage:
    what = f"{step.where}: {step.title}"
    try:
        images = json.loads(_read(step, reference, "manifest.json", context))
        chosen = _tagged(images, reference.name, what)
        config, layers = str(chosen["Config"]), [str(layer) for layer in chosen["Layers"] or ()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckFailedError(f"{what}: its manifest.json makes no sense: {error!r}") from None
    names = [config, *layers]
    fetched = fetch_all(
        context.store,
        [
            Download(
                name=f"{step.reference} {f'layer {number}' if number else CONFIG}",
                urls=(file_address(reference, name),),
                where=str(step.where),
                folder=context.recipe_folder,
            )
            for number, name in enumerate(names)
        ],
        tell=context.tell,
        jobs=context.settings.jobs,
        settings=context.settings,
    )
    kinds = [DOCKER_CONFIG, *(DOCKER_LAYER for _ in layers)]
    found = [Descriptor(kind, one.digest, one.size) for kind, one in zip(kinds, fetched, strict=True)]
    paths = {one.digest: name for one, name in zip(found, names, strict=True)}
    return FoundImage(found[0], tuple(found[1:]), paths=paths)


def _tagged(images: Sequence[Mapping[str, Any]], name: str, what: str) -> Mapping[str, Any]:
    """Give the image of an archive that has a tag, or the only one there is."""
    tags = [[str(tag) for tag in one.get("RepoTags") or ()] for one in images]
    found = [
        one for one, known in zip(images, tags, strict=True) if not name or _full(name) in map(_full, known)
    ]
    if len(found) == 1:
        return found[0]
    known = sorted({tag for listed in tags for tag in listed})
    problem = f"has no image {name!r}" if not found else "has several images, and nothing says which"
    raise RecipeError(f"{what}: the archive {problem}", _known(known))


def _full(name: str) -> str:
    try:
        found = read_reference(name)
    except ValueError:
        return name
    return str(found) if isinstance(found, RegistryReference) else name


def _read(step: Oci, reference: LocalReference, name: str, context: Context) -> bytes:
    """Read a small file of an image. Raises RecipeError where it is not there, or too large."""
    address = file_address(reference, name)
    with open_local(address, context.recipe_folder, str(step.where)) as (file, size):
        if size > LARGEST:
            raise RecipeError(f"{step.where}: {step.title}: {name} has {size:,} bytes; {LARGEST:,} are read")
        parts = []
        while chunk := file.read(LARGEST):
            parts.append(chunk)
        return b"".join(parts)
