from __future__ import annotations

import pytest

from reprobuild import apt, image, oci, run
from reprobuild.derivation.derive import DerivedStep
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.recipe import Image
from reprobuild.derivation.world import World, base_of, world_of
from reprobuild.digest import Digest
from reprobuild.errors import RecipeError

SAID = {
    "env": {"PATH": "/opt/bin:/bin", "LANG": "C"},
    "workdir": "/srv",
    "entrypoint": ["/init"],
    "user": "app",
    "ports": ["80/tcp"],
}
PINS = (
    Pin("manifest", 1, Digest.of(b"m")),
    Pin("config", 2, Digest.of(b"c"), SAID),
    Pin("layer 1", 3, Digest.of(b"l")),
)


def world(asked: Image) -> World:
    return world_of(asked, [DerivedStep(step, PINS if step.is_source else (), {}) for step in asked.steps])


def test_the_base_gives_what_the_recipe_leaves_open() -> None:
    assert world(image(oci("x:1"), run("true"), env={"LANG": "C.UTF-8", "A": "1"})) == World(
        {"PATH": "/opt/bin:/bin", "LANG": "C.UTF-8", "A": "1"}, "/srv"
    )


def test_the_recipe_s_own_words_win() -> None:
    assert world(image(oci("x:1"), workdir="/")).workdir == "/"
    assert world(image(oci("x:1"), env={"PATH": "/bin"})).env["PATH"] == "/bin"


def test_without_a_base_the_world_is_the_recipe_s() -> None:
    assert world_of(image(run("true"), env={"A": "1"}), []) == World({"A": "1"}, "/")


def test_the_config_is_read_off_its_pin() -> None:
    base = base_of(PINS)
    assert (base.user, base.entrypoint, base.cmd, base.ports) == ("app", ("/init",), (), ("80/tcp",))


def test_a_base_image_is_the_first_step() -> None:
    with pytest.raises(RecipeError, match=r"test_world.py:\d+: oci x:1: a base image is what everything"):
        image(apt("bookworm", "git"), oci("x:1"))
