"""``reprobuild new``: recipes that are there and work."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.projects import Project

DOCKERFILE = """\
FROM debian:bookworm
RUN wget https://example.org/x; make || true
COPY . /app
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "reprobuild.toml").write_text("")
    return Project(tmp_path, tmp_path / "store")


def test_a_recipe_is_started(project: Project) -> None:
    said = project.call("new", "mine").out
    assert "next: reprobuild lock mine" in said
    assert project.call("show", "mine", "--json").json["version"] == "0.1"
    assert "not locked: reprobuild lock mine" in project.call("show", "mine").out
    again = project.call("new", "mine", check=False)
    assert again.code == 2
    assert "is there already" in again.err


SAID = {
    "--title": 'Says "no": \\ and """ twice, ünïcode',
    "--paper": "Jane Smith: A | B. ACL 2024",
    "--repository": "https://example.org/model",
    "--license": "MIT",
    "--version": "2.1",
}


def test_what_is_said_of_a_model_stands_where_it_is_looked_for(project: Project) -> None:
    (project.folder / "Dockerfile").write_text(DOCKERFILE)
    flags = [word for pair in SAID.items() for word in pair]
    for name, more in (("mine", []), ("drafted", ["--from-dockerfile", "Dockerfile"])):
        project.call("new", name, *flags, *more)
        shown = project.call("show", name, "--json").json
        assert (shown["summary"], shown["version"]) == (SAID["--title"], "2.1")
        readme = (project.folder / "recipes" / name / "README.md").read_text()
        assert "| publication | Jane Smith: A \\| B. ACL 2024 |\n" in readme
        assert "| repository | <https://example.org/model> |\n| licence | MIT |\n" in readme
        assert "\n| 2.1 | the first |" in readme
        for heading in ("Inputs and outputs", "Usage", "Notes", "Replication status", "Changes"):
            assert f"\n## {heading}\n" in readme


@pytest.mark.parametrize(
    "flags", [("--title", "two\nlines"), ("--version", "no version"), ("--paper", "x" * 1001)]
)
def test_what_no_recipe_can_say_is_refused(flags: tuple[str, str], project: Project) -> None:
    ended = project.call("new", "mine", *flags, check=False)
    assert ended.code == 2 and "error: " in ended.err
    assert not (project.folder / "recipes").exists()


def on_a_terminal(project: Project, *arguments: str, typed: bytes) -> str:
    """Call reprobuild with a terminal, type, and give what it showed there."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        project.argv(*arguments),
        cwd=project.folder,
        env=project.full_environment(),
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        start_new_session=True,
    ) as called:
        os.close(slave)
        os.write(master, typed)
        assert called.stdout is not None
        called.stdout.read()
        code = called.wait()
    shown = b""
    with contextlib.suppress(OSError):  # a terminal that nobody holds any more
        while data := os.read(master, 4096):
            shown += data
    os.close(master)
    assert code == 0, shown
    return shown.decode()


def test_on_a_terminal_it_asks_for_what_was_not_said(project: Project) -> None:
    shown = on_a_terminal(project, "new", "mine", "--license", "MIT", typed=b"A title\n\n\x04\x04")
    assert "What is it, in a line? Its publication" in shown
    assert shown.count("?") == 4 and "licence" not in shown
    told = project.call("show", "mine", "--json").json
    assert (told["summary"], told["version"]) == ("A title", "0.1")
    readme = (project.folder / "recipes/mine/README.md").read_text()
    assert "| publication | not said yet |\n| repository | not said yet |\n| licence | MIT |" in readme
    assert "?" not in on_a_terminal(project, "new", "other", "--quiet", typed=b"")


def test_a_project_begins_where_there_is_none(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    Project(here, tmp_path / "store").call("new", "mine")
    assert (here / "reprobuild.toml").exists()
    assert (here / "recipes" / "mine" / "recipe.py").exists()


@pytest.mark.parametrize("more", [[], ["--from-dockerfile", "Dockerfile"]], ids=["template", "draft"])
def test_a_recipe_that_is_there_is_not_hidden_by_a_new_one(project: Project, more: list[str]) -> None:
    (project.folder / "Dockerfile").write_text(DOCKERFILE)
    ended = project.call("new", "tutorial", *more, check=False)
    assert ended.code == 2
    first, hint, *_ = ended.err.splitlines()
    there = project.call("show", "tutorial", "--json").json
    assert first.startswith("error: there is a recipe tutorial in /") and "take its place" in first
    assert not (project.folder / "recipes").exists()
    subprocess.run(hint.partition("to change that one: ")[2], shell=True, check=True)
    assert project.call("show", "tutorial", "--json").json["version"] == there["version"]
    assert (project.folder / "recipes" / "tutorial" / "recipe.py").exists()


@pytest.mark.parametrize("name", ["../x", "1x", "a b", ""])
def test_what_is_no_name_is_refused(name: str, project: Project) -> None:
    assert project.call("new", name, check=False).code == 2


def test_a_draft_has_what_it_copies_and_says_what_to_look_at(project: Project) -> None:
    context = project.folder / "old"
    (context / "lib").mkdir(parents=True)
    (context / "Dockerfile").write_text(DOCKERFILE)
    (context / "lib" / "a.py").write_text("1")
    (context / "big.bin").write_text("2")
    (context / ".dockerignore").write_text("*.bin\n")
    said = project.call("new", "mine", "--from-dockerfile", "old/Dockerfile").out
    assert "line 2: ; goes on after a failure of: wget https://example.org/x" in said
    assert "line 2: || true hides a failure of: make" in said
    made = project.folder / "recipes" / "mine"
    assert (made / "src" / "lib" / "a.py").read_text() == "1"
    assert not (made / "src" / "big.bin").exists()
    project.call("show", "mine")


@pytest.mark.parametrize("text", ["", "FROM", "FROM a\nFOO b", "\0"])
def test_a_dockerfile_that_is_none_is_said_with_its_line(text: str, project: Project) -> None:
    (project.folder / "Dockerfile").write_text(text)
    ended = project.call("new", "mine", "--from-dockerfile", "Dockerfile", check=False)
    assert (ended.code, ended.err.startswith("error: Dockerfile")) == (2, True)
    assert not (project.folder / "recipes").exists()
