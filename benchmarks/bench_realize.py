"""``realize`` with nothing to do, ``realize`` after a one-line change, ``predict`` of one new item.

Knows nothing of how the table is printed.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.peers import Docker, build_chain, docker, nix
from benchmarks.table import Row
from benchmarks.timing import Work, command, medians

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 15
SLOW_ROUNDS = 5
RECIPE = "tutorial"
DOCKERFILE = f"""FROM {RECIPE}:bench
COPY run.py /app/run.py
RUN python3 -c pass
"""


def rows() -> list[Row]:
    """Measure: seconds, less is better."""
    with tempfile.TemporaryDirectory(prefix="reprobuild-bench-") as name:
        folder = Path(name)
        project = Project(folder / "project")
        with docker(folder / "docker") as daemon, loaded(project, daemon, folder):
            return [*_realize(project, daemon, folder), *_predict(project, daemon)]


class Project:
    """A project of our own with the tutorial in it, and the store of this repository's recipes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = folder / "recipes" / RECIPE
        shutil.copytree(ROOT / "recipes" / RECIPE, self.recipe)
        store = folder / "store"
        (folder / "reprobuild.toml").touch()
        script = Path(sys.executable).parent / "reprobuild"
        self.reprobuild = [str(script)] if script.exists() else [sys.executable, "-m", "reprobuild"]
        self.env = {**os.environ, "REPROBUILD_STORE": str(store), "PYTHONPATH": str(ROOT)}
        self.run("realize", RECIPE)()

    def run(self, *arguments: str, stdin: str = "") -> Work:
        """Give the command line as work."""
        return command([*self.reprobuild, *arguments], env=self.env, cwd=str(self.folder), stdin=stdin)


@contextmanager
def loaded(project: Project, daemon: Docker | None, folder: Path) -> Iterator[None]:
    """Give the daemon the tutorial's image, under a name to build on."""
    if daemon is not None:
        archive = folder / "image.tar"
        project.run("export", RECIPE, "--to", str(archive), "--format", "docker")()
        name = daemon.run("load", "--input", str(archive)).rpartition("Loaded image: ")[2].strip()
        daemon.run("tag", name, f"{RECIPE}:bench")
        (folder / "context").mkdir()
        (folder / "context" / "Dockerfile").write_text(DOCKERFILE)
        shutil.copy(project.recipe / "src" / "run.py", folder / "context" / "run.py")
    yield


def _realize(project: Project, daemon: Docker | None, folder: Path) -> list[Row]:
    nothing = command([sys.executable, "-c", "pass"])
    build = None if daemon is None else command(daemon.argv("build", "-q", str(folder / "context")))
    found = nix(folder / "nix")
    chain = None if found is None else command(build_chain(found, folder), env=found.env)
    warm = medians(
        {
            "ours": project.run("realize", RECIPE),
            "python3 -c pass": nothing,
            "docker build, cached": build,
            "nix-build, finished": chain,
        },
        rounds=ROUNDS,
    )
    count = 0

    def edit(path: Path) -> Work:
        def write() -> None:
            nonlocal count
            count += 1
            with path.open("a") as file:
                file.write(f"# {count}\n")

        return write

    edits = {
        "ours": edit(project.recipe / "src" / "run.py"),
        "docker build": edit(folder / "context" / "run.py"),
    }
    changed = medians(
        {"ours": project.run("realize", RECIPE), "docker build": build}, rounds=SLOW_ROUNDS, before=edits
    )
    return [
        row("realize, nothing to do", warm),
        row("realize after a one-line change of src/run.py", changed),
    ]


def _predict(project: Project, daemon: Docker | None) -> list[Row]:
    """One new item at a time, by each engine that there is, and a container that does nothing."""
    from reprobuild import load

    peer = "docker run python3 -c pass"
    arguments = ("run", "--rm", "--network", "none", f"{RECIPE}:bench", "python3", "-c", "pass")
    works: dict[str, Work | None] = {peer: None}
    engines = ["sandbox"]
    if daemon is not None:
        works[peer] = command(daemon.argv(*arguments))
        project.env["DOCKER_HOST"] = daemon.host
        engines.append("docker")
    numbers = itertools.count()
    store, recipes = project.env["REPROBUILD_STORE"], project.folder / "recipes"
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, project.env))
        for engine in engines:
            works[f"{engine}, whole process"] = _whole(project, engine, numbers)
            model = stack.enter_context(load(RECIPE, engine=engine, store=store, recipes=recipes))
            works[f"{engine}, inside Python"] = _inside(model, numbers)
        found = medians(works, rounds=SLOW_ROUNDS)
    container = found.pop(peer)
    return [
        row(f"predict one new item: {name}", {"ours": ours, peer: container}) for name, ours in found.items()
    ]


def _whole(project: Project, engine: str, numbers: Iterator[int]) -> Work:
    def predict() -> None:
        record = json.dumps({"text": f"a new text {next(numbers)}"})
        arguments = ("predict", RECIPE, "--engine", engine, "--input", "-", "--output", "-")
        project.run(*arguments, stdin=record)()

    return predict


def _inside(model: Any, numbers: Iterator[int]) -> Work:
    def predict() -> None:
        text = f"item {next(numbers)}"
        assert model.predict(text=text) == text[::-1]

    return predict


def row(name: str, seconds: dict[str, float | None]) -> Row:
    """Give a row in milliseconds."""
    shown = {peer: None if found is None else found * 1000 for peer, found in seconds.items()}
    ours = shown.pop("ours")
    assert ours is not None
    return Row(name, ours, shown, "ms")
