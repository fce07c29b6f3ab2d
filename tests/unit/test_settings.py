"""Settings that make no sense are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprobuild import settings
from reprobuild.errors import UsageError


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            "recipes = 5", "the setting recipes is a list of texts, not 5", id="a number for a list"
        ),
        pytest.param("recipes = [5]", "the setting recipes is a list of texts", id="a number in a list"),
        pytest.param("[mirrors]\ndebian = 3", "the setting debian_mirrors is a list of texts", id="mirrors"),
        pytest.param("[mirrors]\npip = 'x'", "knows 'debian' alone", id="other mirrors"),
        pytest.param("foo = 5", "there is no setting 'foo'", id="unknown"),
        pytest.param("jobs = 'x'", "the setting jobs cannot be 'x'", id="text for a number"),
        pytest.param("jobs = 0", "the setting jobs is at least 1", id="none"),
        pytest.param("engine = 'vm'", "there is no engine 'vm'", id="engine"),
        pytest.param("<<<<<<< HEAD", "reprobuild.toml: ", id="no TOML"),
    ],
)
def test_what_a_file_cannot_say(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "reprobuild.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        settings.load({}, {}, str(tmp_path))
    assert problem in caught.value.message


def test_later_ones_win(tmp_path: Path) -> None:
    (tmp_path / "reprobuild.toml").write_text("jobs = 2\nstore = 'a'\nrecipes = 'mine'\n")
    found = settings.load({"store": "c"}, {"REPROBUILD_STORE": "b"}, str(tmp_path))
    assert (found.jobs, found.store) == (2, str(tmp_path / "c"))
    assert found.recipes[0] == str(tmp_path / "mine")
