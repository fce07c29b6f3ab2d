"""The world of an image's commands: what its base says, under what its recipe says. Pure.

Knows nothing of how a base image is fetched or placed: all that counts of its config is in its pins. What
every command sees in any image beside this stands in ``engine.protocol``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reprobuild.derivation.hub_layouts import environment_of
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.recipe import Image
from reprobuild.derivation.steps import Hub, Oci

if TYPE_CHECKING:
    from reprobuild.derivation.derive import DerivedStep

CONFIG = "config"
"""The name of the pin of a base image's config; it carries what commands see of it."""
MANIFEST = "manifest"
"""The name of the pin of a base image's manifest, where it has one."""


@dataclass(frozen=True, slots=True)
class World:
    """What an image's commands find beside its files."""

    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"


@dataclass(frozen=True, slots=True)
class Base:
    """What the config of a base image says (OCI image specification, config.md); empty where it is silent."""

    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[str, ...] = ()


def base_of(pins: Iterable[Pin]) -> Base:
    """Read the config of a base image off its pins."""
    said: Mapping[str, Json] = next((pin.hashed for pin in pins if pin.name == CONFIG), {})
    return Base(
        env=said.get("env", {}),
        workdir=said.get("workdir", ""),
        user=said.get("user", ""),
        entrypoint=tuple(said.get("entrypoint", ())),
        cmd=tuple(said.get("cmd", ())),
        shell=tuple(said.get("shell", ())),
        labels=said.get("labels", {}),
        ports=tuple(said.get("ports", ())),
    )


def world_of(image: Image, steps: Sequence[DerivedStep]) -> World:
    """Give the world after some steps of an image: all of them for the image itself.

    Later ones win: the base image, what sources need in order to be found, the recipe's own words.
    """
    env: dict[str, str] = {}
    workdir = ""
    for one in steps:
        if isinstance(one.step, Oci):
            base = base_of(one.pins)
            env.update(base.env)
            workdir = base.workdir
        elif isinstance(one.step, Hub):
            env.update(environment_of(one.step))
    return World({**env, **image.env}, image.workdir or workdir or "/")
