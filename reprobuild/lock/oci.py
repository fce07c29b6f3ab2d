"""Resolve ``oci(…)``: what a reference means now, on one platform: manifest, config and layers.

Knows nothing of what is in a layer. What commands see of a base image (its variables, its work folder) is in
the config's pin, so that a derivation needs nothing but pins. See ``docs/base-images.md``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from reprobuild.derivation.image_reference import LocalReference, RegistryReference, read_reference
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.steps import Oci
from reprobuild.derivation.world import CONFIG
from reprobuild.digest import Digest
from reprobuild.errors import OfflineError, RecipeError, UpstreamError
from reprobuild.fetch.download import fetch_all
from reprobuild.fetch.http import Http
from reprobuild.fetch.oci import downloads
from reprobuild.fetch.registry import access_to, endpoints, get_manifest
from reprobuild.images.base_config import read_base_config
from reprobuild.images.manifest import Descriptor, Index, read_manifest
from reprobuild.lock.base_image import (
    MOST_NESTED,
    FoundImage,
    check_config_size,
    check_image,
    choose_platform,
    manifest_pin,
)
from reprobuild.lock.local_image import find_local
from reprobuild.lock.resolver import Context


def resolve(step: Oci, context: Context) -> tuple[Pin, ...]:
    """Give the pins of an image: its manifest where it has one, its config, its layers, lowest first.

    Raises UpstreamError and OfflineError where it cannot be had, RecipeError for what is no image, or not
    one for the platform, and CheckFailedError for what does not fit its digest or makes no sense.
    """
    reference = read_reference(step.reference)
    what = f"{step.where}: {step.title}"
    if isinstance(reference, LocalReference):
        found = find_local(step, reference, context)
    else:
        try:
            found = _find_in_registry(what, step, reference, context)
        except (UpstreamError, OfflineError) as error:
            error.message = f"{what}: {error.message}"
            error.args = (error.message,)
            raise
    check_config_size(what, found.config.size)
    config_pin = _pin(CONFIG, found.config, {}, found.paths)
    fetch_all(
        context.store,
        [
            replace(one, folder=context.recipe_folder)
            for one in downloads(step, [config_pin], context.settings)
        ],
        tell=context.tell,
        offline=context.settings.offline,
        jobs=context.settings.jobs,
        settings=context.settings,
    )
    config = read_base_config(context.store.blobs.read(found.config.digest), what)
    check_image(what, config, found, context.platform)
    pins = [] if found.manifest is None else [found.manifest]
    pins.append(_pin(CONFIG, found.config, config.said, found.paths))
    for number, layer in enumerate(found.layers, start=1):
        pins.append(_pin(f"layer {number}", layer, {}, found.paths))
    return tuple(pins)


def _pin(name: str, one: Descriptor, said: Mapping[str, Json], paths: Mapping[Digest, str]) -> Pin:
    found = {"path": paths[one.digest]} if one.digest in paths else {}
    return Pin(name, one.size, one.digest, {"mediaType": one.media_type, **said}, found)


def _find_in_registry(what: str, step: Oci, reference: RegistryReference, context: Context) -> FoundImage:
    """Ask the registry, or a mirror, what the reference means."""
    places = endpoints(reference, step.mirrors, context.settings)
    with Http(os.environ, settings=context.settings) as http:
        http.trust(one.host for one in places if one.is_trusted)
        client = access_to(places).over(http)
        answer = get_manifest(reference, reference.asked, places, client)
        first = answer.digest
        for _ in range(MOST_NESTED):
            manifest = read_manifest(answer.body, answer.media_type, what)
            if not isinstance(manifest, Index):
                break
            chosen = choose_platform(manifest, context.platform, what)
            answer = get_manifest(reference, str(chosen.digest), places, client)
        else:
            raise RecipeError(f"{what}: indexes in indexes, {MOST_NESTED} deep")
    with context.store.transaction() as group:
        group.add_bytes(answer.body)
    pin = manifest_pin(answer.body, str(replace(reference, digest=first)))
    return FoundImage(manifest.config, manifest.layers, pin)
