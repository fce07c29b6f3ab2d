"""``doctor`` and container daemons: which would be talked to and who named it, or why there is none."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.daemons import Docker
from tests.projects import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "reprobuild.toml").touch()
    return Project(tmp_path, tmp_path / "store")


def finding(project: Project, name: str, environment: dict[str, str]) -> dict[str, str]:
    """Give what doctor says of one thing; what else is missing here does not matter."""
    here = dataclasses.replace(project, environment=environment)
    (found,) = [
        one for one in here.call("doctor", "--json", check=False).json["findings"] if one["name"] == name
    ]
    assert isinstance(found, dict)
    return found


def test_the_daemon_is_shown_with_who_named_it(project: Project, daemon: Docker) -> None:
    found = finding(project, "docker", daemon.environment)
    assert found["status"] == "ok"
    version = json.loads(daemon("version", "--format", "{{json .Server}}"))["Version"]
    assert version in found["what"]
    assert f"{daemon.host} (of DOCKER_HOST), for linux/" in found["what"]


def test_the_context_is_named(project: Project, docker: Docker, tmp_path: Path) -> None:
    settings = {"DOCKER_CONFIG": str(tmp_path / "client")}
    client = dataclasses.replace(docker, access=settings)
    client("context", "create", "elsewhere", "--docker", f"host={docker.host}")
    by_context = {"DOCKER_HOST": "", "DOCKER_CONTEXT": "elsewhere", **settings}
    found = finding(project, "docker", by_context)
    assert f"{docker.host} (of the docker context 'elsewhere'), for linux/" in found["what"]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DOCKER_HOST": "unix:///nowhere/docker.sock"}, "nothing listens there"),
        ({"DOCKER_HOST": "", "DOCKER_CONTEXT": "lost"}, "there is no docker context 'lost'"),
    ],
    ids=["host", "context"],
)
def test_a_named_daemon_that_is_not_there_is_a_warning(
    project: Project, environment: dict[str, str], words: str
) -> None:
    found = finding(project, "docker", environment)
    assert (found["status"], words in found["what"]) == ("warn", True)
    assert found["mend"]


def test_a_daemon_that_is_asked_for_and_not_there_is_missing(project: Project) -> None:
    here = dataclasses.replace(project, environment={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    ended = here.call("--engine", "docker", "doctor", check=False)
    assert ended.code == 5
    assert any(line.split()[:2] == ["missing", "docker"] for line in ended.out.splitlines())
