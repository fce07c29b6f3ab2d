"""Push and pull of a large image, to and from a registry on loopback, beside docker and skopeo.

Everyone pushes the same image: docker out of its daemon, skopeo out of an OCI layout; and everyone pulls
what reprobuild has pushed. What reprobuild and docker have pulled is unpacked, checked, and can be run;
skopeo copies the compressed layers as they are. Knows nothing of how the table is printed.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.large_image import LARGE, Project, size_text
from benchmarks.peers import Docker, docker
from benchmarks.table import Row, seconds_row
from benchmarks.timing import Watched, Work, command, medians
from tests.require import find_program
from tests.servers import docker_registry

ROUNDS = 3
QUICK_ROUNDS = 9
DOCKER, SKOPEO, SKOPEO_PULL = "docker push", "skopeo copy", "skopeo copy, to an OCI layout"


def rows() -> list[Row]:
    """Measure: seconds, less is better; and our memory at its peak."""
    if find_program("docker-registry") is None:
        print("left out: docker-registry is not installed", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="reprobuild-bench-") as name:
        folder = Path(name)
        project = Project(folder / "project")
        with docker(folder / "docker") as daemon, docker_registry(folder) as address:
            scene = Scene(folder, project, daemon, address, find_program("skopeo"))
            return [*push_rows(scene), *pull_rows(scene)]


@dataclass
class Scene:
    """The image, a registry, and who pushes to it."""

    folder: Path
    project: Project
    daemon: Docker | None
    address: str
    skopeo: Path | None

    def __post_init__(self) -> None:
        self.tag = self.project.tag(LARGE).rpartition("/")[2]
        self.store = self.folder / "pushing"
        self.empty = self.folder / "pulling"
        self.layout = self.folder / "layout"
        self.copied = self.folder / "copied"

    def published(self, by: str) -> str:
        """Give what the image is called in the registry; ``by``: whose repository."""
        return f"{self.address}/{by}/{self.tag}"

    def publish(self) -> Watched:
        """Push by reprobuild."""
        return self.project.run("publish", LARGE, "--to", f"{self.address}/ours", store=self.store)

    def pull(self) -> Watched:
        """Pull by reprobuild, into an empty store."""
        return self.project.run("pull", self.published("ours"), store=self.empty)

    def copy(self, source: str, destination: str) -> Work | None:
        """Give skopeo's command."""
        if self.skopeo is None:
            return None
        plain = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        return command([str(self.skopeo), "copy", "--insecure-policy", *plain, source, destination])

    def clear_registry(self) -> None:
        """Make the registry forget all that it has."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def forget_pushing(self) -> None:
        """Give a store that has the image and has never pushed it."""
        shutil.rmtree(self.store, ignore_errors=True)
        self.project.copy_store(self.store)


def push_rows(scene: Scene) -> list[Row]:
    """Measure the first push into an empty registry, and one with nothing to do."""
    ours, works = scene.publish(), {}
    works[DOCKER] = _prepare_docker(scene)
    scene.project.run("export", LARGE, "--format", "oci-dir", "--to", str(scene.layout))()
    works[SKOPEO] = scene.copy(f"oci:{scene.layout}", f"docker://{scene.published('skopeo')}")
    all_works = {"ours": ours, **works}

    def anew(*further: Callable[[], None]) -> Work:
        def work() -> None:
            for one in (scene.clear_registry, *further):
                one()

        return work

    before = {"ours": anew(scene.forget_pushing), DOCKER: anew(), SKOPEO: anew()}
    first = medians(all_works, rounds=ROUNDS, before=before)
    memory = ours.peak
    scene.clear_registry()
    scene.forget_pushing()
    for work in filter(None, all_works.values()):
        work()
    second = medians(all_works, rounds=QUICK_ROUNDS)
    name = f"push of {size_text()}"
    return [
        seconds_row(f"{name}, first", first),
        Row(f"{name}, first: memory", memory, {}, "MB"),
        seconds_row(f"{name}, nothing to do", second),
    ]


def _prepare_docker(scene: Scene) -> Work | None:
    """Give docker the image, under its name in the registry; give what pushes it."""
    if scene.daemon is None:
        return None
    name = scene.published("docker")
    host = {"DOCKER_HOST": scene.daemon.host}
    scene.project.run("load", LARGE, env=host)()
    scene.daemon.run("tag", scene.project.tag(LARGE), name)
    return command(scene.daemon.argv("push", name))


def pull_rows(scene: Scene) -> list[Row]:
    """Measure pulling what has been pushed, to where nothing of it is."""
    name, ours = scene.published("ours"), scene.pull()
    works: dict[str, Work | None] = {"ours": ours, "docker pull": None}
    before: dict[str, Work] = {
        "ours": lambda: shutil.rmtree(scene.empty, ignore_errors=True),
        SKOPEO_PULL: lambda: shutil.rmtree(scene.copied, ignore_errors=True),
    }
    if scene.daemon is not None:
        daemon = scene.daemon
        daemon.remove(scene.project.tag(LARGE), scene.published("docker"))
        works["docker pull"] = command(daemon.argv("pull", name))
        before["docker pull"] = lambda: daemon.remove(name)
    works[SKOPEO_PULL] = scene.copy(f"docker://{name}", f"oci:{scene.copied}:{LARGE}")
    shown = f"pull of {size_text()}"
    return [
        seconds_row(shown, medians(works, rounds=ROUNDS, before=before)),
        Row(f"{shown}: memory", ours.peak, {}, "MB"),
    ]
