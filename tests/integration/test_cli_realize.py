"""``realize`` from the command line: warm answers are the cold ones, and nothing stale is ever said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import reprobuild

RECIPE = '''"""Files alone: nothing is fetched."""
from reprobuild import files, image, recipe

@recipe(version="1.0")
def hello(loud: bool = False):
    return image(files("src/loud.txt" if loud else "src/quiet.txt", to="/app/text"))
'''


class Project:
    """A project with one recipe, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = folder / "recipes" / "hello"
        (self.recipe / "src").mkdir(parents=True)
        (folder / "reprobuild.toml").touch()
        (self.recipe / "recipe.py").write_text(RECIPE)
        (self.recipe / "src" / "quiet.txt").write_text("hello\n")
        (self.recipe / "src" / "loud.txt").write_text("HELLO\n")

    def run(self, *arguments: str, interpreter: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        package = Path(reprobuild.__file__).parents[1]
        environment = {**os.environ, "PYTHONPATH": str(package)}
        command = [sys.executable, *interpreter, "-m", "reprobuild", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, env=environment, check=False
        )

    def image(self, *arguments: str) -> str:
        ended = self.run("realize", "hello", "--json", *arguments)
        assert ended.returncode == 0, ended.stderr
        found = json.loads(ended.stdout)["image_id"]
        assert isinstance(found, str)
        return found

    def is_warm(self, *arguments: str) -> bool:
        """Tell whether a call is answered without click."""
        ended = self.run("realize", "hello", *arguments, interpreter=("-X", "importtime"))
        assert ended.returncode == 0, ended.stderr
        return " click" not in ended.stderr

    def memos(self) -> list[Path]:
        return list((self.folder / "store" / "memo").iterdir())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--set", "loud=true"]], ids=["text", "json", "set"])
def test_a_warm_answer_is_what_the_long_way_says(project: Project, arguments: list[str]) -> None:
    project.run("realize", "hello", *arguments)
    assert project.is_warm(*arguments)
    warm = project.run("realize", "hello", *arguments)
    for memo in project.memos():
        memo.unlink()
    cold = project.run("realize", "hello", *arguments)
    assert (warm.returncode, warm.stdout, warm.stderr) == (cold.returncode, cold.stdout, cold.stderr)
    assert "reused" in warm.stderr


def test_a_warm_answer_writes_nothing(project: Project) -> None:
    project.run("realize", "hello")

    def everything() -> dict[str, tuple[int, int]]:
        found = (path for path in project.folder.rglob("*"))
        return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns) for path in found}

    before = everything()
    project.run("realize", "hello")
    assert everything() == before


def _edit(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda p: _edit(p.recipe / "src" / "quiet.txt", "hallo\n"), id="content of a file"),
        pytest.param(lambda p: (p.recipe / "src" / "quiet.txt").chmod(0o755), id="executable bit"),
        pytest.param(lambda p: _edit(p.recipe / "recipe.py", RECIPE + "\n"), id="recipe"),
        pytest.param(
            lambda p: _edit(
                p.recipe / "recipe.lock", '{"lock": 1, "assembler": 2, "sources": {}, "outputs": {}}'
            ),
            id="lock",
        ),
        pytest.param(lambda p: next((p.folder / "store" / "roots").iterdir()).unlink(), id="root gone"),
        pytest.param(
            lambda p: [path.unlink() for path in (p.folder / "store" / "realisations").rglob("*.json")],
            id="records gone",
        ),
    ],
)
def test_any_change_goes_the_long_way(project: Project, change: Callable[[Project], object]) -> None:
    project.run("realize", "hello")
    assert project.is_warm()
    change(project)
    assert not project.is_warm()


def test_a_changed_file_is_another_image_and_the_old_state_the_old_one(project: Project) -> None:
    first = project.image()
    text = project.recipe / "src" / "quiet.txt"
    text.write_text("hallo\n")
    second = project.image()
    text.write_text("hello\n")
    assert project.image() == first != second


def test_options_are_other_images(project: Project) -> None:
    assert project.image("--set", "loud=true") != project.image("--set", "loud=false") == project.image()


@pytest.mark.parametrize(
    ("arguments", "code", "error", "hint"),
    [
        pytest.param(
            ["hello", "--set", "lod=true"], 2, "the recipe hello has no option lod", "loud=False", id="option"
        ),
        pytest.param(["hello", "--set", "loud"], 2, "--set loud: NAME=VALUE is needed", "--set", id="form"),
        pytest.param(["hello", "--set", "loud=maybe"], 2, "loud of hello is bool", "False", id="value"),
        pytest.param(["helo"], 2, "there is no recipe 'helo'", "did you mean hello?", id="name"),
        pytest.param([], 2, "which recipe?", "hello", id="none"),
        pytest.param(["hello", "--all"], 2, "--all and names", "leave one", id="all"),
        pytest.param(["../hello"], 2, "is no name of a recipe", "", id="path"),
    ],
)
def test_bad_input_is_explained(
    project: Project, arguments: list[str], code: int, error: str, hint: str
) -> None:
    ended = project.run("realize", *arguments)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert "Traceback" not in ended.stderr
    first, _, rest = ended.stderr.partition("\n")
    assert first.startswith("error: ")
    assert error in first
    assert hint in rest


def test_keep_going_builds_the_others_and_ends_with_the_first_failure(project: Project) -> None:
    broken = project.folder / "recipes" / "broken"
    broken.mkdir()
    (broken / "recipe.py").write_text("1 / 0\n")
    ended = project.run("realize", "broken", "hello", "--keep-going", "--json")
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.returncode == 2
    assert answers[0]["error"]["exit_code"] == 2
    assert answers[1]["recipe"] == "hello"


def test_a_dry_run_says_what_would_be_done_and_does_nothing(project: Project) -> None:
    ended = project.run("realize", "hello", "--dry-run", "--json")
    plan = json.loads(ended.stdout)
    assert [step["action"] for step in plan["steps"]] == ["build"]
    assert not any((project.folder / "store" / "roots").iterdir())
    project.run("realize", "hello")
    assert "nothing to do" in project.run("realize", "hello", "--dry-run").stdout
