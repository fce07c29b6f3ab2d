from __future__ import annotations

import dataclasses
import shlex

import pytest

from reprobuild import apt, files, image, predictor, run, url, wheels
from reprobuild.build.step import find_step
from reprobuild.derivation.derive import ASSEMBLER, Derivation, derive, derive_step, differences, pinned
from reprobuild.derivation.lockfile import Lock
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Parameter
from reprobuild.derivation.recipe import Image, Recipe
from reprobuild.derivation.steps import Fetched, Step
from reprobuild.digest import Digest
from reprobuild.errors import NotBuiltError, UnpinnedError, UsageError
from reprobuild.tree import file
from tests.golden import assert_golden

A, B = Digest.of(b"a"), Digest.of(b"b")
PINS = (Pin("a.deb", 1, A, {"package": "a", "version": "1"}, {"path": "pool/a", "date": "2024"}),)


def a_recipe(asked: Image) -> Recipe:
    return Recipe(name="x", version="1", summary="", publish=False, options={}, chosen={}, image=asked)


def an_image() -> Image:
    return image(
        apt("bookworm", "aa"),
        files("src", to="/app"),
        url("https://example.org/f", to="/f", mode=0o644),
        wheels("n", python="3.11"),
        run("make", env={"A": "1"}),
        env={"E": "2"},
        workdir="/app",
        predictors={
            "default": predictor(
                "x {input} {output}",
                inputs={"a": str},
                outputs={"b": float},
                examples=[({"a": "1"}, {"b": 0.25})],
            )
        },
    )


def derivation(asked: Image, pins: tuple[Pin, ...] = PINS, platform: str = "linux/amd64") -> Derivation:
    entries = (file("app/run.py", B, 3),)
    steps = [derive_step(step, pins if step.is_source else (), entries) for step in asked.steps]
    return derive(a_recipe(asked), steps, ASSEMBLER, platform)


def test_the_derivation_of_every_kind_of_step_is_what_it_was() -> None:
    made = derivation(an_image())
    assert_golden("derivation", {"canonical": made.canonical.decode(), "input_hash": str(made.input_hash)})


def test_where_bytes_come_from_is_not_in_the_hash() -> None:
    elsewhere = tuple(dataclasses.replace(pin, found={"path": "other", "date": "2030"}) for pin in PINS)
    assert derivation(an_image(), elsewhere) == derivation(an_image())
    mirrored = image(
        *(
            dataclasses.replace(step, mirrors=("https://m",)) if isinstance(step, Fetched) else step
            for step in an_image().steps
        ),
        env={"E": "2"},
        workdir="/app",
        predictors=an_image().predictors,
    )
    assert derivation(mirrored) == derivation(an_image())


@pytest.mark.parametrize(
    ("other", "path"),
    [
        pytest.param(derivation(dataclasses.replace(an_image(), env={"E": "3"})), "env.E", id="env"),
        pytest.param(derivation(dataclasses.replace(an_image(), workdir="/")), "workdir", id="workdir"),
        pytest.param(
            derivation(dataclasses.replace(an_image(), predictors={})), "predictors.default", id="predictor"
        ),
        pytest.param(derivation(an_image(), platform="linux/arm64"), "platform", id="platform"),
        pytest.param(
            derivation(an_image(), (dataclasses.replace(PINS[0], sha256=B),)),
            "steps[1].pins.a.sha256",
            id="pin",
        ),
    ],
)
def test_a_difference_is_named_by_the_walk_that_hashes(other: Derivation, path: str) -> None:
    here = derivation(an_image())
    assert other.input_hash != here.input_hash
    assert path in [one.path for one in differences(here.value, other.value)]


def test_equal_derivations_have_no_difference() -> None:
    assert list(differences(derivation(an_image()).value, derivation(an_image()).value)) == []


def test_a_source_without_a_lock_or_a_pin_is_named_with_what_pins_it() -> None:
    step = apt("bookworm", "aa")
    recipe = a_recipe(image(step))
    key = step.lock_key("linux/amd64")
    with pytest.raises(UnpinnedError, match=r"^x is not locked: apt bookworm aa") as caught:
        pinned(recipe, None, step, "linux/amd64")
    assert caught.value.hint == "reprobuild lock x"
    with pytest.raises(
        UnpinnedError, match=r"test_derivation.py:\d+: apt bookworm aa on linux/amd64 has no pin"
    ):
        pinned(recipe, Lock(ASSEMBLER), step, "linux/amd64")
    with pytest.raises(UnpinnedError, match="counts 3 pins, and 1 are there"):
        pinned(recipe, Lock(ASSEMBLER, {key: PINS}, {}, {key: 2}), step, "linux/amd64")


def test_a_lock_of_another_assembler_is_refused() -> None:
    with pytest.raises(UsageError, match="assembler 99"):
        derive(a_recipe(an_image()), [], 99, "linux/amd64")


def test_what_this_release_cannot_build_is_refused_by_name() -> None:
    class Odd(Step):
        kind = "odd"

    with pytest.raises(NotBuiltError, match=r"odd\(…\) is not in this release"):
        derive_step(Odd(), ())


def test_hints_choose_the_options_that_were_chosen() -> None:
    options = {"big": Parameter("bool", False), "name": Parameter("str", "x"), "size": Parameter("int", 3)}
    recipe = dataclasses.replace(
        a_recipe(an_image()), options=options, chosen={"big": True, "name": "it's; rm -rf", "size": 3}
    )
    with pytest.raises(UnpinnedError) as caught:
        pinned(recipe, None, recipe.image.steps[0], "linux/amd64")
    words = shlex.split(caught.value.hint)
    assert words == ["reprobuild", "lock", "x", "--set", "big=True", "--set", "name=it's; rm -rf"]


@pytest.mark.parametrize(
    ("which", "number"),
    [("1", 1), ("make install", 3), ("run make", 2), ("run make install", 3), ("files", 1)],
)
def test_a_step_is_named_by_number_title_or_a_part(which: str, number: int) -> None:
    asked = image(files("a", to="/a"), run("make"), run("make install"))
    assert find_step(a_recipe(asked), which) == number


@pytest.mark.parametrize("which", ["mak", "nothing", "0", "4"])
def test_a_step_that_cannot_be_told_is_asked_for_with_all_that_there_are(which: str) -> None:
    asked = image(files("a", to="/a"), run("make"), run("make install"))
    with pytest.raises(UsageError) as caught:
        find_step(a_recipe(asked), which)
    assert caught.value.hint == "its steps: 1: files a to /a; 2: run make; 3: run make install"
