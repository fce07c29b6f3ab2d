"""The recipes of this repository in containers: the image IDs of the sandbox, whatever daemon there is.

And what is left in a daemon when calls are interrupted or killed: nothing.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reprobuild.derivation.lockfile import LOCK_FILE
from tests.daemons import Docker
from tests.projects import SOURCE, Project, require_sandbox
from tests.require import require

FOLDER = SOURCE / "recipes"
LOCKED = sorted(path.parent.name for path in FOLDER.glob(f"*/{LOCK_FILE}"))
IN_EACH = {
    "docker": LOCKED,
    "docker_over_tls": ["tutorial"],
    "podman": ["tutorial", "lin2004", "fratantonio2024"],
}
"""Recipes that are built in each kind of daemon: all in one; elsewhere those that show what it is."""
INTERRUPTED = {"docker": 20, "podman": 8}
"""Calls of which every second one is interrupted."""
KILLED = 6
RECORDS = '{"text": "abc"}\n{"text": "grüße"}\n'


@pytest.fixture(scope="module")
def sandboxed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with copies of the recipes and one store, which fetches, and builds in the sandbox."""
    folder = tmp_path_factory.mktemp("recipes")
    require_sandbox(folder / "store")
    shutil.copytree(FOLDER, folder / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "reprobuild.toml").touch()
    return Project(folder, folder / "store")


@pytest.fixture(scope="module")
def images(sandboxed: Project) -> dict[str, str]:
    """The image IDs of all locked recipes, built in the sandbox."""
    found = {}
    for recipe in LOCKED:
        ended = sandboxed.call("--engine", "sandbox", "realize", recipe, "--json", check=False)
        if ended.code == 5:
            require("registries", ended.err.strip().partition("\n")[0])
        assert ended.code == 0, ended.err
        found[recipe] = ended.json["image_id"]
    return found


@pytest.fixture(scope="module")
def sources(sandboxed: Project, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the recipes pin."""
    folder = tmp_path_factory.mktemp("sources")
    for recipe in images:
        sandboxed.call("export", recipe, "--sources", str(folder))
    return folder


@pytest.mark.parametrize(("daemon", "recipes"), IN_EACH.items(), indirect=["daemon"], ids=IN_EACH)
def test_recipes_are_the_same_images_in_containers(
    sandboxed: Project,
    images: dict[str, str],
    sources: Path,
    daemon: Docker,
    recipes: list[str],
    tmp_path: Path,
) -> None:
    # Nothing can be fetched, and nothing has been built: the pinned files alone are there.
    fresh = replace(sandboxed, store=tmp_path / "store", environment=daemon.environment)
    fresh.call("import", str(sources))
    before = left_in(daemon)
    for recipe in recipes:
        image_id = images[recipe]
        made = fresh.call("--engine", "docker", "--offline", "realize", recipe, "--json").json
        assert (made["engine"], made["image_id"]) == ("docker", image_id), recipe
    tested = fresh.call("--engine", "docker", "--offline", "test", "tutorial", "--json").json
    assert [one["problem"] for one in tested["examples"]] == [""] * len(tested["examples"])
    assert left_in(daemon) == before
    shutil.rmtree(tmp_path / "store")


@pytest.fixture
def small(sandboxed: Project, images: dict[str, str], docker: Docker) -> Project:
    """The project with all that ``tutorial`` needs in place, for calls that talk to a daemon."""
    here = replace(sandboxed, environment=docker.environment)
    here.call("--engine", "docker", "run", "tutorial", "--", "true")
    return here


CALLS = (
    ("run", "tutorial", "--", "sh", "-c", "echo begun && sleep 1 && echo done > /app/left"),
    ("predict", "tutorial", "--input", "-", "--output", "-", "--cache", "refresh"),
    ("realize", "tutorial"),
)


def left_in(daemon: Docker) -> tuple[str, str]:
    """Give the containers, running or not, and the volumes that a daemon has."""
    return daemon("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Image}}"), daemon(
        "volume", "ls", "--quiet"
    )


def started(project: Project, call: tuple[str, ...], store: Path) -> subprocess.Popen[str]:
    """Begin a call; a ``realize`` has an empty store to fill."""
    here = replace(project, store=store) if call[0] == "realize" else project
    process = subprocess.Popen(
        here.argv("--engine", "docker", *call),
        cwd=here.folder,
        env=here.full_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(RECORDS)
    process.stdin.close()
    process.stdin = None
    return process


@pytest.mark.parametrize(("daemon", "count"), INTERRUPTED.items(), indirect=["daemon"])
def test_interrupted_calls_leave_nothing_in_the_daemon(
    small: Project, daemon: Docker, count: int, tmp_path: Path
) -> None:
    here = replace(small, environment=daemon.environment)
    moments = random.Random(4)
    took = dict[str, float]()
    before = left_in(daemon)
    sources = tmp_path / "sources"
    here.call("export", "tutorial", "--sources", str(sources))
    for number in range(count):
        call = CALLS[number // 2 % len(CALLS)]
        store = tmp_path / f"store-{number}"
        if call[0] == "realize":
            replace(here, store=store).call("import", str(sources))
        begun = time.monotonic()
        process = started(here, call, store)
        if number % 2:
            time.sleep(moments.uniform(0.05, took[call[0]]))
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
        if not number % 2:
            took[call[0]] = time.monotonic() - begun
        # Where the interpreter itself has not started yet, it ends by the signal, in its own words.
        assert process.returncode in ((130, 0, -signal.SIGINT) if number % 2 else (0,)), err
        assert process.returncode < 0 or "Traceback" not in err, err
        shutil.rmtree(store, ignore_errors=True)
    assert left_in(daemon) == before


@pytest.mark.parametrize("daemon", ["docker", "podman"], indirect=True)
def test_what_killed_calls_leave_goes_with_the_next_call(
    small: Project, daemon: Docker, tmp_path: Path
) -> None:
    here = replace(small, environment=daemon.environment)
    moments = random.Random(5)
    before = left_in(daemon)
    begun = time.monotonic()
    here.call("--engine", "docker", *CALLS[0])
    took = time.monotonic() - begun
    for _ in range(KILLED):
        process = started(here, CALLS[0], tmp_path / "unused")
        time.sleep(moments.uniform(took / 4, took))
        process.kill()
        process.communicate(timeout=60)
    here.call("--engine", "docker", *CALLS[0])
    assert left_in(daemon) == before
