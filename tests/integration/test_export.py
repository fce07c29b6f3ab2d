"""A recipe's image outside reprobuild: exported, loaded by Docker, and the same there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.daemons import Docker
from tests.projects import Project, make_project, require_sandbox
from tests.servers import skopeo

EXTRA = (
    "mkdir -p /opt/d/e /var/log/app && echo log > /var/log/app/x && echo s > /opt/d/setuid && "
    "chmod 4755 /opt/d/setuid && chmod 1777 /opt/d/e && ln -s ../d /opt/d/e/up && rm /app/word && "
    "rm /etc/group && mkfifo /opt/d/fifo && echo ü > /opt/d/ü && chmod 0 /opt/d/ü"
)
"""A command that leaves one of each."""

LISTING = "find / -xdev -mindepth 1 -exec stat -c '%F %a %u:%g %Y %N' {} +"
"""Busybox's way to print kind, mode, owner, time, name and target of everything."""

OF_THE_ENGINE = (
    *("/.dockerenv", "/dev", "/proc", "/sys", "/tmp"),
    *("/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf"),
    *("/etc/ssl", "/usr"),
)
"""What engines mount or make; our sandbox makes a ``/tmp`` where the tree has none, and shows bundles in
which its gateway is trusted."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("project"))
    recipe = project.recipe / "recipe.py"
    recipe.write_text(recipe.read_text().replace('extra: str = ""', f"extra: str = {EXTRA!r}"))
    project.call("lock", "copier")
    return project


@pytest.fixture(scope="module")
def archive(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "copier.tar"
    project.call("export", "copier", "--format", "docker", "--to", str(path))
    return path


@pytest.fixture(scope="module")
def tag(project: Project, archive: Path, docker: Docker) -> str:
    """The image, loaded by the daemon."""
    tag = project.call("realize", "copier", "--json").json["tag"]
    assert f"Loaded image: {tag}" in docker("load", "--input", str(archive))
    assert isinstance(tag, str)
    return tag


@pytest.mark.parametrize("form", ["oci", "oci-dir"])
def test_skopeo_accepts_an_exported_layout(form: str, project: Project, tmp_path: Path) -> None:
    path = tmp_path / "image"
    project.call("export", "copier", "--format", form, "--to", str(path))
    source = f"oci:{path}" if form == "oci-dir" else f"oci-archive:{path}"
    realized = project.call("realize", "copier", "--json").json
    found = json.loads(skopeo("inspect", source))
    assert found["Layers"] == [layer["diff_id"] for layer in realized["layers"]]
    skopeo("copy", source, f"dir:{tmp_path}/copied")
    copied = json.loads((tmp_path / "copied" / "manifest.json").read_bytes())
    assert copied["config"]["digest"] == realized["image_id"]
    assert copied["annotations"]["org.reprobuild.input-hash"] == realized["input_hash"]


def test_exporting_again_writes_nothing(project: Project, archive: Path) -> None:
    before = archive.stat()
    again = project.call("export", "copier", "--format", "docker", "--to", str(archive), "--json").json
    assert not again["written"]
    assert (archive.stat().st_ino, archive.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_docker_knows_the_image_by_our_id(project: Project, tag: str, docker: Docker) -> None:
    found = docker("image", "inspect", "--format", "{{.Id}}", tag).strip()
    assert found == project.call("realize", "copier", "--json").json["image_id"]


def test_a_container_sees_the_files_that_our_sandbox_shows(
    project: Project, tag: str, docker: Docker
) -> None:
    ours = project.call("run", "copier", "--", "sh", "-c", LISTING).out
    theirs = docker("run", "--rm", "--network", "none", tag, "sh", "-c", LISTING)
    assert own_lines(ours) == own_lines(theirs)
    for part in ("regular file 4755 0:0 315619200 /opt/d/setuid", "directory 1777 0:0 315619200 /opt/d/e"):
        assert part in theirs.replace("'", "")
    for part in ("/opt/d/fifo", "/var/log/app/x", "/app/word", "/etc/group"):
        assert part not in theirs


def own_lines(listing: str) -> set[str]:
    """Leave out what engines make, and the folder whose time that changes."""
    lines = {line.replace("'", "") for line in listing.splitlines()}
    names = {line: line.split(" -> ")[0].rpartition(" ")[2] for line in lines}
    return {line for line in lines if names[line] != "/etc" and not names[line].startswith(OF_THE_ENGINE)}


def is_of_the_sandbox(line: str) -> bool:
    """Tell whether a variable is for threads, or names the bundle in which a gateway is trusted."""
    return "_THREADS=" in line or line.endswith("=/etc/ssl/certs/ca-certificates.crt")


def test_a_container_has_the_environment_of_our_commands(project: Project, tag: str, docker: Docker) -> None:
    ours = project.call("run", "copier", "--", "env").out.splitlines()
    theirs = docker("run", "--rm", "--network", "none", tag, "env").splitlines()
    added = ("HOSTNAME=", "PWD=", "SHLVL=")
    assert {line for line in ours if not line.startswith(added) and not is_of_the_sandbox(line)} == {
        line for line in theirs if not line.startswith(added)
    }
    assert docker("run", "--rm", "--network", "none", tag, "sh", "-c", "pwd").strip() == "/app"


def test_a_container_gives_the_same_predictions(project: Project, tag: str, docker: Docker) -> None:
    records = '{"text": "abc"}\n{"text": "grüße"}\n'
    ours = project.call("predict", "copier", "--input", "-", "--output", "-", stdin=records).out
    labels = docker("image", "inspect", "--format", "{{json .Config.Labels}}", tag)
    command = json.loads(json.loads(labels)["org.reprobuild.predictors"])["default"]["command"]
    filled = command.format(input="/dev/stdin", output="/dev/stdout")
    arguments = ["run", "--rm", "--interactive", "--network", "none", tag, "sh", "-c", filled]
    theirs = docker(*arguments, input=records.encode())
    assert list(map(json.loads, ours.splitlines())) == list(map(json.loads, theirs.splitlines()))
