"""Recipes with a git repository, from their lock to their sources."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.git_scene import FILES, Scene, make_scene
from tests.projects import Project as CliProject
from tests.projects import require_sandbox
from tests.sites.git import GitSite, repository
from tests.upstreams import Answer, Request, page

pytestmark = pytest.mark.once


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with make_scene(tmp_path, monkeypatch) as scene:
        yield scene


RECIPE = """\
from reprobuild import git, image, recipe

@recipe(version="1.0")
def copier():
    mirrors = ["https://two.test/model.git"]
    return image(git("https://git.test/model.git", "{commit}", to="/opt/model", mirrors=mirrors))
"""


def project_of(scene: Scene, commit: str) -> CliProject:
    require_sandbox(scene.folder / "trial")
    folder = scene.folder / "project"
    (folder / "recipes/copier").mkdir(parents=True)
    (folder / "reprobuild.toml").write_text("")
    (folder / "recipes/copier/recipe.py").write_text(RECIPE.format(commit=commit))
    return CliProject(folder, folder / "store", scene.net.environment())


@pytest.mark.twice
def test_a_recipe_is_locked_and_built_again_in_a_fresh_store(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    project = project_of(scene, commit)
    project.call("lock", "copier")
    image = project.call("realize", "copier", "--json").json["image_id"]
    scene.net.stop()
    assert project.call("realize", "copier", "--offline", "--json").json["image_id"] == image
    fresh = CliProject(project.folder, scene.folder / "fresh", project.environment)
    planned = fresh.call("realize", "copier", "--dry-run", "--json").json
    assert planned["fetch"] == [{"name": f"model-{commit[:12]}.tree", "size": None}]
    gone = fresh.call("realize", "copier", "--offline", check=False)
    assert gone.code == 5
    assert "https://git.test/model.git" in gone.err
    scene.net.start()
    scene.net.add("git.test", lambda request: page("gone", 410))
    scene.net.add("two.test", GitSite(scene.folder / "served"))
    other = CliProject(project.folder, scene.folder / "fresh", scene.net.environment())
    assert other.call("realize", "copier", "--json").json["image_id"] == image
    other.call("gc")
    assert other.call("realize", "copier", "--offline", "--json").json["image_id"] == image


def test_a_host_that_is_gone_is_exit_code_5(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    project = project_of(scene, commit)
    scene.net.stop()
    ended = project.call("lock", "copier", check=False)
    assert ended.code == 5
    assert "recipe.py:6" in ended.err
    assert "git.test" in ended.err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda one: one.name)
def test_a_lock_that_is_killed_midway_leaves_nothing(scene: Scene, number: signal.Signals) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    reached, go_on = threading.Event(), threading.Event()
    site = GitSite(scene.folder / "served")

    def slow(request: Request) -> Answer:
        answer = site(request)
        if b"pack" not in bytes(request.body) or b"want" not in request.body:
            return answer
        assert isinstance(answer.body, bytes)

        def pieces(body: bytes) -> Iterator[bytes]:
            yield body[: len(body) // 2]
            reached.set()
            go_on.wait(60)
            yield body[len(body) // 2 :]

        return Answer(pieces(answer.body), answer.status, answer.headers)

    scene.net.add("git.test", slow)
    project = project_of(scene, commit)
    child = subprocess.Popen(
        project.argv("lock", "copier"),
        cwd=project.folder,
        env=project.full_environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        assert reached.wait(60)
        child.send_signal(number)
        child.wait(60)
    finally:
        child.kill()
        child.wait()
        go_on.set()
    assert not (project.folder / "recipes/copier/recipe.lock").exists()
    scene.net.add("git.test", site)
    project.call("lock", "copier")
    project.call("gc")
    assert not list((project.store / "tmp").glob("git-*"))


def test_exported_sources_are_enough_without_a_server(scene: Scene, tmp_path: Path) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    project = project_of(scene, commit)
    project.call("lock", "copier")
    image = project.call("realize", "copier", "--json").json["image_id"]
    project.call("export", "copier", "--sources", str(tmp_path / "sources"))
    scene.net.stop()
    fresh = CliProject(project.folder, scene.folder / "fresh", project.environment)
    fresh.call("import", str(tmp_path / "sources"))
    assert fresh.call("realize", "copier", "--offline", "--json").json["image_id"] == image


def test_nothing_differs_until_the_server_does(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    project = project_of(scene, commit)
    project.call("lock", "copier")
    repository(scene.folder / "served/model.git", {"README.md": b"changed"}, message="second")
    assert project.call("lock", "copier", "--check").code == 0
