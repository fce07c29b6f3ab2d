"""Small projects of recipes that build without a registry: busybox, placed by ``files``.

Knows nothing of what the tests do with them; the command line is run as a process of its own, as
users run it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprobuild.engine.sandbox import SandboxEngine
from reprobuild.store.store import Store
from tests.require import require
from tests.roots import busybox_root

SOURCE = Path(__file__).resolve().parent.parent
SECONDS = 300.0

RECIPE = '''\
"""Copies each text: made of busybox alone."""
from reprobuild import files, image, predictor, recipe, run, url

@recipe(version="1.0")
def copier(extra: str = ""):
    return image(
        files("root", to="/"),
        url("file:weights.bin", to="/opt/weights.bin"),
        files("src", to="/app"),
        run("mkdir /opt/made && cat /opt/weights.bin /app/word > /opt/made/both"),
        *([run(extra)] if extra else []),
        workdir="/app",
        predictors={
            "default": predictor(
                "cp {input} {output}",
                inputs={"text": str},
                outputs={"text": str},
                scope="item",
                examples=[({"text": "abc"}, {"text": "abc"})],
            ),
            "online": predictor(
                "wget -O {output} http://example.org/answer < {input}",
                inputs={"text": str},
                outputs={"text": str},
            ),
            "broken": predictor(
                "cp {input} {output}; echo something is wrong; exit 7",
                inputs={"text": str},
                outputs={"text": str},
            ),
        },
    )
'''


@dataclass(frozen=True)
class Ended:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout holds, as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Project:
    """A project folder with recipes, and a store."""

    folder: Path
    store: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    uid: int | None = None
    """Who calls, where root runs the tests; None: whoever does. The folder has to be theirs."""
    python: str = sys.executable
    path: str = str(SOURCE)
    """Where Python finds what is imported."""

    def call(self, *arguments: str, check: bool = True, stdin: str | None = None) -> Ended:
        """Run ``reprobuild`` in the project; with ``check``, any exit code but 0 fails the test."""
        ended = subprocess.run(
            self.argv(*arguments),
            cwd=self.folder,
            env=self.full_environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            user=self._other(),
            group=self._other(),
            extra_groups=None if self._other() is None else [],
        )
        assert not check or ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr, ended.stderr
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def argv(self, *arguments: str) -> list[str]:
        """Give the command line of a call."""
        return [self.python, "-m", "reprobuild", "--store", str(self.store), *arguments]

    def full_environment(self) -> dict[str, str]:
        """Give the environment of a call: the caller's, this source tree, and the project's own."""
        home = {} if self._other() is None else {"HOME": str(self.folder)}
        return {
            **os.environ,
            **home,
            "PYTHONPATH": self.path,
            "REPROBUILD_ALLOW_PRIVATE": "127.0.0.1 localhost ::1",
            **self.environment,
        }

    def _other(self) -> int | None:
        """Give the uid to become."""
        return None if self.uid in (None, os.geteuid()) else self.uid

    @property
    def recipe(self) -> Path:
        """The folder of the recipe ``copier``."""
        return self.folder / "recipes" / "copier"

    @property
    def lock(self) -> Path:
        """Its lock."""
        return self.recipe / "recipe.lock"

    def edit_lock(self, old: str, new: str) -> None:
        """Replace a text of the lock that is there once."""
        text = self.lock.read_text()
        assert text.count(old) == 1, text
        self.lock.write_text(text.replace(old, new))

    def blobs(self) -> list[Path]:
        """Give the files of all blobs."""
        return sorted(path for path in (self.store / "blobs").rglob("*") if path.is_file())


def require_sandbox(folder: Path) -> None:
    """Go on only where commands can be isolated; a store is made in the folder to try it."""
    store = Store.open(folder)
    isolation = SandboxEngine(Path(store.tmp), store.owner).probe()
    require("sandbox", isolation.missing)


def make_project(folder: Path) -> Project:
    """Make a project with the recipe ``copier``, not yet locked."""
    project = Project(folder, folder / "store")
    recipe = project.recipe
    (recipe / "src").mkdir(parents=True)
    busybox_root(recipe / "root")
    shutil.rmtree(recipe / "root-package", ignore_errors=True)
    shutil.rmtree(recipe / "root-package-debs", ignore_errors=True)
    (folder / "reprobuild.toml").write_text("")
    (recipe / "recipe.py").write_text(RECIPE)
    (recipe / "weights.bin").write_bytes(bytes(range(256)) * 1024)
    (recipe / "src" / "word").write_text("word\n")
    return project
