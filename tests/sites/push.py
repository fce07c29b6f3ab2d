"""A stand-in for a registry that is pushed to, with the peculiarities and the faults of public ones.

``site = PushSite()``; ``site.faults.append(Fault("PATCH", cut_after=1000))``. Keeps to the distribution
specification but for what a test tells it. Knows nothing of sockets.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from tests.base_images import OCI, descriptor, sha256
from tests.sites.registry import TokenSite, failure
from tests.upstreams import Answer, Request

PATH = re.compile(r"/v2/(.+)/(manifests|blobs|referrers|uploads)/([^/]*)")


@dataclass
class Fault:
    """What goes wrong with a request, ``count`` times."""

    method: str
    path: str = ""
    """A part of the path; empty: any."""
    answer: Answer | None = None
    """Said instead, when the body has come."""
    early: Answer | None = None
    """Said instead, before the body comes."""
    cut_after: int | None = None
    """Bytes of the body after which the connection is cut; a body that is no longer gets through."""
    is_answer_lost: bool = False
    """The request is done, and the connection cut."""
    done: Callable[[], object] | None = None
    """Called just before the request is done."""
    after: int = 0
    """How many requests of the kind go well before."""
    count: int = 1

    def fits(self, request: Request) -> bool:
        if self.count <= 0 or request.method != self.method or self.path not in request.target:
            return False
        if self.cut_after is not None and int(request.headers.get("content-length", 0)) <= self.cut_after:
            return False
        if self.after:
            self.after -= 1
            return False
        self.count -= 1
        return True


@dataclass
class ScopedTokens(TokenSite):
    """Gives tokens that are good for what was asked for and is allowed, for so many requests."""

    may: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """What may be done in a repository; one that is not named: anything."""
    good_for: int = 10**9
    made: Callable[[str], bool] = lambda name: True
    """Whether a repository is there: of one that is not only whoever wants to push is told."""
    scopes_of: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)

    def __call__(self, request: Request) -> Answer:
        answer = super().__call__(request)
        if answer.status == 200:
            granted = set()
            for scope in scopes_of(request):
                _, name, actions = scope.split(":")
                may = self.may.get(name, frozenset({"pull", "push"}))
                wanted = set(actions.split(",")) & may
                if self.made(name) or "push" in wanted:
                    granted |= {(name, action) for action in wanted}
            self.scopes_of[self.given[-1]] = granted
        return answer

    def allows(self, token: str, repository: str, action: str) -> bool:
        self.used[token] = self.used.get(token, 0) + 1
        return self.used[token] <= self.good_for and (repository, action) in self.scopes_of.get(token, set())


def scopes_of(request: Request) -> list[str]:
    """Give the scopes that a token is asked for."""
    if request.method == "POST":
        return parse_qs(request.body.decode())["scope"][0].split()
    return parse_qs(urlsplit(request.target).query).get("scope", [])


@dataclass
class PushSite:
    """A registry that takes pushes; everything in memory."""

    tokens: ScopedTokens | None = None
    realm: str = "https://auth.test/token"
    unauthorized: int = 401
    """What is said to a token that is good for too little."""
    faults: list[Fault] = field(default_factory=list)
    host: str = "registry.test"
    uploads_at: str = ""
    """Where uploads go on: ``https://uploads.test``; empty: here, by a path alone."""
    takes_chunks: bool = True
    least_chunk: int = 0
    most_chunk: int = 0
    too_large: int = 416
    """What is said of a larger one."""
    keeps_cut: bool = True
    """Whether what came of a request that was cut stays; else its upload is gone (``distribution`` 2)."""
    has_referrers: bool = True
    is_immutable: Answer | None = None
    """What is said where a tag would move."""
    honours_if_none_match: bool = False
    stored: str = ""
    """The digest that is claimed of whatever is stored, where it lies."""
    has_mounts: bool = True
    blobs: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """By repository and digest."""
    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    """``repository:tag`` or ``repository@digest`` → body and media type."""
    uploads: dict[str, bytearray] = field(default_factory=dict)
    received: int = 0
    """Bytes of blobs that came, whether they were kept or not."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, request: Request) -> Answer | int | None:
        """Let a request be cut, or answered before its body comes."""
        for fault in self.faults:
            early = fault.early is not None or fault.cut_after is not None
            if early and fault.fits(request):
                return fault.early if fault.early is not None else fault.cut_after
        return None

    def __call__(self, request: Request) -> Answer:
        with self._lock:
            length = int(request.headers.get("content-length", 0))
            if request.method in ("PATCH", "PUT") and "/manifests/" not in request.target:
                self.received += len(request.body)
            if len(request.body) < length:
                return self._cut(request)
            for fault in self.faults:
                planned = fault.answer is not None or fault.is_answer_lost or fault.done is not None
                if planned and fault.fits(request):
                    if fault.answer is not None:
                        return fault.answer
                    if fault.done is not None:
                        fault.done()
                    done = self._answer(request)
                    return Answer(is_cut=True) if fault.is_answer_lost else done
            return self._answer(request)

    def _cut(self, request: Request) -> Answer:
        name = request.path.rpartition("/")[2]
        if name in self.uploads and request.method == "PATCH":
            if self.keeps_cut:
                self.uploads[name] += request.body
            elif request.body:
                del self.uploads[name]
        return Answer(is_cut=True)

    def _answer(self, request: Request) -> Answer:
        if request.path == "/v2/":
            return Answer(b"{}")
        match = PATH.fullmatch(request.path)
        if match is None:
            return failure(404, "NOT_FOUND", "page not found")
        repository, kind, name = match.groups()
        repository = repository.removesuffix("/blobs")
        refused = self._refuse(request, repository)
        if refused is not None:
            return refused
        return {
            "manifests": self._manifest,
            "blobs": self._blob,
            "referrers": self._referrers,
            "uploads": self._upload,
        }[kind](request, repository, name)

    def _refuse(self, request: Request, repository: str) -> Answer | None:
        if self.tokens is None or request.host != self.host:
            return None
        action = "pull" if request.method in ("GET", "HEAD") else "push"
        said = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.tokens.allows(said, repository, action):
            return None
        scope = f"repository:{repository}:{'pull' if action == 'pull' else 'pull,push'}"
        error = ',error="insufficient_scope"' if said else ""
        challenge = f'Bearer realm="{self.realm}",service="registry.test",scope="{scope}"{error}'
        status = self.unauthorized if said else 401
        return failure(status, "UNAUTHORIZED", "authentication required", **{"WWW-Authenticate": challenge})

    def _manifest(self, request: Request, repository: str, asked: str) -> Answer:
        place = f"{repository}{'@' if ':' in asked else ':'}{asked}"
        if request.method in ("GET", "HEAD"):
            if place not in self.manifests:
                return failure(404, "MANIFEST_UNKNOWN", "manifest unknown")
            body, kind = self.manifests[place]
            return Answer(body, 200, {"Content-Type": kind, "Docker-Content-Digest": sha256(body)})
        taken = ":" not in asked and place in self.manifests
        if taken and self.is_immutable is not None:
            return self.is_immutable
        if taken and self.honours_if_none_match and request.headers.get("if-none-match") == "*":
            return failure(412, "PRECONDITION_FAILED", "there is one")
        named = (request.body, request.headers["content-type"])
        self.manifests[place] = self.manifests[f"{repository}@{sha256(request.body)}"] = named
        headers = {"Docker-Content-Digest": self.stored or sha256(request.body)}
        subject = json.loads(request.body).get("subject", {}).get("digest")
        if subject and self.has_referrers:
            headers["OCI-Subject"] = subject
        return Answer(b"", 201, headers)

    def _blob(self, request: Request, repository: str, digest: str) -> Answer:
        body = self.blobs.get(repository, {}).get(digest)
        if body is None:
            return failure(404, "BLOB_UNKNOWN", "blob unknown to registry")
        wanted = request.headers.get("range", "")
        if wanted:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return Answer(body[start:], 206, {"Content-Range": span})
        return Answer(body, 200, {"Content-Length": str(len(body))})

    def _referrers(self, request: Request, repository: str, subject: str) -> Answer:
        if not self.has_referrers:
            return failure(404, "NOT_FOUND", "page not found")
        found = []
        for place, (body, kind) in self.manifests.items():
            value = json.loads(body)
            if place.startswith(f"{repository}@") and value.get("subject", {}).get("digest") == subject:
                found.append(descriptor(kind, body, artifactType=value["artifactType"]))
        start = int(request.query.get("from", 0))
        index = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}index.v1+json",
            "manifests": found[start : start + 2],
        }
        more = len(found) > start + 2
        link = (
            {"Link": f'</v2/{repository}/referrers/{subject}?from={start + 2}>; rel="next"'} if more else {}
        )
        return Answer(json.dumps(index).encode(), 200, {"Content-Type": f"{OCI}index.v1+json", **link})

    def _upload(self, request: Request, repository: str, name: str) -> Answer:
        if request.method == "POST":
            return self._begin_upload(request, repository)
        if name not in self.uploads:
            return failure(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        have = self.uploads[name]
        if request.method == "GET":
            return Answer(b"", 204, self._state(repository, name))
        if request.method == "PATCH":
            if not self.takes_chunks:
                return failure(405, "UNSUPPORTED", "chunked uploads are not supported")
            if self.most_chunk and len(request.body) > self.most_chunk:
                return failure(self.too_large, "SIZE_INVALID", "the request body is too large")
            start = int(request.headers["content-range"].partition("-")[0])
            if start != len(have):
                return failure(416, "RANGE_INVALID", "invalid content range")
            have += request.body
            return Answer(b"", 202, self._state(repository, name))
        del self.uploads[name]
        body, digest = bytes(have) + request.body, request.query["digest"]
        if sha256(body) != digest:
            return failure(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.blobs.setdefault(repository, {})[digest] = body
        return Answer(b"", 201, {"Docker-Content-Digest": self.stored or digest})

    def _begin_upload(self, request: Request, repository: str) -> Answer:
        mount, source = request.query.get("mount", ""), request.query.get("from", "")
        if mount in self.blobs.get(source, {}) and self.has_mounts:
            said = request.headers.get("authorization", "").removeprefix("Bearer ")
            if self.tokens is None or self.tokens.allows(said, source, "pull"):
                self.blobs.setdefault(repository, {})[mount] = self.blobs[source][mount]
                return Answer(b"", 201, {"Docker-Content-Digest": mount})
        name = secrets.token_hex(8)
        self.uploads[name] = bytearray()
        least = {"OCI-Chunk-Min-Length": str(self.least_chunk)} if self.least_chunk else {}
        return Answer(b"", 202, {**self._state(repository, name), **least})

    def _state(self, repository: str, name: str) -> dict[str, str]:
        end = max(0, len(self.uploads[name]) - 1)
        location = f"{self.uploads_at}/v2/{repository}/blobs/uploads/{name}?state={secrets.token_hex(4)}"
        return {"Location": location, "Range": f"0-{end}"}
