from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from reprobuild.derivation.git_index import executables
from tests.require import program

FILES = {"recipes/x/run.sh": True, "recipes/x/recipe.py": False, "recipes/x/deep/tool": True, "other/y": True}
EXPECTED = {"run.sh": True, "recipe.py": False, "deep/tool": True}


def git(folder: Path, *arguments: str) -> None:
    names = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a",
    }
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", **names}
    command = [str(program("git")), "-C", str(folder), *arguments]
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=60)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work tree with files of both kinds; afterwards all of them look executable on disk."""
    folder = tmp_path / "work"
    folder.mkdir()
    git(folder, "init", "-q")
    for name, is_executable in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
        (folder / name).chmod(0o755 if is_executable else 0o644)
    git(folder, "add", ".")
    for name in FILES:
        (folder / name).chmod(0o777)
    return folder


@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_every_version_of_the_index_is_read(work: Path, version: str) -> None:
    git(work, "update-index", "--index-version", version)
    assert executables(work / "recipes/x") == EXPECTED
    assert executables(work) == FILES


def test_entries_with_more_flags(work: Path) -> None:
    (work / "recipes/x/later").write_text("")
    git(work, "add", "--intent-to-add", "recipes/x/later")
    assert executables(work / "recipes/x") == {**EXPECTED, "later": False}


def test_a_second_work_tree_has_an_index_of_its_own(work: Path, tmp_path: Path) -> None:
    git(work, "commit", "-q", "-m", "one")
    git(work, "worktree", "add", "-q", str(tmp_path / "second"))
    git(tmp_path / "second", "update-index", "--chmod=+x", "recipes/x/recipe.py")
    assert executables(tmp_path / "second/recipes/x") == {**EXPECTED, "recipe.py": True}
    assert executables(work / "recipes/x") == EXPECTED


def test_sha256_repositories(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256")
    (tmp_path / "a").write_text("")
    (tmp_path / "b").write_text("")
    git(tmp_path, "add", ".")
    git(tmp_path, "update-index", "--chmod=+x", "b")
    assert executables(tmp_path) == {"a": False, "b": True}


def test_an_index_that_refers_to_another_is_left_alone(work: Path) -> None:
    git(work, "update-index", "--split-index")
    assert executables(work) == {}


def test_links_are_no_files(work: Path) -> None:
    (work / "recipes/x/link").symlink_to("run.sh")
    git(work, "add", "recipes/x/link")
    assert executables(work / "recipes/x") == EXPECTED


@pytest.mark.parametrize(
    "index", [None, b"", b"DIRC", b"DIRC\0\0\0\2\0\0\0\5junk", b"DIRC\0\0\0\x09\0\0\0\0"]
)
def test_without_an_index_that_makes_sense_nothing_is_known(tmp_path: Path, index: bytes | None) -> None:
    (tmp_path / ".git").mkdir()
    if index is not None:
        (tmp_path / ".git/index").write_bytes(index)
    assert executables(tmp_path) == {}


def test_a_folder_outside_any_work_tree(tmp_path: Path) -> None:
    assert executables(tmp_path) == {}
