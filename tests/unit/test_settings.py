"""Settings: file, environment, flags, in this order; whatever makes no sense is named with its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reprobuild.errors import UsageError
from reprobuild.settings import Settings, find_project, load


def settings(
    folder: Path,
    text: str | None = "",
    environment: Mapping[str, str] | None = None,
    **flags: Any,
) -> Settings:
    """Load the settings of a folder with a project file of that text, or without one."""
    if text is not None:
        (folder / "reprobuild.toml").write_text(text)
    return load(flags, {"HOME": str(folder / "home"), **(environment or {})}, str(folder))


FILE = 'store = "file"\nengine = "sandbox"\njobs = 2\noffline = false\npython_index = "https://file/"\n'
ENVIRONMENT = {
    "REPROBUILD_STORE": "environment",
    "REPROBUILD_JOBS": "3",
    "REPROBUILD_OFFLINE": "1",
    "REPROBUILD_PYTHON_INDEX": "https://environment/",
}


@pytest.mark.parametrize(
    ("name", "by_default", "in_file", "in_environment", "flag"),
    [
        pytest.param("store", "store", "file", "environment", "flag", id="store"),
        pytest.param("jobs", 8, 2, 3, 4, id="jobs"),
        pytest.param("offline", False, False, True, True, id="offline"),
        pytest.param("python_index", "", "https://file/", "https://environment/", "", id="python_index"),
    ],
)
def test_later_ones_win(
    tmp_path: Path, name: str, by_default: Any, in_file: Any, in_environment: Any, flag: Any
) -> None:
    def shown(found: Settings) -> Any:
        value = getattr(found, name)
        return Path(value).name if name == "store" else value

    assert shown(settings(tmp_path)) == by_default
    assert shown(settings(tmp_path, FILE)) == in_file
    assert shown(settings(tmp_path, FILE, ENVIRONMENT)) == in_environment
    assert shown(settings(tmp_path, FILE, ENVIRONMENT, **{name: flag})) == flag
    assert shown(settings(tmp_path, FILE, ENVIRONMENT, **{name: None})) == in_environment


def test_paths_of_the_file_begin_at_the_project_and_others_where_one_is(tmp_path: Path) -> None:
    (tmp_path / "reprobuild.toml").write_text('store = "here"\nrecipes = "mine"')
    below = tmp_path / "deep" / "er"
    below.mkdir(parents=True)
    assert find_project(str(below)) == str(tmp_path)
    found = load({}, {}, str(below))
    assert found.store == str(tmp_path / "here")
    assert found.recipes[0] == str(tmp_path / "mine")
    assert load({"store": "here"}, {}, str(below)).store == str(below / "here")
    assert load({}, {"REPROBUILD_RECIPES": "a:/b"}, str(below)).recipes[:2] == (str(below / "a"), "/b")


def test_without_a_project_the_store_is_the_users(tmp_path: Path) -> None:
    assert settings(tmp_path, None).store == str(tmp_path / "home/.local/share/reprobuild/store")
    found = settings(tmp_path, None, {"XDG_DATA_HOME": "/data"})
    assert found.store == "/data/reprobuild/store"
    assert found.project == ""


def test_mirrors_are_a_table_in_the_file_and_words_in_the_environment(tmp_path: Path) -> None:
    text = '[mirrors]\ndebian = ["https://a/", "https://b/"]'
    assert settings(tmp_path, text).debian_mirrors == ("https://a/", "https://b/")
    other = {"REPROBUILD_DEBIAN_MIRRORS": "https://c/ https://d/"}
    assert settings(tmp_path, text, other).debian_mirrors == ("https://c/", "https://d/")


@pytest.mark.parametrize(
    ("value", "is_offline"), [("1", True), ("yes", True), ("0", False), ("False", False), ("", False)]
)
def test_what_offline_means_in_the_environment(tmp_path: Path, value: str, is_offline: bool) -> None:
    assert settings(tmp_path, "", {"REPROBUILD_OFFLINE": value}).offline is is_offline


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("store = [", "", id="no TOML"),
        pytest.param("<<<<<<< HEAD", "", id="a conflict"),
        pytest.param("stoer = 'x'", "there is no setting 'stoer'", id="unknown"),
        pytest.param("project = 'x'", "there is no setting 'project'", id="not settable"),
        pytest.param("jobs = '3'", "the setting jobs cannot be '3'", id="text for number"),
        pytest.param("jobs = true", "the setting jobs cannot be True", id="bool for number"),
        pytest.param("jobs = 0", "the setting jobs is at least 1", id="too few"),
        pytest.param("offline = 'yes'", "the setting offline cannot be 'yes'", id="text for bool"),
        pytest.param("store = 3", "the setting store cannot be 3", id="number for text"),
        pytest.param("store = ''", "the setting store cannot be ''", id="no folder"),
        pytest.param('store = "a\\u0000b"', "the setting store cannot be", id="zero byte"),
        pytest.param('recipes = ["a\\u0000b"]', "the setting recipes cannot be", id="zero byte in a list"),
        pytest.param("recipes = 3", "the setting recipes is a list of texts, not 3", id="number for list"),
        pytest.param("recipes = [3]", "the setting recipes is a list of texts", id="list of numbers"),
        pytest.param("engine = 'podman'", "there is no engine 'podman'", id="engine"),
        pytest.param("mirrors = 3", "[mirrors] knows 'debian' and 'hub' and 'oci'", id="mirrors are a table"),
        pytest.param(
            "[mirrors]\npip = 'x'", "[mirrors] knows 'debian' and 'hub' and 'oci'", id="another mirror"
        ),
        pytest.param(
            "[mirrors]\ndebian = 3", "debian_mirrors is a list of texts", id="a number for a mirror"
        ),
    ],
)
def test_what_a_file_cannot_say(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(tmp_path, text)
    assert caught.value.message.startswith(f"{tmp_path / 'reprobuild.toml'}: ")
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("environment", "flags", "problem"),
    [
        pytest.param({"REPROBUILD_JOBS": "many"}, {}, "REPROBUILD_JOBS=many", id="jobs"),
        pytest.param({"REPROBUILD_JOBS": "0"}, {}, "the environment: the setting jobs", id="no jobs"),
        pytest.param({"REPROBUILD_ENGINE": "x"}, {}, "the environment: there is no engine 'x'", id="engine"),
        pytest.param({}, {"engine": "x"}, "the command line: there is no engine 'x'", id="flag"),
        pytest.param({}, {"store": ""}, "the command line: the setting store cannot", id="empty flag"),
    ],
)
def test_what_environment_and_flags_cannot_say(
    tmp_path: Path, environment: dict[str, str], flags: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UsageError) as caught:
        settings(tmp_path, "", environment, **flags)
    assert problem in caught.value.message


def test_settings_do_not_change(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        settings(tmp_path).jobs = 3
