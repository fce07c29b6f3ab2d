"""``gc`` and container daemons: trees of this store go when nothing needs them, and nothing else does."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.store.store import Store
from tests.daemons import Docker
from tests.projects import Project, make_project, require_sandbox

TREES = [Digest.of(name) for name in (b"one", b"two")]


@pytest.fixture
def project(tmp_path: Path, daemon: Docker) -> Project:
    (tmp_path / "reprobuild.toml").touch()
    return Project(tmp_path, tmp_path / "store", daemon.environment)


@pytest.fixture
def kept(project: Project, daemon: Docker) -> Iterator[list[str]]:
    """Images of two trees that the store keeps in the daemon, and one that it does not know of."""
    store = Store.open(project.store)
    prefix = "localhost/" if daemon.is_podman else ""
    names = [f"{prefix}reprobuild/tree:{tree.hex}" for tree in TREES]
    for tree, name in zip(TREES, names, strict=True):
        import_image(daemon, name)
        store.daemons.use(daemon.host, tree, [tree])
    names.append("reprobuild/tree:of-somebody-else")
    import_image(daemon, names[-1])
    yield names
    for name in set(names) & listed(daemon):
        daemon("image", "rm", "--force", name)


def import_image(daemon: Docker, name: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo(name.rpartition(":")[2])
        member.size = 1000
        archive.addfile(member, io.BytesIO(bytes(1000)))
    daemon("import", "-", name, input=out.getvalue())


def listed(daemon: Docker) -> set[str]:
    printed = daemon("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    return {name.removeprefix("docker.io/") for name in printed}


def test_trees_that_nothing_needs_are_removed(project: Project, daemon: Docker, kept: list[str]) -> None:
    planned = project.call("gc", "--grace", "0", "--dry-run")
    assert all(f"{name.removeprefix('localhost/')} in {daemon.host}" in planned.out for name in kept[:2])
    assert set(kept) <= listed(daemon)
    assert "2 trees gone from container daemons" in project.call("gc", "--grace", "0").out
    assert listed(daemon) & set(kept) == {kept[2]}
    assert list(Store.open(project.store).daemons) == []
    assert "daemon" not in project.call("gc", "--grace", "0").out


def test_what_is_young_or_used_by_a_container_stays(
    project: Project, daemon: Docker, kept: list[str]
) -> None:
    assert "tree" not in project.call("gc", "--dry-run").out
    project.call("gc")
    container = daemon("create", "--network", "none", kept[0], "/nothing").strip()
    try:
        project.call("gc", "--grace", "0")
        assert listed(daemon) & set(kept) == {kept[0], kept[2]}
    finally:
        daemon("rm", container)
    project.call("gc", "--grace", "0")
    assert listed(daemon) & set(kept) == {kept[2]}


def test_the_tree_of_a_kept_image_stays_and_those_below_it_go(daemon: Docker, tmp_path: Path) -> None:
    require_sandbox(tmp_path / "trial")
    made = dataclasses.replace(make_project(tmp_path / "project"), environment=daemon.environment)
    made.call("--engine", "docker", "lock", "copier")
    others = listed(daemon)
    made.call("--engine", "docker", "realize", "copier")
    made.call("--engine", "docker", "run", "copier", "--", "true")
    before = {one.tree for one in Store.open(made.store).daemons}
    made.call("gc", "--grace", "0")
    (kept,) = (one.tree for one in Store.open(made.store).daemons)
    assert kept in before and len(before) > 1
    assert {name for name in listed(daemon) if name.endswith(f"reprobuild/tree:{kept.hex}")}
    made.call("--engine", "docker", "run", "copier", "--", "true")
    made.call("gc", "--grace", "0", "--checkouts")
    assert list(Store.open(made.store).daemons) == []
    assert listed(daemon) <= others


def test_a_daemon_that_cannot_be_reached_is_told_of(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.daemons.use("unix:///nowhere/docker.sock", TREES[0], [])
    (tmp_path / "reprobuild.toml").touch()
    ended = Project(tmp_path, tmp_path / "store").call("gc", "--grace", "0")
    assert "warning: trees stay in a container daemon" in ended.err and "/nowhere/docker.sock" in ended.err
    assert len(list(store.daemons)) == 1


def test_without_trees_no_daemon_is_asked(tmp_path: Path) -> None:
    (tmp_path / "reprobuild.toml").touch()
    here = Project(tmp_path, tmp_path / "store", {"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    assert here.call("gc", "--grace", "0").err == ""
