"""``load``: an image in a daemon under its tag and our ID, as little sent as can be, failures in words."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.daemons import Docker, docker_daemon
from tests.misbehaving import Answer, Misbehaving
from tests.projects import Project, make_project, require_sandbox
from tests.require import require
from tests.servers import short_folder

LARGE = "yes reproducible | head -c 60000000 > /opt/large"
"""A command whose layer does not fit a small disk."""
RECORDS = '{"text": "abc"}\n{"text": "grüße"}\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with three images that have the same lower layers."""
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("project"))
    for extra in ("", "echo more > /opt/more", LARGE):
        project.call("lock", "copier", "--set", f"extra={extra}")
        project.call("realize", "copier", "--set", f"extra={extra}")
    return project


def talking_to(project: Project, daemon: Docker) -> Project:
    return dataclasses.replace(project, environment=daemon.environment)


def listed(daemon: Docker) -> str:
    """Give the names and IDs of all images."""
    return daemon("image", "ls", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")


@contextmanager
def nothing_of_ours(daemon: Docker) -> Iterator[None]:
    """Take all images out of a daemon, before and after."""
    for _ in range(2):
        found = set(daemon("image", "ls", "--all", "--quiet").split())
        if found:
            daemon("image", "rm", "--force", *found)
        if _ == 0:
            yield


def predicted(daemon: Docker, tag: str) -> list[object]:
    """Run the default predictor by the image's own label, as somebody with Docker alone can."""
    labels = json.loads(daemon("image", "inspect", "--format", "{{json .Config.Labels}}", tag))
    command = json.loads(labels["org.reprobuild.predictors"])["default"]["command"]
    filled = f"cat > in; {command.format(input='in', output='out')} >&2; cat out"
    arguments = ["run", "--rm", "--interactive", "--network", "none", tag, "sh", "-c", filled]
    printed = daemon(*arguments, input=RECORDS.encode())
    return [json.loads(line) for line in printed.splitlines()]


def test_an_image_is_loaded_once_and_predicts_the_same(project: Project, daemon: Docker) -> None:
    here = talking_to(project, daemon)
    with nothing_of_ours(daemon):
        realised = here.call("realize", "copier", "--json").json
        first = here.call("load", "copier", "--json").json
        assert (first["tag"], first["image_id"]) == (realised["tag"], realised["image_id"])
        assert {layer["status"] for layer in first["layers"]} == {"sent"}
        assert first["sent_bytes"] > sum(layer["size"] for layer in first["layers"])
        assert [layer["diff_id"] for layer in first["layers"]] == [
            layer["diff_id"] for layer in realised["layers"]
        ]
        (found,) = json.loads(daemon("image", "inspect", first["tag"]))
        assert found["Id"].removeprefix("sha256:") == realised["image_id"].removeprefix("sha256:")
        again = here.call("load", "copier", "--json").json
        assert (again["sent_bytes"], {layer["status"] for layer in again["layers"]}) == (0, {"there"})
        ours = here.call("predict", "copier", "--input", "-", "--output", "-", stdin=RECORDS).out
        assert predicted(daemon, first["tag"]) == [json.loads(line) for line in ours.splitlines()]


def test_layers_that_the_daemon_has_are_not_sent(project: Project, daemon: Docker) -> None:
    here = talking_to(project, daemon)
    more = ("--set", "extra=echo more > /opt/more")
    with nothing_of_ours(daemon):
        here.call("load", "copier")
        ended = here.call("load", "copier", *more)
        assert "copier: 1 layer sent, 4 there already" in ended.err
        tag = here.call("realize", "copier", *more, "--json").json["tag"]
        seen = ("sh", "-c", "cat /opt/more && tail -c 5 /opt/made/both")
        assert daemon("run", "--rm", "--network", "none", tag, *seen) == "more\nword\n"
        daemon("image", "rm", tag)
        loaded = here.call("load", "copier", *more, "--json").json
        assert [layer["status"] for layer in loaded["layers"]] == ["there"] * 4 + ["sent"]


def test_an_image_is_found_by_its_tag_and_its_id(project: Project, docker: Docker) -> None:
    here = talking_to(project, docker)
    realised = here.call("realize", "copier", "--json").json
    with nothing_of_ours(docker):
        for name in (realised["tag"], realised["image_id"][7:17]):
            assert here.call("load", name, "--json").json["tag"] == realised["tag"]


def test_an_image_that_has_another_name_there_gets_ours_too(project: Project, daemon: Docker) -> None:
    here = talking_to(project, daemon)
    with nothing_of_ours(daemon):
        tag = here.call("load", "copier", "--json").json["tag"]
        daemon("tag", tag, "somebody/else:1")
        daemon("image", "rm", tag)
        assert "copier: nothing sent, the daemon has it" in here.call("load", "copier").err
        assert tag in listed(daemon) and "somebody/else:1" in listed(daemon)


def test_a_tag_that_names_another_image_there_is_ours_afterwards(project: Project, daemon: Docker) -> None:
    here = talking_to(project, daemon)
    with nothing_of_ours(daemon):
        realised = here.call("realize", "copier", "--json").json
        other = here.call("load", "copier", "--set", "extra=echo more > /opt/more", "--json").json
        daemon("tag", other["tag"], realised["tag"])
        ended = here.call("load", "copier")
        assert f"warning: {realised['tag']} named another image there" in ended.err
        found = daemon("image", "inspect", "--format", "{{.Id}}", realised["tag"]).strip()
        assert found.removeprefix("sha256:") == realised["image_id"].removeprefix("sha256:")


def test_no_daemon_is_said_in_words(project: Project, tmp_path: Path) -> None:
    here = dataclasses.replace(project, environment={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    ended = here.call("load", "copier", "--json", check=False)
    assert ended.code == 5
    assert ended.json["error"]["kind"] == "Engine"
    assert f"{tmp_path}/none.sock" in ended.json["error"]["message"]
    assert "DOCKER_HOST" in ended.err


def test_a_daemon_that_refuses_is_quoted(project: Project) -> None:
    version = {
        "Version": "28.0",
        "ApiVersion": "1.44",
        "MinAPIVersion": "1.24",
        "Os": "linux",
        "Arch": "amd64",
    }
    tag = project.call("realize", "copier", "--json").json["tag"]
    said = {"message": "authorization denied by plugin: no images"}
    with Misbehaving() as server:
        body = Answer(json.dumps(version).encode(), headers={"Content-Type": "application/json"})
        server.answers["/version"] = server.answers["/v1.44/version"] = [body]
        server.answers[f"/v1.44/images/{tag}/json"] = [Answer(json.dumps(said).encode(), status=403)]
        here = dataclasses.replace(project, environment={"DOCKER_HOST": f"tcp://{server.host}"})
        ended = here.call("load", "copier", check=False)
    assert ended.code == 5
    assert f"Docker 28.0, tcp://{server.host} refuses: {said['message']}" in ended.err


def test_a_full_disk_of_the_daemon_is_said_in_words(project: Project) -> None:
    require("root", "" if os.geteuid() == 0 else "the tests do not run as root")
    with short_folder() as folder:
        (folder / "data").mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder / "data")]
        require(
            "mount", "" if subprocess.run(mount, check=False).returncode == 0 else "nothing may be mounted"
        )
        with docker_daemon(folder) as docker:
            here = talking_to(project, docker)
            ended = here.call("load", "copier", "--set", f"extra={LARGE}", check=False)
            assert ended.code == 5
            assert "its disk is full" in ended.err and "no space left on device" in ended.err
            assert "hint: docker system prune" in ended.err
            assert listed(docker) == ""
            assert here.call("load", "copier", "--json").json["sent_bytes"]


@pytest.mark.parametrize("daemon", ["docker", "podman"], indirect=True)
def test_a_connection_that_is_cut_is_said_in_words(project: Project, daemon: Docker) -> None:
    with nothing_of_ours(daemon), short_folder() as folder:
        with relay(folder / "relay.sock", daemon.host.removeprefix("unix://"), cut_after=5_000_000) as host:
            here = dataclasses.replace(project, environment={**daemon.environment, "DOCKER_HOST": host})
            ended = here.call("load", "copier", "--set", f"extra={LARGE}", check=False)
        assert ended.code == 5
        assert "the connection was cut after " in ended.err and "hint: try again" in ended.err
        assert listed(daemon) == ""
        assert talking_to(project, daemon).call("load", "copier", "--json").json["sent_bytes"]


@contextmanager
def relay(path: Path, target: str, *, cut_after: int) -> Iterator[str]:
    """Pass on what comes to a socket; each connection ends after some bytes in its direction."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    pumps: list[threading.Thread] = []
    sockets = [listener]

    def pump(source: socket.socket, sink: socket.socket, most: int) -> None:
        with suppress(OSError):
            while most > 0 and (data := source.recv(min(65536, most))):
                sink.sendall(data)
                most -= len(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                taken, _ = listener.accept()
                behind = socket.socket(socket.AF_UNIX)
                sockets.extend((taken, behind))
                behind.connect(target)
                for ends in ((taken, behind, cut_after), (behind, taken, 2**62)):
                    pumps.append(threading.Thread(target=pump, args=ends))
                    pumps[-1].start()

    server = threading.Thread(target=serve)
    server.start()
    try:
        yield f"unix://{path}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        server.join()
        for one in pumps:
            one.join()
        for end in sockets:
            end.close()
