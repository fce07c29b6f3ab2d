"""``realize --check`` where there are both engines: the second build is the other's."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from tests.daemons import Docker
from tests.misbehaving import Answer, Misbehaving
from tests.projects import Project, make_project, require_sandbox

CLOCK = "cat /proc/uptime > /opt/clock"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("checked"))
    project.call("lock", "copier")
    return project


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("sandbox", r"other engine, docker \(.+\); other store, file system"),
        ("docker", r"other engine, sandbox \(bubblewrap .+\); other store, file system"),
    ],
)
def test_the_second_build_is_the_other_engines(
    project: Project, daemon: Docker, first: str, told: str
) -> None:
    here = dataclasses.replace(project, environment=daemon.environment)
    before = daemon("ps", "--all", "--quiet"), daemon("volume", "ls", "--quiet")
    ended = here.call("--engine", first, "realize", "copier", "--check")
    assert re.search(f"note: building again from nothing: {told}", ended.err)
    assert "copier: built twice, and equal" in ended.err
    assert (daemon("ps", "--all", "--quiet"), daemon("volume", "ls", "--quiet")) == before


def test_differences_between_engines_are_shown_file_by_file(project: Project, docker: Docker) -> None:
    here = dataclasses.replace(project, environment=docker.environment)
    here.call("lock", "copier", "--set", f"extra={CLOCK}")
    ended = here.call("realize", "copier", "--set", f"extra={CLOCK}", "--check", check=False)
    assert ended.code == 4
    assert "copier: built twice, and 1 path differs" in ended.err
    assert re.search(r"  step run cat /proc/uptime > /opt/clock:\n    /opt/clock: content", ended.err)


def test_an_engine_that_cannot_make_the_second_build_is_named(project: Project) -> None:
    version = {
        "Version": "28.0",
        "ApiVersion": "1.44",
        "MinAPIVersion": "1.24",
        "Os": "linux",
        "Arch": "amd64",
    }
    info = {
        "SecurityOptions": ["name=seccomp,profile=builtin"],
        "MemoryLimit": True,
        "InitBinary": "docker-init",
    }
    with Misbehaving() as server:
        for path, answer in (("/version", version), ("/v1.44/version", version), ("/v1.44/info", info)):
            body = json.dumps(answer).encode()
            server.answers[path] = [Answer(body, headers={"Content-Type": "application/json"})]
        here = dataclasses.replace(project, environment={"DOCKER_HOST": f"tcp://{server.host}"})
        ended = here.call("--engine", "sandbox", "realize", "copier", "--check")
    assert "warning: the other engine cannot make the second build" in ended.err
    assert "note: building again from nothing: other store, file system" in ended.err
    assert "copier: built twice, and equal" in ended.err
