"""Whom realize asks for images, and how often: settings, and substituters that do not answer."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.misbehaving import Answer, Misbehaving
from tests.projects import Project, make_project, require_sandbox
from tests.published import Shelf, published, statuses
from tests.servers import free_port

pytestmark = pytest.mark.once

RECORD = '{"text": "abc"}\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("project"))
    project.call("lock", "copier")
    return project


@pytest.fixture
def shelf(project: Project, tmp_path: Path) -> Iterator[Shelf]:
    with published(project, tmp_path) as shelf:
        yield shelf


def test_a_silent_substituter_is_told_once(shelf: Shelf, tmp_path: Path) -> None:
    recipes = shelf.project.folder / "recipes"
    shutil.copytree(shelf.project.recipe, recipes / "copied", symlinks=True)
    try:
        recipe = recipes / "copied" / "recipe.py"
        recipe.write_text(recipe.read_text().replace("def copier", "def copied").replace("exit 7", "exit 8"))
        shelf.project.call("lock", "copied")
        dead = f"127.0.0.1:{free_port()}/x"
        reader = shelf.reader(tmp_path / "store", dead)
        ended = reader.call("realize", "copied", "copier", "--json")
    finally:
        shutil.rmtree(recipes / "copied")
    assert ended.err.count("warning: the substituter 127.0.0.1") == 1
    assert [json.loads(line)["engine"] for line in ended.out.splitlines()] == ["sandbox", "pulled"]


@pytest.mark.parametrize(
    ("answer", "told", "requests"),
    [
        pytest.param(Answer(status=500), "warning: the substituter", 1, id="500"),
        pytest.param(
            Answer(status=429, headers={"Retry-After": "5"}), "warning: the substituter", 1, id="429"
        ),
        pytest.param(Answer(is_silent=True), "warning: the substituter", 1, id="cut"),
        pytest.param(Answer(status=401), "is not there, or not for whoever asks", 1, id="401"),
        pytest.param(Answer(status=403), "is not there, or not for whoever asks", 1, id="403"),
        pytest.param(Answer(status=404), "", 1, id="404"),
    ],
)
def test_a_substituter_is_asked_once(
    project: Project, tmp_path: Path, answer: Answer, told: str, requests: int
) -> None:
    with Misbehaving() as server:
        tag = project.call("realize", "copier", "--json").json["tag"].rpartition(":")[2]
        path = f"/v2/x/copier/manifests/{tag}"
        server.answers |= {path: [answer], "/v2/": [Answer(b"{}")]}
        reader = Project(project.folder, tmp_path / "store", {"REPROBUILD_SUBSTITUTERS": f"{server.host}/x"})
        ended = reader.call("realize", "copier", "--json")
        assert statuses(ended) == ["built"] * 4
        assert [request.path for request in server.requests].count(path) == requests
    assert told in ended.err
    assert ("warning" in ended.err) == told.startswith("warning")


def test_offline_asks_nobody(project: Project, tmp_path: Path) -> None:
    with Misbehaving() as server:
        substituters = {"REPROBUILD_SUBSTITUTERS": f"{server.host}/x"}
        reader = Project(project.folder, tmp_path / "store", substituters)
        reader.call("realize", "copier", "--offline")
        assert server.requests == []


def test_checking_builds_twice_although_it_could_pull(shelf: Shelf, tmp_path: Path) -> None:
    reader = shelf.reader(tmp_path / "store")
    assert statuses(reader.call("realize", "copier", "--check", "--json")) == ["built"] * 4


def test_what_was_pulled_can_be_checked_by_building_it(shelf: Shelf, tmp_path: Path) -> None:
    reader = shelf.reader(tmp_path / "store")
    assert statuses(reader.call("realize", "copier", "--json")) == ["pulled"] * 4
    assert "built twice, and equal" in reader.call("realize", "copier", "--check").err


def test_two_at_once_pull_once(shelf: Shelf, tmp_path: Path) -> None:
    reader = shelf.reader(tmp_path / "store")
    running = [
        subprocess.Popen(
            reader.argv("realize", "copier", "--json"),
            cwd=reader.folder,
            env=reader.full_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in "ab"
    ]
    documents = [json.loads(one.communicate()[0]) for one in running]
    assert sorted(document["fetched_bytes"] > 0 for document in documents) == [False, True]


@pytest.mark.parametrize("name", ["docker.io", "oci-layout:x", "x/UP", "https://x.test/y", "a b", "-"])
def test_what_is_no_namespace_of_a_registry_is_told(project: Project, tmp_path: Path, name: str) -> None:
    plain = Project(project.folder, tmp_path / "store")
    ended = plain.call("realize", "copier", "--substituter", name, check=False)
    assert ended.code == 2
    assert f"error: the substituter {name!r}" in ended.err
