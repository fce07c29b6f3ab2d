"""Which daemon is meant: the environment, docker contexts, the usual sockets; and what goes wrong there."""

import hashlib
import json
from pathlib import Path

import pytest

from reprobuild.engine.docker.context import Endpoint, chosen, usual
from reprobuild.engine.docker.daemon import connect
from reprobuild.errors import EngineError


def add_context(folder: Path, name: str, endpoint: dict[str, object], *, tls: bool = False) -> None:
    key = hashlib.sha256(name.encode()).hexdigest()
    meta = folder / "contexts" / "meta" / key
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": endpoint}}))
    if tls:
        (folder / "contexts" / "tls" / key / "docker").mkdir(parents=True)


def test_docker_host_comes_first(tmp_path: Path) -> None:
    add_context(tmp_path, "far", {"Host": "tcp://far:2376"})
    environment = {"DOCKER_HOST": "tcp://near:2375", "DOCKER_CONTEXT": "far", "DOCKER_CONFIG": str(tmp_path)}
    assert chosen(environment) == Endpoint("tcp://near:2375", "DOCKER_HOST", "", False)


def test_docker_host_with_certificates(tmp_path: Path) -> None:
    environment = {"DOCKER_HOST": "tcp://near:2376", "DOCKER_TLS_VERIFY": "1", "HOME": str(tmp_path)}
    assert chosen(environment) == Endpoint("tcp://near:2376", "DOCKER_HOST", f"{tmp_path}/.docker", True)
    environment["DOCKER_CERT_PATH"] = "/certs"
    found = chosen(environment)
    assert found is not None
    assert found.certificates == "/certs"


@pytest.mark.parametrize("by", ["environment", "file"])
def test_a_context(tmp_path: Path, by: str) -> None:
    add_context(tmp_path, "far", {"Host": "tcp://far:2376", "SkipTLSVerify": True}, tls=True)
    environment = {"DOCKER_CONFIG": str(tmp_path)}
    if by == "environment":
        environment["DOCKER_CONTEXT"] = "far"
    else:
        (tmp_path / "config.json").write_text('{"currentContext": "far"}')
    found = chosen(environment)
    key = hashlib.sha256(b"far").hexdigest()
    certificates = f"{tmp_path}/contexts/tls/{key}/docker"
    assert found == Endpoint("tcp://far:2376", "the docker context 'far'", certificates, False)


@pytest.mark.parametrize("said", ['{"currentContext": "default"}', '{"currentContext": ""}', "{}", "[]"])
def test_no_choice(tmp_path: Path, said: str) -> None:
    (tmp_path / "config.json").write_text(said)
    assert chosen({"DOCKER_CONFIG": str(tmp_path)}) is None
    assert chosen({"HOME": str(tmp_path)}) is None


@pytest.mark.parametrize(
    ("context", "config", "message"),
    [
        ("gone", "{}", "no docker context 'gone'"),
        ("", "{nonsense", "config.json"),
        ("hostless", "{}", "'hostless' names no host"),
    ],
)
def test_a_choice_that_cannot_be_followed(tmp_path: Path, context: str, config: str, message: str) -> None:
    add_context(tmp_path, "hostless", {})
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(EngineError, match=message) as caught:
        chosen({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": context})
    assert caught.value.hint


def test_the_users_own_sockets_are_usual_too(tmp_path: Path) -> None:
    assert f"{tmp_path}/podman/podman.sock" in usual({"XDG_RUNTIME_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("unix:///no/such.sock", "unix:///no/such.sock .of DOCKER_HOST. does not answer: nothing listens"),
        ("tcp://127.0.0.1:1", "nothing listens"),
        ("smoke://signals", "Invalid bind address protocol"),
        ("ssh://", "ssh://USER@HOST"),
        ("ssh://me:secret@host", "ssh://USER@HOST"),
    ],
)
def test_a_daemon_that_does_not_answer(host: str, message: str) -> None:
    with pytest.raises(EngineError, match=message) as caught:
        connect({"DOCKER_HOST": host})
    assert caught.value.hint
    assert "secret" not in str(caught.value)
