"""A recipe as JSON that a stranger's code wrote: only what a recipe file can say is taken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reprobuild.derivation.codec import recipe_to_json
from reprobuild.derivation.evaluation import evaluate
from reprobuild.derivation.verify import recipe_from_stranger
from reprobuild.errors import RecipeError
from tests.unit.test_evaluation import WHOLE, write

STEPS = """
from reprobuild import apt, files, gdrive, git, hub, image, oci, recipe, run, url, wheels

@recipe(version="1")
def counter():
    return image(
        oci("a:b"), git("https://x/y", "0" * 40, to="/g", lfs=True),
        gdrive("1AbCdEfGhIjKlMnOpQr", to="/d", unpack=True, strip=1),
        hub("a/b", revision="0" * 40, files=["x"], to="/h", kind="space"),
        apt("bookworm", "b1", "a1", arch="arm64", as_of="2024-01-31", mirrors=["https://m/"], configure=True),
        wheels("b", "a", as_of="2024-01-31", build=True), files("a", to="/a", mode=0o600, uid=3),
        url("https://x/y", to="/y", mirrors=["https://m/y"], licence="MIT", redistribute=False,
            sha256="0" * 64),
        run("x", network="recorded", owners=True, threads=3, workdir="/w", ports=[8080, 81], refusal="reset",
            answers={"https://z/1": url("https://z/2", mirrors=["https://m/2"]),
                     "http://a/b": hub("a/b", revision="0" * 40, files=["x"])}),
        env={"A": "b"},
    )
"""


@pytest.mark.parametrize("text", [WHOLE, STEPS], ids=["whole", "every kind of step"])
def test_what_a_recipe_says_is_taken_as_it_is(tmp_path: Path, text: str) -> None:
    said = evaluate(write(tmp_path, text), "counter", {})
    assert recipe_from_stranger(recipe_to_json(said), "counter") == said


def put(*path: Any) -> Callable[[Any], None]:
    """Make a damage: the last is the value, those before lead to where it goes."""

    def damage(value: Any) -> None:
        *above, last, new = path
        for part in above:
            value = value[part]
        value[last] = new

    return damage


STEP = {
    "kind": "files",
    "where": ["recipe.py", 1],
    "source": "a",
    "to": "/a",
    "mode": None,
    "uid": 0,
    "gid": 0,
}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(put("name", "other; rm -rf ~"), id="the name of another recipe"),
        pytest.param(put("version", "1 2\x1b[2J"), id="a version that is no part of a tag"),
        pytest.param(put("publish", "yes"), id="a text for a bool"),
        pytest.param(put("options", {"x": ["str", ""]}), id="options without values"),
        pytest.param(put("chosen", "size", "many"), id="a value of another type"),
        pytest.param(put("env", {"A": "x\0--ro-bind"}), id="a variable with a zero byte"),
        pytest.param(put("env", {"A": 1}), id="a variable that is a number"),
        pytest.param(put("workdir", "/../.."), id="a workdir outside"),
        pytest.param(put("steps", []), id="no step"),
        pytest.param(put("steps", 0, {"kind": "shell"}), id="a step of no kind"),
        pytest.param(put("steps", 0, {**STEP, "source": "../../secret"}), id="files from outside"),
        pytest.param(put("steps", 0, {**STEP, "to": "/a/../b"}), id="files to a dotted path"),
        pytest.param(put("steps", 0, {**STEP, "mode": "0644"}), id="a mode that is a text"),
        pytest.param(put("steps", 0, {**STEP, "uid": True}), id="a uid that is a bool"),
        pytest.param(put("steps", 0, {**STEP, "more": 1}), id="a field that there is not"),
        pytest.param(put("steps", 0, "suite", "../../x"), id="a suite that is a path"),
        pytest.param(put("steps", 0, "packages", ["b", "a"]), id="packages in another order"),
        pytest.param(put("steps", 1, "requirements", ["--index-url=x"]), id="an option of uv"),
        pytest.param(put("steps", 1, "requirements", ["a\n--index-url=x"]), id="an option of uv on a line"),
        pytest.param(put("steps", 2, "url", "ftp://x/y"), id="another scheme"),
        pytest.param(put("steps", 4, "command", "make"), id="a command that is no list"),
        pytest.param(put("steps", 4, "command", [["make"]]), id="a command of lists"),
        pytest.param(put("steps", 4, "env", {"A=B": ""}), id="an impossible variable"),
        pytest.param(put("steps", 4, "network", "open"), id="an open network"),
        pytest.param(put("steps", 4, "ports", [0]), id="a port that there is not"),
        pytest.param(put("steps", 4, "ports", ["81"]), id="a port that is a text"),
        pytest.param(put("steps", 4, "answers", {"http://a/b": STEP}), id="an answer that fetches nothing"),
        pytest.param(
            put("steps", 4, "answers", {"http://a/b": {**STEP, "kind": "run"}}), id="an answer that runs"
        ),
        pytest.param(put("predictors", "default", "exchanges", [{"name": "GET x"}]), id="exchanges"),
        pytest.param(put("predictors", "default", "refusal", "hang"), id="a refusal that there is not"),
        pytest.param(put("predictors", "A B", {}), id="a predictor of no name"),
        pytest.param(put("predictors", "default", "threads", "3"), id="threads that are a text"),
        pytest.param(put("predictors", "default", "command", "x {beam}"), id="a command with gaps"),
        pytest.param(
            put("predictors", "default", "inputs", [["text", "object"]]), id="a type that there is not"
        ),
        pytest.param(put("predictors", "default", "tolerance", float("nan")), id="a number that is none"),
        pytest.param(
            put("predictors", "default", "examples", [{"items": 3, "parameters": {}}]), id="examples"
        ),
        pytest.param(put("summary", "\ud800"), id="what is no text"),
    ],
)
def test_what_no_recipe_can_say_is_refused(tmp_path: Path, damage: Callable[[Any], None]) -> None:
    value = copy.deepcopy(recipe_to_json(evaluate(write(tmp_path, WHOLE), "counter", {})))
    damage(value)
    with pytest.raises(RecipeError, match="comes to what no recipe can say"):
        recipe_from_stranger(value, "counter")


@pytest.mark.parametrize("value", [None, [], "text", {}, {"steps": 3}], ids=repr)
def test_what_is_no_recipe_at_all_is_refused(value: Any) -> None:
    with pytest.raises(RecipeError, match="no recipe can say"):
        recipe_from_stranger(value, "counter")
