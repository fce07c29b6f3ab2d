"""``realize`` with nothing to do, ``realize`` after a one-line change, ``predict`` of one new item.

Knows nothing of how the table is printed.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.peers import Docker, build_chain, docker, nix
from benchmarks.table import Row
from benchmarks.timing import Work, command, medians

ROOT = Path(__file__).resolve().parent.parent
HOST_PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
ROUNDS = 15
SLOW_ROUNDS = 5
RECIPE = "tutorial"
DOCKERFILE = f"""FROM {RECIPE}:bench
COPY run.py /app/run.py
RUN python3 -c pass
"""

SERVING = '''\
"""Reverses texts, for as long as it is spoken with."""

from reprobuild import apt, files, image, predictor, recipe


@recipe(version="1.0")
def serving():
    return image(
        apt("bookworm", "python3"),
        files("src/serve.py", to="/app/serve.py"),
        workdir="/app",
        predictors={
            "default": predictor(
                "exec python3 serve.py",
                inputs={"text": str},
                outputs={"output": str},
                scope="item",
                protocol="stream",
            ),
        },
    )
'''
SERVE = """\
import json, sys

for line in sys.stdin:
    record = json.loads(line)
    print(json.dumps({"_id": record["_id"], "output": record["text"][::-1]}), flush=True)
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

    def add(self, name: str, recipe: str, sources: Mapping[str, str]) -> None:
        """Add a recipe, and lock it."""
        folder = self.folder / "recipes" / name
        (folder / "src").mkdir(parents=True)
        (folder / "recipe.py").write_text(recipe)
        for source, text in sources.items():
            (folder / "src" / source).write_text(text)
        self.run("lock", name)()

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
    """One new item at a time, by each engine that there is; beside a container that does nothing, and
    beside the same program on the host."""
    from reprobuild import load

    container, host = "docker run python3 -c pass", "the program on the host"
    arguments = ("run", "--rm", "--network", "none", f"{RECIPE}:bench", "python3", "-c", "pass")
    numbers = itertools.count()
    works: dict[str, Work | None] = {container: None, host: _on_host(project, numbers)}
    answers: dict[str, Work | None] = {}
    engines = ["sandbox"]
    if daemon is not None:
        works[container] = command(daemon.argv(*arguments))
        project.env["DOCKER_HOST"] = daemon.host
        engines.append("docker")
    project.add("serving", SERVING, {"serve.py": SERVE})
    store, recipes = project.env["REPROBUILD_STORE"], project.folder / "recipes"
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, project.env))
        for engine in engines:
            works[f"{engine}, whole process"] = _whole(project, engine, numbers)
            for recipe, among in ((RECIPE, works), ("serving", answers)):
                model = load(recipe, engine=engine, store=store, recipes=recipes)
                among[f"{engine}, inside Python"] = _inside(stack.enter_context(model), numbers)
        answers[host] = _spoken_with(stack, project.folder / "recipes/serving/src/serve.py", numbers)
        found = medians(works, rounds=ROUNDS)
        answered = medians(answers, rounds=ROUNDS * 10)
    peers = {name: found.pop(name) for name in (container, host)}
    spoken = {host: answered.pop(host)}
    return [
        *(row(f"predict one new item: {name}", {"ours": ours, **peers}) for name, ours in found.items()),
        *(
            row(f"predict one new item, model loaded (stream): {name}", {"ours": ours, **spoken})
            for name, ours in answered.items()
        ),
    ]


def _on_host(project: Project, numbers: Iterator[int]) -> Work:
    """Run the command of the tutorial as its predictor does, without any sandbox."""
    given, taken = project.folder / "in.jsonl", project.folder / "out.jsonl"
    words = [HOST_PYTHON, str(project.recipe / "src/run.py"), "--input-file", str(given)]
    run = command(["/bin/sh", "-c", shlex.join([*words, "--output-file", str(taken)])])

    def predict() -> None:
        text = f"a new text {next(numbers)}"
        given.write_text(json.dumps({"text": text}) + "\n")
        run()
        assert json.loads(taken.read_text()) == {"output": text[::-1]}

    return predict


def _spoken_with(stack: ExitStack, program: Path, numbers: Iterator[int]) -> Work:
    """Speak with the program of a stream on the host, through pipes."""
    process = stack.enter_context(
        subprocess.Popen([HOST_PYTHON, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    )
    stack.callback(process.kill)

    def predict() -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        text = f"item {next(numbers)}"
        process.stdin.write(json.dumps({"_id": 0, "text": text}).encode() + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["output"] == text[::-1]

    return predict


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
