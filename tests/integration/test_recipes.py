"""The recipes of this repository, built from their locks and run: what their READMEs claim holds here."""

from __future__ import annotations

import json

import pytest

from reprobuild.derivation.lockfile import LOCK_FILE
from tests.own_recipes import FOLDER, LOCKED, RECIPES, UNLOCKED, realize
from tests.projects import Project

ON_GPUS = ("cuda-smoke",)
"""What computes on GPUs alone has no examples, which are run on the CPU."""


@pytest.fixture
def project(own_recipes: Project) -> Project:
    return own_recipes


@pytest.mark.parametrize("recipe", LOCKED)
def test_a_recipe_comes_to_what_its_lock_says(project: Project, recipe: str) -> None:
    made = realize(project, recipe)
    lock = (FOLDER / recipe / LOCK_FILE).read_text()
    assert made["image_id"] in lock and made["input_hash"] in lock


@pytest.mark.parametrize("recipe", LOCKED)
def test_a_recipe_passes_its_examples_and_its_own_tests(project: Project, recipe: str) -> None:
    realize(project, recipe)
    tested = project.call("test", recipe, "--json").json
    assert [one["problem"] for one in tested["examples"]] == [""] * len(tested["examples"])
    assert (tested["examples"] or recipe in ON_GPUS) and tested["own_tests"] == "passed"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_where_it_is_from_and_how_far_it_was_replicated(recipe: str) -> None:
    text = (FOLDER / recipe / "README.md").read_text()
    for heading in ("## Inputs and outputs", "## Usage", "## Replication status"):
        assert heading in text
    for row in ("publication", "repository", "licence"):
        assert f"\n| {row} |" in text
    for level in ("regression", "correctness", "full test set", "approximately", "exactly"):
        assert f"\n| {level}" in text


@pytest.mark.parametrize("recipe", UNLOCKED)
def test_a_recipe_without_a_lock_says_so(project: Project, recipe: str) -> None:
    text = (FOLDER / recipe / "README.md").read_text()
    assert "**Not locked yet**" in text and f"reprobuild lock {recipe}" in text
    ended = project.call("realize", recipe, check=False)
    assert ended.code == 3 and f"{recipe} is not locked" in ended.err
    assert f"reprobuild lock {recipe}" in ended.err


@pytest.mark.parametrize("more", [[], ["--input", "-", "--output", "-"]], ids=["plain", "whole"])
@pytest.mark.parametrize("predictor", ["", "/nonsense"])
def test_a_prediction_without_a_lock_says_so_first(project: Project, predictor: str, more: list[str]) -> None:
    ended = project.call("predict", f"liu2019{predictor}", *more, check=False, stdin="no record\n")
    assert ended.code == 3
    error, hint = ended.err.splitlines()
    assert error.startswith("error: liu2019 is not locked") and hint == "hint: reprobuild lock liu2019"


def test_the_list_says_what_is_locked(project: Project) -> None:
    listed = project.call("list", "--json").json["recipes"]
    assert not [one["error"] for one in listed if "error" in one]
    assert {one["name"] for one in listed if not one["locked"]} == set(UNLOCKED)


def test_no_lock_names_a_server() -> None:
    for recipe in LOCKED:
        assert "://" not in (FOLDER / recipe / LOCK_FILE).read_text()


def test_packages_are_seen_by_python_and_have_byte_code(project: Project) -> None:
    realize(project, "post2018")
    # What Debian has as a link into /etc is compiled at each start: it is a few lines.
    script = (
        "import importlib.metadata, os, sacrebleu.metrics, sys\n"
        "print(importlib.metadata.version('sacrebleu'))\n"
        "sources = [m for m in list(sys.modules.values()) if getattr(m, '__cached__', None)]\n"
        "slow = [m.__name__ for m in sources if not os.path.exists(m.__cached__)]\n"
        "print(len(sources) > 100, [name for name in slow if os.path.getsize(sys.modules[name].__file__)"
        " and not os.path.islink(sys.modules[name].__file__)])\n"
    )
    ended = project.call("run", "post2018", "--", "python3", "-c", script)
    assert ended.out.splitlines() == ["2.6.0", "True []"]


def test_all_are_those_that_are_locked(project: Project) -> None:
    planned = project.call("realize", "--all", "--dry-run", "--json")
    assert [json.loads(line)["recipe"] for line in planned.out.splitlines()] == LOCKED
    assert f"not locked, so left out: {', '.join(UNLOCKED)}" in planned.err
