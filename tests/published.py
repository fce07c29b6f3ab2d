"""Images in registries for tests of pulling, and a registry's storage, tampered with.

``with published(project, folder) as shelf``: the project's image in a registry of its own;
``shelf.reader(…)`` is the same project with an empty store, and the registry as its substituter.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprobuild.digest import Digest
from reprobuild.images.tar import entry_header
from reprobuild.tree import file
from tests.projects import Ended, Project
from tests.servers import docker_registry, skopeo

NAMESPACE = "models"


@dataclass(frozen=True)
class Shelf:
    """A registry with an image."""

    project: Project
    address: str
    folder: Path
    realized: dict[str, Any]
    """What ``realize --json`` said of the image."""

    @property
    def name(self) -> str:
        """The substituter: registry and namespace."""
        return f"{self.address}/{NAMESPACE}"

    @property
    def tag(self) -> str:
        """The image in the registry."""
        return tag_at(self.name, self.realized["tag"])

    def reader(self, store: Path, *before: str) -> Project:
        """Give the project with another store; ``before``: substituters that are asked first."""
        return Project(
            self.project.folder, store, {"REPROBUILD_SUBSTITUTERS": " ".join([*before, self.name])}
        )

    def manifest(self) -> dict[str, Any]:
        """Give what the registry has under the tag."""
        found = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{self.tag}")
        value = json.loads(found)
        assert isinstance(value, dict)
        return value

    def file(self, digest: str) -> Path:
        """Give the registry's file of a blob."""
        digits = digest.removeprefix("sha256:")
        return self.folder / f"data/docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"

    def put_manifest(self, value: dict[str, Any], namespace: str = NAMESPACE) -> None:
        """Let the tag name another manifest, behind the registry's back."""
        body = json.dumps(value).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.file(digest).parent.mkdir(parents=True, exist_ok=True)
        self.file(digest).write_bytes(body)
        tag = self.realized["tag"].rpartition(":")[2]
        repository = self.folder / f"data/docker/registry/v2/repositories/{namespace}/copier/_manifests"
        (repository / f"tags/{tag}/current/link").write_text(digest)
        link = repository / "revisions/sha256" / digest.removeprefix("sha256:") / "link"
        link.parent.mkdir(exist_ok=True)
        link.write_text(digest)

    def put_blob(self, data: bytes) -> dict[str, Any]:
        """Put a blob into the repository, behind the registry's back; give digest and size for a manifest."""
        digits = hashlib.sha256(data).hexdigest()
        self.file(digits).parent.mkdir(parents=True, exist_ok=True)
        self.file(digits).write_bytes(data)
        layers = self.folder / f"data/docker/registry/v2/repositories/{NAMESPACE}/copier/_layers/sha256"
        (layers / digits).mkdir(exist_ok=True)
        (layers / digits / "link").write_text(f"sha256:{digits}")
        return {"digest": f"sha256:{digits}", "size": len(data)}


def statuses(ended: Ended) -> list[str]:
    """Give what became of each layer, as ``realize --json`` says."""
    return [layer["status"] for layer in ended.json["layers"]]


def tag_at(name: str, tag: str) -> str:
    """Give a local tag as a registry's."""
    return f"{name}/{tag.partition('/')[2]}"


def push(project: Project, tag: str, *options: str, how: Sequence[str] = ()) -> None:
    """Push the project's image to a registry, by a tool that is none of ours; ``how``: its options."""
    archive = project.folder / "pushed.tar"
    project.call("export", "copier", *options, "--to", str(archive))
    skopeo("copy", "--dest-tls-verify=false", *how, f"oci-archive:{archive}", f"docker://{tag}")
    archive.unlink()


def copy(tag: str, to: str) -> None:
    """Give an image of a registry another tag."""
    tls = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    skopeo("copy", *tls, f"docker://{tag}", f"docker://{to}")


def bomb(size: int) -> bytes:
    """Give a compressed layer that is well-formed, small, and a file of so many zeros."""
    packer = zlib.compressobj(9, wbits=31)
    head = entry_header(file("zeros", Digest.of(b""), size))
    piece = bytes(2**20)
    parts = [packer.compress(head), *(packer.compress(piece) for _ in range(size // len(piece)))]
    return b"".join([*parts, packer.compress(bytes(1024)), packer.flush()])


@contextmanager
def published(project: Project, folder: Path) -> Iterator[Shelf]:
    """Push the image of a locked project to a registry with its data in a folder."""
    realized = project.call("realize", "copier", "--json").json
    with docker_registry(folder) as address:
        shelf = Shelf(project, address, folder, realized)
        push(project, shelf.tag)
        yield shelf
