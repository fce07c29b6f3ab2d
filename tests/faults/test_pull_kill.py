"""Pulls that are killed: nothing counts, nothing that came is fetched twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.projects import Project, make_project, require_sandbox
from tests.servers import docker_registry

SIZE = 60_000_000


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, str, str]]:
    """A project whose image has a large layer, its substituter, and its tag there."""
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("project"))
    (project.recipe / "weights.bin").write_bytes(os.urandom(SIZE))
    project.call("lock", "copier")
    with docker_registry(tmp_path_factory.mktemp("registry")) as address:
        tag = project.call("publish", "copier", "--to", f"{address}/x", "--json").json["tag"]
        yield project, f"{address}/x", tag


def part(project: Project) -> int:
    """Give the bytes of downloads in the making."""
    folder = project.store / "tmp" / "partial"
    return sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_a_pull_that_is_killed_goes_on(
    shelf: tuple[Project, str, str], tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "reprobuild.toml").write_text("")
    project, tag = Project(tmp_path, tmp_path / "store"), shelf[2]
    with started(project, "pull", tag) as running:
        while part(project) < SIZE // 4:
            assert running.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        running.send_signal(number)
    assert running.returncode != 0
    assert project.call("list", "--json").json["images"] == []
    had = part(project)
    pulled = project.call("pull", tag, "--json").json
    assert had > 0
    assert pulled["fetched_bytes"] <= sum(layer["size"] for layer in pulled["layers"]) - had + 100_000
    assert part(project) == 0
    assert project.call("audit").code == 0


def test_a_realize_that_is_killed_while_it_pulls_goes_on(
    shelf: tuple[Project, str, str], tmp_path: Path
) -> None:
    built, substituter, _ = shelf
    project = Project(built.folder, tmp_path / "store", {"REPROBUILD_SUBSTITUTERS": substituter})
    with started(project, "realize", "copier") as running:
        while part(project) < SIZE // 4:
            assert running.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        running.kill()
    realized = project.call("realize", "copier", "--json").json
    assert "pulled" in {layer["status"] for layer in realized["layers"]}
    assert "built" not in {layer["status"] for layer in realized["layers"]}
    assert project.call("audit").code == 0
    records = [json.loads(path.read_bytes()) for path in (project.store / "realisations").glob("*.json")]
    assert [one["engine"] for one in records if one["kind"] == "image"] == ["pulled"]


def started(project: Project, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        project.argv(*arguments),
        cwd=project.folder,
        env=project.full_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
