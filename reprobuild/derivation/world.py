"""The world of an image's commands: what its base says, under what its Dockerfile and recipe say. Pure.

Knows nothing of how a base image is fetched or placed: all that counts of its config is in its pins. What
every command sees in any image beside this stands in ``engine.protocol``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from reprobuild.derivation.hub_layouts import environment_of
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.recipe import Image
from reprobuild.derivation.stated import PATH, Stated, after
from reprobuild.derivation.steps import Hub, Oci
from reprobuild.derivation.written import Setting, Stage

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
    own: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What of ``env`` the recipe itself says."""
    dockerfile: Stated = field(default_factory=Stated, compare=False)
    """What a Dockerfile has said so far."""


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


def based(base: Base) -> Stated:
    """Give what a Dockerfile begins with, on a base image."""
    config: dict[str, Json] = {
        "User": base.user,
        "Entrypoint": list(base.entrypoint),
        "Cmd": list(base.cmd),
        "Labels": dict(base.labels),
        "ExposedPorts": {port: {} for port in base.ports},
    }
    said = {name: value for name, value in config.items() if value}
    return Stated(
        base.env, base.workdir or "/", {"PATH": PATH, **base.env}, user=base.user, shell=base.shell, base=said
    )


def world_of(image: Image, steps: Sequence[DerivedStep], platform: str = "") -> World:
    """Give the world after some steps of an image: all of them for the image itself.

    Later ones win: the base image, a Dockerfile, what sources need in order to be found, the recipe's own
    words. ``platform``: ``linux/amd64``. Raises RecipeError for a Dockerfile's word that has no value.
    """
    stated = Stated()
    aside: dict[str, Stated] = {}
    for one in steps:
        if isinstance(one.step, Oci):
            stated = based(base_of(one.pins))
        elif isinstance(one.step, Hub):
            stated = replace(stated, env={**stated.env, **environment_of(one.step)})
        elif isinstance(one.step, Setting):
            stated = after(stated, one.step, platform)
        elif isinstance(one.step, Stage):
            aside[one.step.name] = stated
            stated = aside.get(one.step.begin, Stated())
    return World({**stated.env, **image.env}, image.workdir or stated.workdir, image.env, stated)
