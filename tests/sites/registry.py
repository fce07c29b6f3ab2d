"""A stand-in for a registry with the peculiarities of public ones: tokens, CDNs, limits, changed bytes.

``site = RegistrySite()``; ``site.add("x/y", "1.0", image)``; ``TokenSite`` and ``BlobSite`` are hosts of
their own. Speaks what pulling needs of the OCI distribution specification. Knows nothing of sockets.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from tests.base_images import BaseImage, sha256
from tests.upstreams import Answer, Request, moved

PATH = re.compile(r"/v2/(.+)/(manifests|blobs)/([^/]+)")


@dataclass
class TokenSite:
    """Gives tokens to who has the password, or to anybody where there is none."""

    user: str = ""
    password: str = ""
    refresh_token: str = ""
    expires_in: int = 60
    given: list[str] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer:
        if request.method == "POST":
            form = {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
            fits = bool(self.refresh_token) and form.get("refresh_token") == self.refresh_token
            scope = form.get("scope", "")
        else:
            proof = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            said = request.headers.get("authorization", "")
            fits = said == (f"Basic {proof}" if self.user else "")
            scope = request.query.get("scope", "")
        if not fits:
            return Answer(b'{"details": "incorrect username or password"}', 401)
        self.scopes.append(scope)
        self.given.append(secrets.token_hex(16))
        return Answer(json.dumps({"token": self.given[-1], "expires_in": self.expires_in}).encode())


@dataclass
class BlobSite:
    """A CDN: whoever has a link gets the bytes."""

    bodies: dict[str, bytes] = field(default_factory=dict)
    proofs: list[str] = field(default_factory=list)
    """What it was told of who asks: nothing, it is to be hoped."""

    def __call__(self, request: Request) -> Answer:
        self.proofs.append(request.headers.get("authorization", ""))
        body = self.bodies.get(request.path.rpartition("/")[2])
        return Answer(body) if body is not None and "signature" in request.query else Answer(b"", 403)


@dataclass
class RegistrySite:
    """A registry."""

    tokens: TokenSite | None = None
    realm: str = "https://auth.test/token"
    cdn: BlobSite | None = None
    cdn_url: str = "https://cdn.test"
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    """``repository:tag`` or ``repository@digest`` → body and media type."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    before: list[Answer] = field(default_factory=list)
    """What is answered first, one request each."""

    def add(self, repository: str, tag: str, *images: BaseImage, top: bytes = b"") -> None:
        """Take images; the last one, or the index ``top``, under a tag."""
        for one in images:
            self.blobs |= one.blobs
            named = (one.manifest, one.manifest_type)
            self.manifests[f"{repository}@{sha256(one.manifest)}"] = named
            self.manifests[f"{repository}:{tag}"] = named
        if top:
            named = (top, json.loads(top)["mediaType"])
            self.manifests[f"{repository}@{sha256(top)}"] = self.manifests[f"{repository}:{tag}"] = named
        if self.cdn is not None:
            self.cdn.bodies |= self.blobs

    def __call__(self, request: Request) -> Answer:
        if self.before:
            return self.before.pop(0)
        match = PATH.fullmatch(request.path)
        if self.tokens is not None:
            said = request.headers.get("authorization", "").removeprefix("Bearer ")
            if said not in self.tokens.given:
                scope = f"repository:{match[1]}:pull" if match else ""
                challenge = f'Bearer realm="{self.realm}",service="registry.test",scope="{scope}"'
                return failure(
                    401, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": challenge}
                )
        if match is None:
            return failure(404, "NOT_FOUND", "page not found")
        repository, kind, asked = match.groups()
        if kind == "manifests":
            found = self.manifests.get(f"{repository}{'@' if ':' in asked else ':'}{asked}")
            if found is None:
                return failure(404, "MANIFEST_UNKNOWN", "manifest unknown")
            return Answer(found[0], 200, {"Content-Type": found[1]})
        if asked not in self.blobs:
            return failure(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if self.cdn is not None:
            return moved(f"{self.cdn_url}/data/{asked}?signature={secrets.token_hex(8)}", 307)
        return Answer(self.blobs[asked])


def failure(status: int, code: str, message: str, **headers: str) -> Answer:
    """Give an error as registries do."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(body, status, {"Content-Type": "application/json", **headers})
