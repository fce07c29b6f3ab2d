"""Recipes evaluated in the sandbox: what is remembered, what they can see, what they may answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import reprobuild
from reprobuild import settings
from reprobuild.build.evaluate import evaluate
from reprobuild.build.project import Project
from reprobuild.engine.protocol import Engine, Isolation, Result
from reprobuild.errors import EngineError, RecipeError, UsageError
from reprobuild.events import Event, Warned
from tests.projects import require_sandbox

RECIPE = """from reprobuild import image, recipe, run

@recipe(version="1.0")
def small(extra: str = ""):
    return image(run("true"), *([run(extra)] if extra else []))
"""


@dataclass
class Counting:
    """An engine that counts what it is asked to run."""

    engine: Engine
    name: str = "counting"
    runs: int = 0

    def probe(self) -> Isolation:
        return self.engine.probe()

    def run(self, *arguments: Any, **more: Any) -> Result:
        self.runs += 1
        return self.engine.run(*arguments, **more)


@dataclass
class Missing:
    """An engine of a machine that cannot isolate."""

    name: str = "missing"

    def probe(self) -> Isolation:
        return Isolation("missing", False, "user namespaces are off", "turn them on")

    def run(self, *arguments: Any, **more: Any) -> Result:
        raise AssertionError("it was asked to run something")


@dataclass
class Scene:
    """A project with one recipe."""

    project: Project
    folder: Path
    told: list[Event] = field(default_factory=list)

    def evaluate(self, *, trust: bool = False, **options: Any) -> Any:
        return evaluate(self.project, "small", options, trust=trust).recipe

    def prefix(self, text: str) -> None:
        """Put lines at the beginning of the recipe."""
        path = self.folder / "recipe.py"
        path.write_text(text + "\n" + path.read_text())


def make_scene(home: Path, recipes: Path, engine: Callable[[Engine], Any]) -> Scene:
    folder = recipes / "small"
    folder.mkdir(parents=True)
    (folder / "recipe.py").write_text(RECIPE)
    (home / "reprobuild.toml").touch()
    told: list[Event] = []
    project = Project(settings.load({"recipes": (str(recipes),)}, {}, str(home)), told.append)
    project.__dict__["sandbox"] = engine(project.sandbox)
    return Scene(project, folder, told)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    require_sandbox(tmp_path / "trial")
    home = tmp_path / "home"
    home.mkdir()
    return make_scene(home, home / "recipes", Counting)


def runs(scene: Scene) -> int:
    counting = scene.project.sandbox
    assert isinstance(counting, Counting)
    return counting.runs


def write(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("new")

    return change


@pytest.mark.parametrize(
    ("change", "count"),
    [
        pytest.param(lambda folder: None, 1, id="nothing"),
        pytest.param(write("recipe.lock"), 1, id="the lock"),
        pytest.param(write("recorded/body"), 1, id="what was recorded"),
        pytest.param(write("notes.txt~"), 1, id="an editor's file"),
        pytest.param(write("__pycache__/recipe.cpython-311.pyc"), 1, id="byte code"),
        pytest.param(lambda folder: os.utime(folder / "recipe.py", (1, 1)), 1, id="a time"),
        # A recipe may read any file of its folder: which it read is not known.
        pytest.param(write("README.md"), 2, id="the README"),
        pytest.param(write("src/recipe.lock"), 2, id="a file that is only called like the lock"),
        pytest.param(lambda folder: (folder / "recipe.py").chmod(0o755), 2, id="an executable bit"),
        pytest.param(lambda folder: (folder / "link").symlink_to("elsewhere"), 2, id="a link"),
    ],
)
def test_what_evaluates_a_recipe_again(scene: Scene, change: Callable[[Path], object], count: int) -> None:
    first = scene.evaluate()
    change(scene.folder)
    assert scene.evaluate() == first
    assert runs(scene) == count


def test_what_is_remembered_is_what_was_evaluated(scene: Scene) -> None:
    """Also in the order of everything: it may be printed."""
    path = scene.folder / "recipe.py"
    path.write_text(path.read_text().replace('extra: str = ""', 'b: int = 1, a: int = 2, extra: str = ""'))
    first, again = scene.evaluate(), scene.evaluate()
    assert runs(scene) == 1
    assert [*first.chosen] == [*again.chosen]


def test_options_and_release_decide_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.evaluate()
    assert len(scene.evaluate(extra="date").image.steps) == 2
    assert runs(scene) == 2
    monkeypatch.setattr(reprobuild, "__version__", "999")
    scene.evaluate()
    assert runs(scene) == 3


@pytest.mark.parametrize(
    "name", ["notes.txt~", "recipe.lock", "recorded/body", ".mypy_cache/x", "helper.pyc", "pipe"]
)
def test_what_does_not_count_cannot_be_read(scene: Scene, name: str) -> None:
    write(name)(scene.folder)
    if name == "pipe":
        (scene.folder / name).unlink()
        os.mkfifo(scene.folder / name)
    scene.prefix(f"open({name!r})")
    with pytest.raises(RecipeError, match="FileNotFoundError"):
        scene.evaluate()


def test_what_counts_can_be_read(scene: Scene) -> None:
    write("src/recipe.lock")(scene.folder)
    scene.prefix("open('src/recipe.lock')")
    scene.evaluate()


def test_a_link_leads_to_nothing_of_the_host(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (scene.folder / "link").symlink_to(tmp_path / "secret")
    (scene.folder / "folder").symlink_to(tmp_path)
    scene.evaluate()
    scene.prefix("open('link')")
    with pytest.raises(RecipeError, match="FileNotFoundError"):
        scene.evaluate()


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        pytest.param("nonsense", "gave no recipe", id="no JSON"),
        pytest.param("[]", "gave no recipe, but list", id="no object"),
        pytest.param("{}", "no recipe can say", id="no recipe"),
        pytest.param("[" * 100_000, "gave no recipe", id="deep"),
        pytest.param(" " * (17 << 20), "gave no recipe", id="large"),
        pytest.param('{"recipe": {"name": "x"}}', "no recipe can say", id="half a recipe"),
        pytest.param('{"error": 3}', "3", id="an error that is no text"),
    ],
)
def test_an_answer_that_a_recipe_wrote_itself_is_no_traceback(scene: Scene, answer: str, shown: str) -> None:
    (scene.folder / "answer").write_text(answer)
    scene.prefix("import os, shutil; shutil.copyfile('answer', '/out/answer.json'); os._exit(0)")
    with pytest.raises(RecipeError, match=shown):
        scene.evaluate()


def test_an_option_that_is_no_text_is_refused(scene: Scene) -> None:
    with pytest.raises(UsageError, match="lone surrogate"):
        scene.evaluate(extra="\udcff")


def test_without_a_sandbox_a_strangers_recipe_needs_trust(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    scene = make_scene(home, tmp_path / "elsewhere", lambda real: Missing())
    with pytest.raises(EngineError, match="no recipe of your project") as caught:
        scene.evaluate()
    assert "--trust" in caught.value.hint
    assert scene.told == []
    assert len(scene.evaluate(trust=True).image.steps) == 1
    assert any(isinstance(event, Warned) and "without a sandbox" in event.text for event in scene.told)


def test_what_was_evaluated_without_a_sandbox_is_not_remembered(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, tmp_path / "recipes", lambda real: Missing())
    (tmp_path / "state").write_text("one")
    scene.prefix(f"state = open({str(tmp_path / 'state')!r}).read()")
    (scene.folder / "recipe.py").write_text(
        (scene.folder / "recipe.py").read_text().replace('run("true")', "run(state)")
    )
    assert scene.evaluate().image.steps[0].command[-1] == "one"
    (tmp_path / "state").write_text("two")
    assert scene.evaluate().image.steps[0].command[-1] == "two"


def test_a_link_out_of_the_project_is_not_ones_own(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "recipes").mkdir(parents=True)
    scene = make_scene(home, tmp_path / "elsewhere", lambda real: Missing())
    (home / "recipes" / "linked").symlink_to(scene.folder)
    assert not scene.project.is_own(home / "recipes" / "linked")
    assert scene.project.is_own(home / "recipes")
