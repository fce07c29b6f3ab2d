"""Base images made by hand: layers as tar streams, in an OCI layout or a docker archive, hostile ones too.

Knows nothing of the tool; what it makes is what container engines read.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import zstandard

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(
    files: Mapping[str, bytes] | None = None,
    *,
    infos: Iterable[tarfile.TarInfo] = (),
    folders: Iterable[str] = (),
    whiteouts: Iterable[str] = (),
    uid: int = 0,
    modes: Mapping[str, int] | None = None,
    mtime: int = 1_500_000_000,
) -> bytes:
    """Make a layer's tar stream: folders, then files, then members without a body, then whiteouts."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in folders:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid, info.mtime = tarfile.DIRTYPE, 0o755, uid, uid, mtime
            archive.addfile(info)
        for name, body in (files or {}).items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid, info.mtime = len(body), uid, uid, mtime
            info.mode = (modes or {}).get(name, 0o644)
            archive.addfile(info, io.BytesIO(body))
        for info in infos:
            archive.addfile(info)
        for name in whiteouts:
            folder, slash, last = name.rpartition("/")
            archive.addfile(tarfile.TarInfo(f"{folder}{slash}.wh.{last}"))
    return out.getvalue()


def layer_of_folder(root: Path) -> bytes:
    """Make a layer of everything in a folder of this machine, owned by root."""
    out = io.BytesIO()

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.iterdir()):
            archive.add(path, path.name, filter=plain)
    return out.getvalue()


@dataclass
class BaseImage:
    """An image for one platform: layers as tar streams, lowest first, and what its config says."""

    layers: Sequence[bytes]
    said: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = "amd64"
    compression: str = "gzip"
    """``gzip``, ``zstd`` or empty."""
    docker_types: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the config that are otherwise."""
    layer_type: str = ""

    @property
    def config(self) -> bytes:
        value = {
            "architecture": self.architecture,
            "os": "linux",
            "config": dict(self.said),
            "rootfs": {"type": "layers", "diff_ids": [sha256(one) for one in self.layers]},
            **self.overrides,
        }
        return json.dumps(value).encode()

    @property
    def packed(self) -> list[bytes]:
        if self.compression == "gzip":
            return [gzip.compress(one, mtime=0) for one in self.layers]
        if self.compression == "zstd":
            return [zstandard.ZstdCompressor().compress(one) for one in self.layers]
        return list(self.layers)

    @property
    def manifest(self) -> bytes:
        suffix = f"+{self.compression}" if self.compression else ""
        kind = self.layer_type or f"{OCI}layer.v1.tar{suffix}"
        types = (f"{OCI}manifest.v1+json", f"{OCI}config.v1+json")
        if self.docker_types:
            types = (f"{DOCKER}distribution.manifest.v2+json", f"{DOCKER}container.image.v1+json")
            kind = f"{DOCKER}image.rootfs.diff.tar.gzip"
        value = {
            "schemaVersion": 2,
            "mediaType": types[0],
            "config": descriptor(types[1], self.config),
            "layers": [descriptor(kind, one) for one in self.packed],
        }
        return json.dumps(value).encode()

    @property
    def manifest_type(self) -> str:
        found = json.loads(self.manifest)["mediaType"]
        assert isinstance(found, str)
        return found

    @property
    def blobs(self) -> dict[str, bytes]:
        """Everything by digest, the manifest too."""
        return {sha256(one): one for one in (self.manifest, self.config, *self.packed)}


def descriptor(kind: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": sha256(data), "size": len(data), **more}


def index(*images: BaseImage, kind: str = f"{OCI}index.v1+json", name: str = "") -> bytes:
    """Make an index of images, each for its platform."""
    named = {"annotations": {"org.opencontainers.image.ref.name": name}} if name else {}
    manifests = [
        descriptor(
            one.manifest_type,
            one.manifest,
            platform={"os": "linux", "architecture": one.architecture},
            **named,
        )
        for one in images
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).encode()


def write_layout(folder: Path, *images: BaseImage, name: str = "", top: bytes = b"") -> Path:
    """Write an OCI layout; ``top``: an index of them to be named, instead of each image."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for one in images:
        for digest, data in one.blobs.items():
            (blobs / digest.partition(":")[2]).write_bytes(data)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    listed = index(*images, name=name)
    if top:
        (blobs / sha256(top).partition(":")[2]).write_bytes(top)
        named = {"annotations": {"org.opencontainers.image.ref.name": name}}
        listed = json.dumps(
            {"schemaVersion": 2, "manifests": [descriptor(f"{OCI}index.v1+json", top, **named)]}
        ).encode()
    (folder / "index.json").write_bytes(listed)
    return folder


def write_docker_archive(path: Path, image: BaseImage, *tags: str, mode: Literal["w", "w:gz"] = "w") -> Path:
    """Write what ``docker save`` wrote for ten years: a folder a layer, equal ones as links."""
    config = sha256(image.config).partition(":")[2] + ".json"
    names: list[str] = []
    with tarfile.open(path, mode) as archive:
        seen: dict[str, str] = {}
        for number, one in enumerate(image.layers):
            name = f"{number:064d}/layer.tar"
            info = tarfile.TarInfo(name)
            if sha256(one) in seen:
                info.type, info.linkname = tarfile.SYMTYPE, "../" + seen[sha256(one)]
                archive.addfile(info)
            else:
                info.size = len(one)
                archive.addfile(info, io.BytesIO(one))
                seen[sha256(one)] = name
            names.append(name)
        manifest = json.dumps([{"Config": config, "RepoTags": list(tags) or None, "Layers": names}]).encode()
        for name, data in ((config, image.config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
