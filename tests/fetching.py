"""A recipe that fetches with busybox alone, from stand-ins for its servers; what its lock says of that.

Knows nothing of what goes wrong on the way: that is what tests do with it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.projects import Project, make_project, require_sandbox
from tests.sites.files import FileSite, Page
from tests.upstreams import Upstreams, upstreams

RECIPE = '''\
"""Fetches with busybox alone."""
from reprobuild import files, gdrive, hub, image, predictor, recipe, run, url

TEXT = {{"inputs": {{"text": str}}, "outputs": {{"text": str}}, "scope": "item"}}

@recipe(version="1.0")
def copier():
    return image(
        files("root", to="/"),
        {steps}
        workdir="/tmp",
        predictors={{
            "default": predictor("cp {{input}} {{output}}", **TEXT),
            {predictors}
        }},
    )
'''
SMALL, LARGE = b"a small file\n", os.urandom(2 << 20)


@dataclass(frozen=True)
class Scene:
    """A project that builds here, and the world that its commands see."""

    project: Project
    net: Upstreams
    site: FileSite
    """What answers for files.test."""


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Make one in a folder; the world ends with the context."""
    require_sandbox(folder / "trial")
    for name in ("net", "project"):
        (folder / name).mkdir()
    site = FileSite({"/small": Page(SMALL), "/large": Page(LARGE)})
    with upstreams(folder / "net") as net:
        net.add("files.test", site)
        project = replace(make_project(folder / "project"), environment=net.environment())
        yield Scene(project, net, site)


def write(project: Project, *steps: str, predictors: str = "") -> None:
    text = RECIPE.format(steps="\n        ".join(f"{step}," for step in steps), predictors=predictors)
    (project.recipe / "recipe.py").write_text(text)


def fetching(*paths: str, more: str = "", network: str = "recorded") -> str:
    """Give a step that fetches paths of files.test into /opt."""
    gets = " && ".join(f"wget -q -O /opt/{path} http://files.test/{path}" for path in paths)
    return f'run("mkdir -p /opt && {gets}"{more}, network="{network}")'


def locked(project: Project) -> Any:
    return json.loads(project.lock.read_text())


def exchanges(project: Project) -> dict[str, list[dict[str, Any]]]:
    """Give the pins of what is recorded, by key."""
    sources = locked(project)["sources"]
    return {key: one["pins"] for key, one in sources.items() if key.startswith(("run ", "predictor "))}


def image_id(project: Project) -> str:
    (output,) = locked(project)["outputs"]["linux/amd64"]
    return str(output["image"])


def recorded(project: Project) -> dict[str, bytes]:
    folder = project.recipe / "recorded"
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def elsewhere(project: Project, folder: Path) -> Project:
    """Give the same recipe with its lock in a new project with a new store, without the stand-ins."""
    folder.mkdir()
    (folder / "reprobuild.toml").touch()
    shutil.copytree(project.recipe, folder / "recipes" / "copier", symlinks=True)
    return Project(folder, folder / "store")
