"""``kill -9`` at random moments of ``realize`` and ``predict``; many processes at one recipe."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.projects import Ended, Project, make_project, require_sandbox

ROUNDS = int(os.environ.get("REPROBUILD_KILLS", "25"))
"""Kills of each verb; every one is followed by a whole run and, now and then, an audit."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("killed"))
    project.call("lock", "copier")
    return project


def start(project: Project, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        project.argv(*arguments),
        cwd=project.folder,
        env=project.full_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def duration(project: Project, *arguments: str) -> float:
    started = time.monotonic()
    project.call(*arguments)
    return time.monotonic() - started


def kill_somewhere(process: subprocess.Popen[bytes], within: float, moments: random.Random) -> None:
    time.sleep(moments.uniform(0, within))
    process.send_signal(signal.SIGKILL)
    process.wait(30)


def records(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def audit(project: Project) -> Ended:
    return project.call("audit", check=False)


def inside(folder: Path) -> list[str]:
    """Give the commands of processes that have a path of the store open as root or current folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mounts = (process / "mountinfo").read_text()
            if str(folder) in mounts and "overlay" in mounts:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended meanwhile
            continue
    return found


def nothing_inside(folder: Path) -> bool:
    """Tell whether all such processes end, in a generous time: what was killed last may take some."""
    deadline = time.monotonic() + 20
    while inside(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not inside(folder)


def test_realize_can_be_killed_at_any_moment(project: Project, tmp_path: Path) -> None:
    moments = random.Random(1)
    whole = Project(project.folder, tmp_path / "timing")
    within = duration(whole, "realize", "copier")
    image = whole.call("realize", "copier", "--json").json["image_id"]
    for number in range(ROUNDS):
        fresh = Project(project.folder, tmp_path / f"store-{number % 5}")
        kill_somewhere(start(fresh, "realize", "copier"), within, moments)
        if number % 5 == 4:
            for store in range(5):
                again = Project(project.folder, tmp_path / f"store-{store}")
                assert again.call("realize", "copier", "--json").json["image_id"] == image
                assert audit(again).code == 0, audit(again).err + audit(again).out
    assert nothing_inside(tmp_path), inside(tmp_path)


def test_predict_can_be_killed_at_any_moment(project: Project, tmp_path: Path) -> None:
    moments = random.Random(2)
    own = Project(project.folder, tmp_path / "store")
    own.call("realize", "copier")
    given, left = tmp_path / "in.jsonl", tmp_path / "out.jsonl"

    def arguments(number: int) -> list[str]:
        lines = (json.dumps({"text": f"{number} {index}"}) for index in range(3000))
        given.write_text("\n".join(lines) + "\n")
        return ["predict", "copier", "--input", str(given), "--output", str(left)]

    within = duration(own, *arguments(-1))
    for number in range(ROUNDS):
        left.unlink(missing_ok=True)
        argv = arguments(number)
        kill_somewhere(start(own, *argv), within, moments)
        if left.exists():
            assert left.read_text().count("\n") == 3000, "an output file is there whole or not at all"
        own.call(*argv)
        assert records(left) == records(given)
    assert audit(own).code == 0, audit(own).err + audit(own).out
    assert nothing_inside(tmp_path), inside(tmp_path)


def test_eight_at_once_build_once(project: Project, tmp_path: Path) -> None:
    fresh = Project(project.folder, tmp_path / "store")
    running = [
        subprocess.Popen(
            fresh.argv("realize", "copier", "--json"),
            cwd=fresh.folder,
            env=fresh.full_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(8)
    ]
    ended = [(process, *process.communicate(timeout=120)) for process in running]
    assert [process.returncode for process, _, _ in ended] == [0] * 8, [err for _, _, err in ended]
    answers = [json.loads(out) for _, out, _ in ended]
    assert len({answer["image_id"] for answer in answers}) == 1
    built = [answer for answer in answers if any(layer["status"] == "built" for layer in answer["layers"])]
    assert len(built) == 1


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_everything_inside(project: Project, tmp_path: Path, sent: signal.Signals) -> None:
    own = Project(project.folder, tmp_path / "store")
    own.call("realize", "copier")
    process = start(own, "lock", "copier", "--set", f"extra=sleep 1000 # {tmp_path.name}")
    try:
        deadline = time.monotonic() + 60
        # bubblewrap has the command in its arguments before it runs, and no mounts to be seen for a moment.
        while not (runs := [one for one in inside(tmp_path) if re.match(r"\S*(sh|sleep) ", one)]):
            assert time.monotonic() < deadline, "the command does not run"
            time.sleep(0.05)
        assert any("sleep" in command for command in runs)
        process.send_signal(sent)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while inside(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert nothing_inside(tmp_path), inside(tmp_path)
    assert audit(own).code == 0
