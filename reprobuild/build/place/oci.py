"""Place a base image: its layers, stacked, in normal form, as one layer of ours.

A base image counts as what one command left in an empty tree, with its owners (``docs/base-images.md``).
Every layer's uncompressed stream is compared with the config, and the config with its pin. Knows nothing of
registries; nothing of the tree below matters, since there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from reprobuild.build.image_layers import UnpackedLayer, stack, unpack_layer
from reprobuild.build.place.parallel import largest_first
from reprobuild.build.place.placement import Placement
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.steps import Oci
from reprobuild.derivation.world import CONFIG, MANIFEST
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.images.archive import ArchiveError, naming
from reprobuild.images.base_config import BaseConfig, read_base_config
from reprobuild.images.normal_form import SPECIAL, normal_form
from reprobuild.tree import Tree, TreeError

if TYPE_CHECKING:
    from reprobuild.store.store import Store
    from reprobuild.store.transaction import Transaction

SHOWN = 5
"""Paths that a note names before it says how many more there are."""


def facts(step: Oci, tree: Tree, store: Store) -> dict[str, Json]:
    """Give what placing depends on of the tree below: nothing."""
    return {}


def place(
    step: Oci, pins: Sequence[Pin], facts: Mapping[str, Json], store: Store, group: Transaction
) -> Placement:
    """Give the entries of a base image.

    Raises ArchiveError for a layer that cannot be read, CheckFailedError where layers, config and pins do
    not fit each other.
    """
    layers = [pin for pin in pins if pin.name not in (CONFIG, MANIFEST)]
    config = _checked_config(step, pins, len(layers), store)
    unpacked = _unpack_all(step, layers, config.diff_ids, store, group)
    try:
        normal = normal_form(stack(unpacked), Tree(), read=group.read, add=group.add_bytes, owners=True)
    except TreeError as error:
        raise ArchiveError(f"{step.where}: {step.title}: {error.message}", error.hint) from None
    return Placement(tuple(normal.tree), _notes(step, [one.path for one in normal.dropped
                                                       if one.reason == SPECIAL]))  # fmt: skip


def _checked_config(step: Oci, pins: Sequence[Pin], layers: int, store: Store) -> BaseConfig:
    """Read the config, which must say what its pin says."""
    what = f"{step.where}: {step.title}"
    pin = next((pin for pin in pins if pin.name == CONFIG), None)
    if pin is None:
        raise CheckFailedError(f"{what}: the lock pins no config", _again(step))
    config = read_base_config(store.blobs.read(pin.sha256), what)
    pinned = {name: value for name, value in pin.hashed.items() if name != "mediaType"}
    if pinned != config.said:
        names = sorted(name for name in {*pinned, *config.said} if pinned.get(name) != config.said.get(name))
        raise CheckFailedError(
            f"{what}: the lock says something else of {', '.join(names)} than the image's config does",
            _again(step),
        )
    if len(config.diff_ids) != layers:
        raise CheckFailedError(
            f"{what}: the config names {len(config.diff_ids)} layers, and {layers} are pinned", _again(step)
        )
    return config


def _again(step: Oci) -> str:
    return "restore recipe.lock from version control, or pin it anew: reprobuild lock NAME --update oci"


def _unpack_all(
    step: Oci, pins: Sequence[Pin], diff_ids: Sequence[Digest], store: Store, group: Transaction
) -> list[UnpackedLayer]:
    """Unpack layers, some at a time."""

    def work(index: int) -> UnpackedLayer:
        pin = pins[index]
        what = f"{step.where}: {step.title}: {pin.name}"
        with naming(what), store.blobs.open(pin.sha256) as file:
            layer = unpack_layer(file, pin.size, group)
        if layer.diff_id != diff_ids[index]:
            raise CheckFailedError(
                f"{what} is not the one that the image's config names\n"
                f"  expected  {diff_ids[index]}, uncompressed\n  got       {layer.diff_id}",
                "whoever made this image made it wrong, or it was tampered with: choose another",
            )
        return layer

    return largest_first(work, pins)


def _notes(step: Oci, dropped: Sequence[str]) -> tuple[str, ...]:
    if not dropped:
        return ()
    shown = ", ".join(f"/{path}" for path in dropped[:SHOWN])
    more = f" and {len(dropped) - SHOWN} more" if len(dropped) > SHOWN else ""
    return (f"{step.title}: devices, sockets and fifos are not kept: {shown}{more}",)
