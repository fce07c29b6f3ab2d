"""However a command in a container ends, and whoever ends it, no container of ours is left in the daemon.

There are two: the command's, and its gateway's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprobuild.engine.docker.leftovers import STORE, shielded
from reprobuild.engine.protocol import Command, Result
from tests.daemons import Docker
from tests.gateways import AnsweringGateway
from tests.roots import busybox_root
from tests.sandboxes import PROJECT, docker_engine, layers_of

CALLER = """
import sys
from pathlib import Path
from reprobuild.engine.protocol import Command
from tests.gateways import AnsweringGateway
from tests.sandboxes import docker_engine, layers_of

engine = docker_engine(Path(sys.argv[1]), (("DOCKER_HOST", sys.argv[3]),))
with engine.ground(layers_of([Path(sys.argv[2])], engine.store)) as ground:
    print("ready", flush=True)
    command = Command(("/bin/sh", "-c", "wget -q -O - http://1.2.3.4/; echo begun; sleep 1000"))
    engine.run(ground, command, gateway=AnsweringGateway(), output=lambda _: print("begun", flush=True))
"""

MOMENTS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.4, 1.0)
"""Seconds after the tree is there: before, in and after the making and the start of the container."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return busybox_root(tmp_path_factory.mktemp("busybox") / "root")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, since what gateways run is fetched once for each."""
    return tmp_path_factory.mktemp("docker-ends") / "store"


@pytest.fixture(params=["docker", "podman"])
def scene(request: pytest.FixtureRequest, store: Path, root: Path) -> Iterator[Scene]:
    docker: Docker = request.getfixturevalue(request.param)
    before = docker("ps", "--all", "--quiet")
    scene = Scene(docker, store, root)
    assert scene.run("true") == 0  # so that all trees are there
    yield scene
    assert docker("ps", "--all", "--quiet") == before
    assert docker("volume", "ls", "--quiet") == ""


class Scene:
    def __init__(self, docker: Docker, store: Path, root: Path) -> None:
        self.docker = docker
        self.store = store
        self.root = root

    def call(self) -> subprocess.Popen[str]:
        """Start a process that runs a long command in a container, and wait until the tree is there."""
        caller = subprocess.Popen(
            [sys.executable, "-c", CALLER, str(self.store), str(self.root), self.docker.host],
            env={**os.environ, **self.docker.environment, "PYTHONPATH": str(PROJECT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert caller.stdout is not None
        assert caller.stdout.readline() == "ready\n"
        return caller

    def run(self, text: str) -> int:
        return self.perform(Command(("/bin/sh", "-c", text))).exit_code

    def perform(self, command: Command) -> Result:
        docker_engine.cache_clear()  # what another process left is looked for when an engine begins
        engine = docker_engine(self.store, (("DOCKER_HOST", self.docker.host),))
        with engine.ground(layers_of([self.root], engine.store)) as ground:
            return engine.run(ground, command, gateway=AnsweringGateway())


def ended(caller: subprocess.Popen[str]) -> str:
    """Wait for a caller's end; give what it said."""
    _, said = caller.communicate(timeout=60)
    return said


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_at_any_moment_leaves_nothing(scene: Scene, moment: float) -> None:
    caller = scene.call()
    time.sleep(moment)
    caller.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in ended(caller)


def test_what_a_killed_process_left_is_taken_away_by_the_next(scene: Scene) -> None:
    caller = scene.call()
    assert caller.stdout is not None
    assert caller.stdout.readline() == "begun\n"
    caller.kill()
    ended(caller)
    assert scene.docker("ps", "--quiet") != ""
    assert scene.run("exit 3") == 3


def test_what_a_living_process_has_is_left_alone(scene: Scene) -> None:
    caller = scene.call()
    assert caller.stdout is not None
    assert caller.stdout.readline() == "begun\n"
    try:
        assert scene.run("exit 4") == 4
        assert scene.docker("ps", "--quiet") != ""
        assert caller.poll() is None
    finally:
        caller.send_signal(signal.SIGINT)
        ended(caller)


def test_containers_of_others_are_left_alone(scene: Scene) -> None:
    scene.run("true")
    image = scene.docker("images", "--quiet", "reprobuild/tree").split()[0]
    theirs = scene.docker("create", "--label", f"{STORE}=another", "--network", "none", image, "true").strip()
    try:
        assert scene.run("exit 5") == 5
        assert theirs.startswith(scene.docker("ps", "--all", "--quiet").strip())
    finally:
        scene.docker("rm", theirs)


def test_failures_and_time_limits_leave_nothing(scene: Scene) -> None:
    assert scene.run("exit 6") == 6
    result = scene.perform(Command(("/bin/sleep", "1000"), timeout=0.5))
    assert (result.timed_out, result.exit_code) == (True, 137)


def test_shielded_work_goes_on_to_its_end() -> None:
    done = []

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        done.append(True)

    with pytest.raises(KeyboardInterrupt):
        shielded(work)
    assert done == [True]
