"""Names of recipes: what is said of one that there is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprobuild.build import recipes
from reprobuild.errors import UsageError


def make(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "recipe.py").touch()
    return str(folder)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        pytest.param("tutorail", "there is no recipe 'tutorail'", "did you mean tutorial?", id="misspelt"),
        pytest.param("zzz", "there is no recipe 'zzz'", "there are: hello, tutorial", id="unlike any"),
        pytest.param(
            "hello/size", "there is no recipe", "did you mean hello? NAME/PREDICTOR", id="predictor"
        ),
        pytest.param("../hello", "is no name of a recipe", "", id="path"),
        pytest.param("hel lo", "is no name of a recipe", "did you mean hello?", id="space"),
        pytest.param("Ünïcode", "is no name of a recipe", "", id="not ASCII"),
        pytest.param("", "there is no recipe ''", "there are: ", id="empty"),
        pytest.param("mine", "there is no recipe 'mine'", "touch reprobuild.toml", id="in no project"),
    ],
)
def test_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str, hint: str) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "recipes", "mine")
    folder = make(tmp_path / "other", "hello", "tutorial")
    with pytest.raises(UsageError) as caught:
        recipes.find((folder,), name)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_hundreds_of_names_are_not_listed(tmp_path: Path) -> None:
    folder = make(tmp_path, *(f"r{number:03}" for number in range(100)))
    with pytest.raises(UsageError) as caught:
        recipes.find((folder,), "unlike")
    assert caught.value.hint.endswith("r011 and 88 more: reprobuild list")
