"""The pages that take a newcomer by the hand, followed word by word in an empty folder."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.own_recipes import realize
from tests.projects import SOURCE, Project
from tests.walkthrough import Follower

pytestmark = pytest.mark.once

PAGES = {"using-models": 15, "adding-a-model": 15}
"""Page → how many things at least there are to compare."""


def test_without_a_network_a_new_recipe_is_pinned_as_one_that_is_there(
    own_recipes: Project, tmp_path: Path
) -> None:
    realize(own_recipes, "tutorial")
    (tmp_path / "reprobuild.toml").touch()
    project = Project(tmp_path, own_recipes.store)
    project.call("new", "mine")
    locked = project.call("lock", "mine", "--offline")
    assert "offline: apt bookworm python3 is pinned as in the lock of " in locked.err
    tested = project.call("test", "mine", "--offline", "--json").json
    assert (tested["examples"][0]["problem"], tested["own_tests"]) == ("", "passed")
    recipe = project.folder / "recipes/mine/recipe.py"
    recipe.write_text(recipe.read_text().replace('"bookworm", "python3"', '"bookworm", "python3", "git"'))
    again = project.call("lock", "mine", "--offline", check=False)
    assert again.code == 5 and "pinning it needs the network" in again.err


@pytest.mark.parametrize(("page", "least"), PAGES.items(), ids=PAGES)
def test_a_page_is_true_word_by_word(page: str, least: int, own_recipes: Project, tmp_path: Path) -> None:
    realize(own_recipes, "tutorial")  # what it is made of is what the pages' recipes are made of
    folder, store = tmp_path / "empty", tmp_path / "store"
    folder.mkdir()
    # The blobs are there already, so that nothing has to be fetched twice; the predictions are not.
    subprocess.run(["cp", "-al", str(own_recipes.store), str(store)], check=True)
    shutil.rmtree(store / "predictions", ignore_errors=True)
    assert Follower(folder, store).follow(SOURCE / "docs" / f"{page}.md") >= least
