"""A project with a closure, and somebody without a network who gets it.

Knows nothing of what the tests do with the file.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from tests.projects import Project, make_project, require_sandbox

RECORDS = "".join(json.dumps({"text": f"record {number} ü"}) + "\n" for number in range(7))
IO = ("--input", "-", "--output", "-")
EVERYTHING = ("--with-sources", "--predictions")


def predicted_project(folder: Path) -> Project:
    """Make a project with a locked recipe and seven cached predictions."""
    require_sandbox(folder / "trial")
    (folder / "project").mkdir()
    project = make_project(folder / "project")
    project.call("lock", "copier")
    project.call("predict", "copier", *IO, stdin=RECORDS)
    return project


def written(project: Project, folder: Path) -> Path:
    """Write a closure with everything."""
    path = folder / "copier.tar"
    project.call("export", "copier", "--closure", str(path), *EVERYTHING)
    return path


def without_network(folder: Path) -> Project:
    """Give somebody with an empty store, no recipe and no network."""
    folder.mkdir()
    (folder / "reprobuild.toml").write_text("")
    return Project(folder, folder / "store", {"REPROBUILD_OFFLINE": "1"})


def cached(project: Project) -> dict[bytes, bytes]:
    """Give what the prediction cache has: key → sealed prediction."""
    path = project.store / "predictions" / "cache.db"
    if not path.exists():
        return {}
    with sqlite3.connect(path) as connection:
        found = dict(connection.execute("SELECT key, value FROM Cache").fetchall())
    connection.close()
    return found
