"""The same Dockerfile through ``docker build`` and through a recipe, and the files that both come to.

Knows nothing of what Dockerfiles are tried. Containers need ``--network none``: the daemon has no networks.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reprobuild.build.image import image_from_record, read_layers
from reprobuild.digest import Digest
from reprobuild.store.store import Store
from reprobuild.tree import Tree, apply
from tests.archives import body_of
from tests.daemons import Docker
from tests.projects import Project
from tests.require import require
from tests.roots import busybox_root

RECIPE = '''\
"""A Dockerfile as a recipe."""
from reprobuild import dockerfile, image, recipe

@recipe(version="1.0")
def made():
    return image(dockerfile("Dockerfile", args={args!r}{more}))
'''

BASE = "FROM scratch AS base\nADD root.tar /\n"
"""Begins Dockerfiles that run something; ``write_context`` puts the archive into the context."""

OF_THE_ENGINE = (
    "dev",
    "proc",
    "sys",
    ".dockerenv",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
)


@dataclass(frozen=True)
class Seen:
    """A file as both can see it: kind, mode, owner, and content or target."""

    kind: str
    mode: int
    owner: tuple[int, int]
    content: str


def write_context(folder: Path, text: str, files: Mapping[str, str | bytes | None] | None = None) -> None:
    """Write a Dockerfile and what it copies; a name that ends in ``/`` is a folder, ``->`` makes a link."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text(text)
    for name, content in (files or {}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is None:
            path.mkdir()
        elif content.startswith("->"):
            path.symlink_to(content[2:])
        else:
            path.write_text(content)
            if content.startswith("#!"):
                path.chmod(0o755)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink() and path.stat().st_mode & 0o777 not in (0o644, 0o755):
            path.chmod(0o755 if path.is_dir() else 0o644)


def busybox_archive(folder: Path) -> bytes:
    """Give a tar archive of a tree with busybox, all of it root's."""
    root = folder / "root"
    busybox_root(root)
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            member = archive.gettarinfo(path, path.relative_to(root).as_posix())
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            with path.open("rb") if member.isreg() else io.BytesIO() as body:
                archive.addfile(member, body if member.isreg() else None)
    shutil.rmtree(root)
    return whole.getvalue()


def make_project(folder: Path, context: Path, args: Mapping[str, str], more: str = "") -> Project:
    """Make a project whose one recipe, ``made``, is a Dockerfile."""
    recipe = folder / "recipes" / "made"
    shutil.copytree(context, recipe, symlinks=True)
    (folder / "reprobuild.toml").write_text("")
    (recipe / "recipe.py").write_text(RECIPE.format(args=dict(args), more=more))
    return Project(folder, folder / "store")


def built_by_us(project: Project) -> dict[str, Seen]:
    """Lock the recipe; give the files of its image."""
    project.call("lock", "made")
    return files_of(project)


def files_of(project: Project, name: str = "made") -> dict[str, Seen]:
    """Give the files of a locked recipe's image."""
    found = project.call("realize", name, "--json").json
    store = Store.open(project.store)
    record = store.realisations.get(Digest.parse(found["input_hash"]))
    assert record is not None
    tree = Tree()
    for layer in read_layers(store, image_from_record(record)):
        tree = apply(tree, layer)
    seen = {}
    for entry in tree:
        content = entry.target if entry.kind == "l" else str(entry.digest or "")
        seen[entry.path] = Seen(entry.kind, entry.mode, (entry.uid, entry.gid), content)
    return _comparable(seen)


def built_by_docker(
    docker: Docker, context: Path, *, network: str = "none", host: str = ""
) -> dict[str, Seen]:
    """Build with the daemon, and give the files of the image; ``host``: ``name:address`` that it knows."""
    flags = ["--add-host", host] if host else []
    command = ["build", "--network", network, "--no-cache", "-q", *flags, str(context)]
    environment = {
        "DOCKER_HOST": docker.host,
        "DOCKER_CONFIG": str(docker.folder / "client"),
        "DOCKER_BUILDKIT": "1",
        "PATH": os.environ["PATH"],
        "HOME": str(docker.folder),
    }
    # A client of today has BuildKit's part in a plugin, that of Debian 12 has it built in.
    for client in (docker.client, Path("/usr/bin/docker")):
        ended = subprocess.run(
            [str(client), *command], capture_output=True, text=True, env=environment, timeout=300, check=False
        )
        if "buildx component is missing" not in ended.stderr:
            break
    else:
        require("docker build", "the docker client has no BuildKit")
    assert ended.returncode == 0, ended.stderr
    image = ended.stdout.strip()
    container = docker("create", "--network", "none", image, "nothing").strip()
    exported = subprocess.run(
        [str(docker.client), "export", container],
        capture_output=True,
        env=environment,
        check=True,
        timeout=300,
    ).stdout
    docker("rm", container)
    seen = {}
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        for member in archive:
            seen[member.name.strip("/")] = _seen(archive, member)
    return _comparable(seen)


def _seen(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Seen:
    owner = (member.uid, member.gid)
    if member.isdir():
        return Seen("d", member.mode & 0o7777, owner, "")
    if member.issym():
        return Seen("l", 0o777, owner, member.linkname)
    return Seen("f", member.mode & 0o7777, owner, str(Digest.of(body_of(archive, member))))


def _comparable(seen: Mapping[str, Seen]) -> dict[str, Seen]:
    kept = {path: one for path, one in sorted(seen.items()) if not path.startswith(OF_THE_ENGINE) and path}
    if not any(path.startswith("etc/") for path in kept):
        kept.pop("etc", None)  # the engine makes it for its own files
    return kept
