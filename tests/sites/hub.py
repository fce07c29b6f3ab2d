"""A hub of models, as ``huggingface_hub`` asks one: what a revision is, its tree, its files.

Small files are given by the hub itself, large ones by a host of signed links. Knows nothing of sockets.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.sites.files import SignedLinks, whole_or_part
from tests.upstreams import Answer, Request, Upstreams, moved

HUB = "huggingface.co"
CDN = "cdn-lfs.huggingface.co"
SMALL = 4096
"""Bytes; what is larger is given by the other host."""


@dataclass
class Model:
    """Files of one commit."""

    commit: str
    files: Mapping[str, bytes]


@dataclass
class HubSite:
    """Models by ``organisation/name``; each has one branch, ``main``."""

    models: dict[str, Model] = field(default_factory=dict)
    links: SignedLinks = field(default_factory=lambda: SignedLinks(CDN))
    token: str = ""
    """What has to be given as ``Authorization: Bearer …``, where anything has."""

    def join(self, net: Upstreams) -> None:
        """Answer for the hub and for the host of its large files."""
        net.add(HUB, self)
        net.add(CDN, self.links)

    def __call__(self, request: Request) -> Answer:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return _error(401, "RepoNotFound", "Invalid username or password.")
        asked = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", request.path)
        if asked:
            return self._about(request, asked[1], asked[2] or "revision", asked[3] or "main")
        asked = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", request.path)
        if asked:
            return self._file(request, *asked.groups())
        return _error(404, "EntryNotFound", "Entry not found")

    def _about(self, request: Request, name: str, what: str, revision: str) -> Answer:
        model = self.models.get(name)
        if model is None:
            return _error(404, "RepoNotFound", "Repository not found")
        if revision not in ("main", model.commit):
            return _error(404, "RevisionNotFound", "Invalid rev id: " + revision)
        if what == "tree":
            return _json([_listed(path, body) for path, body in sorted(model.files.items())])
        about = {
            "_id": "0123456789abcdef01234567",
            "id": name,
            "modelId": name,
            "sha": model.commit,
            "private": False,
            "gated": False,
            "disabled": False,
            "tags": [],
            "lastModified": "2024-04-03T05:06:07.000Z",
            "createdAt": "2024-04-03T05:06:07.000Z",
            "siblings": [{"rfilename": path} for path in sorted(model.files)],
        }
        if request.query.get("blobs"):
            about["siblings"] = [
                {"rfilename": path, "size": len(body), "blobId": _oid(body)}
                | ({"lfs": _listed(path, body)["lfs"]} if len(body) > SMALL else {})
                for path, body in sorted(model.files.items())
            ]
        return _json(about)

    def _file(self, request: Request, name: str, revision: str, path: str) -> Answer:
        model = self.models.get(name)
        if model is None:
            return _error(404, "RepoNotFound", "Repository not found")
        if revision not in ("main", model.commit):
            return _error(404, "RevisionNotFound", "Invalid rev id: " + revision)
        if path not in model.files:
            return _error(404, "EntryNotFound", "Entry not found", X_Repo_Commit=model.commit)
        body = model.files[path]
        if len(body) <= SMALL:
            return whole_or_part(request, body, ETag=f'"{_oid(body)}"', X_Repo_Commit=model.commit)
        digest = hashlib.sha256(body).hexdigest()
        self.links.bodies[f"/repos/{digest}"] = body
        return moved(
            self.links.sign(f"/repos/{digest}"),
            x_repo_commit=model.commit,
            x_linked_size=str(len(body)),
            x_linked_etag=f'"{digest}"',
            etag=f'"{digest}"',
        )


def _listed(path: str, body: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "oid": _oid(body), "size": len(body), "path": path}
    if len(body) > SMALL:
        digest = hashlib.sha256(body).hexdigest()
        entry["lfs"] = {"oid": digest, "sha256": digest, "size": len(body), "pointerSize": 134}
    return entry


def _oid(body: bytes) -> str:
    """Give git's name of a blob."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def _json(value: object, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json", **named})


def _error(status: int, code: str, message: str, **headers: str) -> Answer:
    return _json({"error": message}, status, X_Error_Code=code, X_Error_Message=message, **headers)
