from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reprobuild import files
from reprobuild.build.place.files import digest_files, store_files
from reprobuild.derivation.folder import folder_digests
from reprobuild.errors import RecipeError
from reprobuild.store.store import Store
from tests.require import require


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "recipe"
    (made / "src/deep").mkdir(parents=True)
    (made / "recipe.py").write_text("# recipe")
    (made / "src/run.py").write_text("print()")
    (made / "src/deep/tool.sh").write_text("#!/bin/sh")
    (made / "src/deep/tool.sh").chmod(0o755)
    return made


@pytest.mark.parametrize(
    ("source", "to", "paths"),
    [
        pytest.param("src/run.py", "/app/main.py", ["app/main.py"], id="file"),
        pytest.param("src/run.py", "/app/", ["app/run.py"], id="file-into-folder"),
        pytest.param("src", "/app", ["app", "app/deep", "app/deep/tool.sh", "app/run.py"], id="folder"),
        pytest.param("src", "/", ["deep", "deep/tool.sh", "run.py"], id="folder-onto-root"),
        pytest.param(
            ".",
            "/r/",
            ["r", "r/recipe.py", "r/src", "r/src/deep", "r/src/deep/tool.sh", "r/src/run.py"],
            id="everything",
        ),
    ],
)
def test_where_files_go(folder: Path, source: str, to: str, paths: list[str]) -> None:
    assert [entry.path for entry in digest_files(files(source, to=to), folder)] == paths


def test_modes_are_two_whatever_the_umask(folder: Path) -> None:
    (folder / "src/run.py").chmod(0o600)
    (folder / "src/deep").chmod(0o700)
    modes = {entry.path: entry.mode for entry in digest_files(files("src", to="/a"), folder)}
    assert modes == {"a": 0o755, "a/deep": 0o755, "a/deep/tool.sh": 0o755, "a/run.py": 0o644}


def test_gits_executable_bit_wins(folder: Path) -> None:
    require("git")
    for command in (["init", "-q"], ["add", "."], ["update-index", "--chmod=+x", "src/run.py"]):
        subprocess.run(["git", "-C", folder, *command], check=True)
    (entry,) = digest_files(files("src/run.py", to="/a"), folder)
    assert entry.mode == 0o755


@pytest.mark.parametrize(
    "name", [".git", "__pycache__", "run.py~", ".#run.py", "run.pyc", ".run.py.swp", ".DS_Store"]
)
def test_what_is_no_part_of_a_recipe_is_left_out(folder: Path, name: str) -> None:
    before = digest_files(files("src", to="/a"), folder), folder_digests(str(folder))
    (folder / "src" / name).write_text("x")
    assert (digest_files(files("src", to="/a"), folder), folder_digests(str(folder))) == before


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(lambda path: path.write_text("other"), "src/run.py changed", id="changed"),
        pytest.param(lambda path: path.unlink(), "/app/run.py went", id="gone"),
        pytest.param(lambda path: path.with_name("new.py").write_text("x"), "src/new.py changed", id="new"),
    ],
)
def test_files_that_change_between_digest_and_copy_are_named(
    folder: Path, tmp_path: Path, change: Callable[[Path], object], problem: str
) -> None:
    step = files("src", to="/app")
    entries = digest_files(step, folder)
    change(folder / "src" / "run.py")
    with (
        pytest.raises(RecipeError, match=f"{problem} while it was read"),
        Store.open(tmp_path / "store").transaction() as group,
    ):
        store_files(step, folder, entries, group)


def test_links_stay_links(folder: Path) -> None:
    (folder / "src/latest").symlink_to("deep/tool.sh")
    (folder / "src/python").symlink_to("/usr/bin/python3")
    links = {
        entry.path: entry.target for entry in digest_files(files("src", to="/a"), folder) if entry.target
    }
    assert links == {"a/latest": "deep/tool.sh", "a/python": "/usr/bin/python3"}


def test_a_link_that_leads_outside_is_refused(folder: Path) -> None:
    (folder / "src/out").symlink_to("../../secret")
    with pytest.raises(RecipeError, match="src/out is a link that leads outside"):
        digest_files(files("src", to="/a"), folder)


def test_a_source_that_is_a_link_outside_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (folder / "own").symlink_to(tmp_path / "secret")
    with pytest.raises(RecipeError, match="leads outside the recipe's folder"):
        digest_files(files("own", to="/a"), folder)


def test_a_source_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(RecipeError, match="there is no"):
        digest_files(files("scr", to="/a"), folder)


def test_a_socket_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "src/pipe")
    with pytest.raises(RecipeError, match="src/pipe is neither"):
        digest_files(files("src", to="/a"), folder)


@pytest.mark.parametrize(
    ("change", "which"),
    [
        pytest.param(
            lambda folder: (folder / "src/run.py").write_text("print(1)"), (True, False), id="content"
        ),
        pytest.param(lambda folder: (folder / "src/run.py").chmod(0o755), (True, False), id="executable"),
        pytest.param(lambda folder: (folder / "src/new").touch(), (True, False), id="new-file"),
        pytest.param(lambda folder: (folder / "src/a").symlink_to("b"), (True, False), id="new-link"),
        pytest.param(lambda folder: (folder / "recipe.lock").write_text("{}"), (False, True), id="lock"),
        pytest.param(lambda folder: os.utime(folder / "recipe.py", (0, 0)), (False, False), id="time"),
        pytest.param(lambda folder: (folder / "src/run.py").chmod(0o600), (False, False), id="mode"),
    ],
)
def test_what_a_folders_digests_notice(
    folder: Path, change: Callable[[Path], object], which: tuple[bool, bool]
) -> None:
    before = folder_digests(str(folder))
    change(folder)
    after = folder_digests(str(folder))
    assert tuple(one != other for one, other in zip(before, after, strict=True)) == which


def test_folders_that_hold_nothing_are_not_placed(folder: Path) -> None:
    (folder / "src/empty/deeper").mkdir(parents=True)
    (folder / "src/cache/__pycache__").mkdir(parents=True)
    assert [entry.path for entry in digest_files(files("src", to="/a"), folder)] == [
        "a",
        "a/deep",
        "a/deep/tool.sh",
        "a/run.py",
    ]


def test_names_that_are_not_utf8_are_refused(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder / "src") + b"/caf\xe9")).write_text("")
    with pytest.raises(RecipeError, match="is not UTF-8"):
        digest_files(files("src", to="/a"), folder)


def test_a_strangers_git_configuration_starts_nothing(folder: Path, tmp_path: Path) -> None:
    require("git")
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", "-C", folder, *command], check=True)
    marker = tmp_path / "started"
    (folder / ".git/config").write_text(f"[core]\n\tfsmonitor = touch {marker}\n")
    digest_files(files("src", to="/a"), folder)
    assert not marker.exists()
