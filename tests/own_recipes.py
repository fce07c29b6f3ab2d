"""The recipes of this repository in a project of the tests: copies that are built once a session.

Knows nothing of what they should come to.
"""

from __future__ import annotations

import shutil

import pytest

from reprobuild.derivation.lockfile import LOCK_FILE
from tests.projects import SOURCE, Project, require_sandbox
from tests.require import require

FOLDER = SOURCE / "recipes"
RECIPES = sorted(path.parent.name for path in FOLDER.glob("*/recipe.py"))
LOCKED = [name for name in RECIPES if (FOLDER / name / LOCK_FILE).exists()]
UNLOCKED = [name for name in RECIPES if name not in LOCKED]


@pytest.fixture(scope="session")
def own_recipes(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with copies of the recipes and one store, empty at first, for a whole session."""
    folder = tmp_path_factory.mktemp("recipes")
    require_sandbox(folder / "store")
    shutil.copytree(FOLDER, folder / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "reprobuild.toml").touch()
    return Project(folder, folder / "store")


def realize(project: Project, recipe: str) -> dict[str, str]:
    """Build a recipe from its lock unless it is there; give what is said of the image."""
    ended = project.call("realize", recipe, "--json", check=False)
    if ended.code == 5:
        require("registries", ended.err.strip().partition("\n")[0])
    assert ended.code == 0, ended.err
    made: dict[str, str] = ended.json if isinstance(ended.json, dict) else ended.json[0]
    return made
