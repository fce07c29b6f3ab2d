"""Projects that publish to a registry of Docker's own, and what the registry has.

``shop`` shares its project, which is not to be changed; ``own_shop`` has one of the test's own. Knows
nothing of what a test does with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reprobuild import settings
from reprobuild.derivation.image_reference import RegistryReference, read_reference
from reprobuild.registry.repository import Repository
from tests.projects import Ended, Project, make_project, require_sandbox
from tests.servers import docker_registry, skopeo


@dataclass
class Shop:
    """A project, and a registry that it publishes to."""

    project: Project
    registry: str
    folder: Path
    """The registry's own."""

    def publish(self, *arguments: str, to: str = "me", check: bool = True, stdin: str | None = None) -> Ended:
        """Publish to a namespace."""
        where = f"{self.registry}/{to}"
        return self.project.call("publish", *arguments, "--to", where, check=check, stdin=stdin)

    def repository(self, to: str = "me", name: str = "copier") -> Repository:
        """Open a repository, to look into it."""
        reference = read_reference(f"{self.registry}/{to}/{name}")
        assert isinstance(reference, RegistryReference)
        return Repository(reference, settings.load({}, {"HOME": str(self.folder)}, str(self.folder)))

    def tags(self, to: str = "me", name: str = "copier") -> list[str]:
        """Give the tags of images; those that list referrers are left out."""
        folder = self.folder / f"data/docker/registry/v2/repositories/{to}/{name}/_manifests/tags"
        found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return [tag for tag in found if not tag.startswith("sha256-")]

    def files(self) -> dict[str, float]:
        """Give every file that the registry has, with the time of its last change."""
        return {str(path): path.stat().st_mtime for path in self.folder.glob("data/**/*") if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with an image, locked and realized."""
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("project"))
    project.call("lock", "copier")
    return project


@pytest.fixture
def shop(built: Project, tmp_path: Path) -> Iterator[Shop]:
    with docker_registry(tmp_path) as address:
        yield Shop(built, address, tmp_path)


@pytest.fixture
def own_shop(tmp_path: Path) -> Iterator[Shop]:
    """The same with a project of the test's own, to be changed."""
    require_sandbox(tmp_path / "trial")
    project = make_project(tmp_path / "project")
    project.call("lock", "copier")
    (tmp_path / "registry").mkdir()
    with docker_registry(tmp_path / "registry") as address:
        yield Shop(project, address, tmp_path / "registry")


def edit(project: Project, old: str, new: str) -> None:
    """Replace a text of the recipe that is there once."""
    recipe = project.recipe / "recipe.py"
    text = recipe.read_text()
    assert text.count(old) == 1, text
    recipe.write_text(text.replace(old, new))


def copy_tag(source: str, target: str) -> None:
    """Let a tag name what another one does."""
    tls = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    skopeo("copy", *tls, f"docker://{source}", f"docker://{target}")
