"""However a process ends that has loaded a model, nothing inside outlives it.

Neither a process of protocol ``stream``, nor a run of protocol ``files`` that waits for its records.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemons import Docker
from tests.faults.test_sandbox_ends import wait_until
from tests.projects import Project, require_sandbox
from tests.streamed import make_streamed

CALLER = """
import os, sys, time
from reprobuild import load

model = load(f"copier/{sys.argv[5]}", cache="off", store=sys.argv[1], engine=sys.argv[4])
for text in ("first", "second"):
    assert model.predict(text=text, marker=sys.argv[2]) == text
if sys.argv[3] == "forked" and not os.fork():
    print(os.getpid(), flush=True)
    time.sleep(1000)
if sys.argv[3] != "forked":
    print("begun", flush=True)
if sys.argv[3] == "busy":
    model.predict(text="hang", marker=sys.argv[2])
if sys.argv[3] != "over":
    time.sleep(1000)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_streamed(tmp_path_factory.mktemp("streamed"))
    project.call("predict", "copier", "--input", "-", "--output", "-", stdin='{"text":"a"}\n')
    return project


@contextmanager
def caller(
    project: Project, marker: str, how: str, *, engine: str = "sandbox", predictor: str = "marked"
) -> Iterator[tuple[subprocess.Popen[bytes], bytes]]:
    """Start a process that predicts with a model, and is about to do something else; give what it says."""
    argv = [project.python, "-c", CALLER, str(project.store), marker, how, engine, predictor]
    environment = project.full_environment()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=project.folder, env=environment) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said
            yield process, said
        finally:
            process.kill()


def inside(marker: str) -> list[str]:
    """Give the processes that serve, or wait to run a command, by the marker among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            serves = words[:2] == [b"sh", b"serve.sh"] and marker.encode() in words
            if serves or any(f": {marker};".encode() in word for word in words):
                found.append(entry.name)
    return found


def scratch(project: Project) -> list[str]:
    return [path.name for path in (project.store / "tmp").glob("command-*") if path.is_dir()]


@pytest.mark.parametrize("predictor, how", [("marked", "idle"), ("marked", "busy"), ("once", "idle")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_a_signal_ends_what_is_inside(
    made: Project, predictor: str, how: str, number: signal.Signals
) -> None:
    marker = f"{predictor}-{how}-{number.name}-{os.getpid()}"
    with caller(made, marker, how, predictor=predictor) as (process, _):
        assert wait_until(lambda: bool(inside(marker)))
        process.send_signal(number)
        assert process.wait(timeout=60) == -number
        assert wait_until(lambda: not inside(marker))
        if number == signal.SIGINT:
            assert scratch(made) == []
    made.call("predict", "copier", "--input", "-", "--output", "-", "--cache", "off", stdin='{"text":"a"}\n')
    assert scratch(made) == []


@pytest.mark.parametrize("predictor", ["marked", "once"])
def test_the_end_of_the_caller_ends_what_is_inside(made: Project, predictor: str) -> None:
    marker = f"over-{predictor}-{os.getpid()}"
    with caller(made, marker, "over", predictor=predictor) as (process, _):
        assert process.wait(timeout=60) == 0
    assert inside(marker) == []
    assert scratch(made) == []


@pytest.mark.parametrize("predictor", ["marked", "once"])
def test_a_process_that_was_forked_off_keeps_nothing_alive(made: Project, predictor: str) -> None:
    marker = f"forked-{predictor}-{os.getpid()}"
    with caller(made, marker, "forked", predictor=predictor) as (process, said):
        try:
            assert wait_until(lambda: bool(inside(marker)))
            process.kill()
            process.wait()
            assert wait_until(lambda: not inside(marker))
            os.kill(int(said), 0)  # it is there, and is no reason
        finally:
            os.kill(int(said), signal.SIGKILL)


@pytest.mark.parametrize("predictor, how", [("marked", "idle"), ("marked", "busy"), ("once", "idle")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_container_is_left(
    made: Project, docker: Docker, predictor: str, how: str, number: signal.Signals
) -> None:
    project = Project(made.folder, made.store, docker.environment)
    with caller(project, "container", how, engine="docker", predictor=predictor) as (process, _):
        process.send_signal(number)
        assert process.wait(timeout=60) == -number
    if number == signal.SIGKILL:  # the next command looks after what was left
        project.call("--engine", "docker", "run", "copier", "--", "true")
    assert docker("ps", "--all", "--quiet") == ""
