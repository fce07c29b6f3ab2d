from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from reprobuild.images.git_state import is_state, normal_state
from reprobuild.tree import NORMAL_TIME
from tests.require import program

NAMES = [*(f"file{number}" for number in range(40)), "a/b/c/d", "run.sh", "empty", "x" * 5000]


def git(folder: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_DATE": "2020-02-03T04:05:06Z",
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "C",
        "GIT_COMMITTER_EMAIL": "c@example.org",
    }
    command = [str(program("git")), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def work_tree(folder: Path, *settings: str, form: str = "sha1") -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", f"--object-format={form}")
    for setting in settings:
        git(folder, "config", *setting.split("="))
    for number, name in enumerate(NAMES):
        path = folder / ("long/" + "/".join(["y" * 200] * 3) + "/z" if len(name) > 4000 else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else b"%d\n" % number)
    (folder / "run.sh").chmod(0o755)
    git(folder, "add", "--all")
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("index.version=4",),
        ("core.untrackedCache=true", "index.threads=2"),
        ("feature.manyFiles=true",),
    ],
    ids=["plain", "version 4", "with caches", "many files"],
)
@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_two_work_trees_have_one_index(tmp_path: Path, settings: tuple[str, ...], form: str) -> None:
    normal: list[bytes] = []
    for name in ("one", "two"):
        folder = work_tree(tmp_path / name, *settings, form=form)
        for path in folder.glob("file*"):
            os.utime(path, (1_000_000_000, 1_000_000_000 + len(normal)))
        git(folder, "status")
        data = (folder / ".git/index").read_bytes()
        normal.append(normal_state(".git/index", data, NORMAL_TIME))
        assert normal[-1] != data
        assert normal_state(".git/index", normal[-1], NORMAL_TIME) == normal[-1], "normal already"
    assert normal[0] == normal[1]


def test_git_reads_it_and_finds_nothing_changed(tmp_path: Path) -> None:
    folder = work_tree(tmp_path / "work")
    git(folder, "commit", "--quiet", "--message", "first")
    listed = git(folder, "ls-files", "--stage")
    index = folder / ".git/index"
    index.write_bytes(normal_state(".git/index", index.read_bytes(), NORMAL_TIME))
    assert git(folder, "ls-files", "--stage") == listed
    (folder / "file1").write_bytes(b"9\n")  # the size is as before
    git(folder, "fsck", "--strict")
    assert git(folder, "status", "--porcelain") == " M file1\n"
    assert git(folder, "describe", "--always", "--dirty").strip().endswith("-dirty")
    (folder / "file1").write_bytes(b"1\n")
    assert git(folder, "status", "--porcelain") == ""
    assert not git(folder, "describe", "--always", "--dirty").strip().endswith("-dirty")


def test_reflogs_know_no_time(tmp_path: Path) -> None:
    folder = work_tree(tmp_path / "work")
    git(folder, "commit", "--quiet", "--message", "first")
    path = folder / ".git/logs/HEAD"
    normal = normal_state("x/.git/logs/HEAD", path.read_bytes(), NORMAL_TIME)
    assert b"C <c@example.org> 315619200 +0000\tcommit (initial): first\n" in normal
    path.write_bytes(normal)
    assert "first" in git(folder, "reflog")
    assert "1980-01-02" in git(folder, "reflog", "--date=iso")


def test_other_files_of_these_names_stay() -> None:
    sealed = b"DIRC" + bytes(4) + b"\xff\xff\xff\xff"
    for path, data in (
        ("a/index", b"<html>"),
        ("index", b""),
        ("index", b"DIRC"),
        ("index", b"DIRC" + bytes(60)),
        ("index", sealed + hashlib.sha1(sealed).digest()),
        ("logs/HEAD", b"a line\n"),
        ("app/logs/refs/x", b"0" * 40 + b" no reflog\n"),
        ("logs/HEAD", b""),
    ):
        assert is_state(path)
        assert normal_state(path, data, NORMAL_TIME) == data
    assert not is_state("index.html") and not is_state("logs/app.log") and not is_state("HEAD")
