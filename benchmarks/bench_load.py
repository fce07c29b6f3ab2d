"""A large image into a container daemon, beside ``docker load`` of the same image as an archive.

Once where the daemon has nothing of it, and once where it has all layers but the last. Knows nothing of how
the table is printed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.large_image import LARGE, NEWER, Project, size_text
from benchmarks.peers import docker
from benchmarks.table import Row, seconds_row
from benchmarks.timing import command, medians

ROUNDS = 3
PEER = "docker load, of an archive"


def rows() -> list[Row]:
    """Measure: seconds, less is better; and our memory at its peak."""
    with tempfile.TemporaryDirectory(prefix="reprobuild-bench-") as name:
        folder = Path(name)
        with docker(folder / "docker") as daemon:
            if daemon is None:
                print("left out: docker is not installed, or does not start here", file=sys.stderr)
                return []
            project = Project(folder / "project")
            host = {"DOCKER_HOST": daemon.host}
            tags = {name: project.tag(name) for name in (LARGE, NEWER)}
            ours = {name: project.run("load", name, env=host) for name in tags}
            theirs = {}
            for name in tags:
                archive = str(folder / f"{name}.tar")
                project.run("export", name, "--format", "docker", "--to", archive)()
                theirs[name] = command(daemon.argv("load", "--input", archive))

            def remove_large() -> None:
                daemon.remove(tags[LARGE])

            def remove_newer() -> None:
                daemon.remove(tags[NEWER])

            first = medians(
                {"ours": ours[LARGE], PEER: theirs[LARGE]},
                rounds=ROUNDS,
                before={"ours": remove_large, PEER: remove_large},
            )
            last = medians(
                {"ours": ours[NEWER], PEER: theirs[NEWER]},
                rounds=ROUNDS,
                before={"ours": remove_newer, PEER: remove_newer},
            )
            return [
                seconds_row(f"load of {size_text()} into a daemon", first),
                Row(f"load of {size_text()}: memory", ours[LARGE].peak, {}, "MB"),
                seconds_row(f"load of {size_text()}, all layers but one are there", last),
            ]
