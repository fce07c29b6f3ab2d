"""Sites of plain files: pages that a test changes at will, a folder, links that are signed and expire.

``site = FileSite({"/a.bin": Page(b"…")})``. Knows nothing of sockets.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.upstreams import Answer, Request, moved

MODIFIED = "Wed, 03 Apr 2024 05:06:07 GMT"
PIECE = 4096


@dataclass
class Page:
    """One file of a site, and how it is given."""

    body: bytes = b""
    kind: str = "application/octet-stream"
    is_chunked: bool = False
    """Sent in pieces, without a length."""
    is_packed: bool = False
    """Sent with gzip to who accepts that."""
    password: str = ""
    """``user:password`` that has to be given."""
    cookie: str = ""
    """``name=value`` that is set by a first answer, and has to come back."""
    moved_to: str = ""
    status: int = 302
    """Of the redirect."""
    signed: str = ""
    """The path at the site's ``links`` that a redirect leads to, with a signature made anew each time."""
    before: list[Answer] = field(default_factory=list)
    """What is answered first, one request each: a server that is busy."""


@dataclass
class SignedLinks:
    """A host whose addresses hold for who was given one: signatures in the query, as CDNs have them."""

    host: str
    bodies: dict[str, bytes] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    """Signature → path, of links that hold."""
    every: list[str] = field(default_factory=list)
    """All signatures ever made: secrets."""

    def sign(self, path: str) -> str:
        """Give an address that holds until ``expire``."""
        signature = secrets.token_hex(24)
        self.given[signature] = path
        self.every.append(signature)
        query = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=300&X-Amz-Signature={signature}"
        return f"https://{self.host}{path}?{query}"

    def expire(self) -> None:
        """Let no link hold that was given so far."""
        self.given.clear()

    def __call__(self, request: Request) -> Answer:
        if self.given.get(request.query.get("X-Amz-Signature", "")) != request.path:
            return Answer(b"<Error><Code>AccessDenied</Code></Error>", 403, {"Content-Type": "text/xml"})
        return whole_or_part(request, self.bodies[request.path])


@dataclass
class FileSite:
    """Pages by path."""

    pages: dict[str, Page] = field(default_factory=dict)
    links: SignedLinks | None = None

    def __call__(self, request: Request) -> Answer:
        found = self.pages.get(request.path)
        if found is None:
            return Answer(b"not found\n", 404, {"Content-Type": "text/plain"})
        if found.before:
            return found.before.pop(0)
        if found.password and request.headers.get("authorization") != basic(found.password):
            return Answer(b"who are you?\n", 401, {"WWW-Authenticate": 'Basic realm="test"'})
        if found.cookie and found.cookie not in request.headers.get("cookie", ""):
            return moved(request.target, set_cookie=f"{found.cookie}; Path=/; Secure; HttpOnly")
        if found.moved_to:
            return moved(found.moved_to, found.status)
        if found.signed and self.links:
            return moved(self.links.sign(found.signed), cache_control="no-store")
        more = {"Content-Type": found.kind}
        if found.is_packed:
            more["Vary"] = "Accept-Encoding"
            if "gzip" in request.headers.get("accept-encoding", ""):
                packed = gzip.compress(found.body, mtime=0)
                return whole_or_part(request, packed, **more, Content_Encoding="gzip")
        if found.is_chunked:
            return Answer(_pieces(found.body), 200, {"ETag": etag(found.body), **more})
        return whole_or_part(request, found.body, **more)


@dataclass(frozen=True)
class FolderSite:
    """A folder's files below a path: an archive of packages, say."""

    folder: Path
    below: str = ""

    def __call__(self, request: Request) -> Answer:
        path = (self.folder / request.path.removeprefix(self.below).lstrip("/")).resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            return Answer(b"not found\n", 404, {"Content-Type": "text/plain"})
        return whole_or_part(request, path.read_bytes())


def whole_or_part(request: Request, body: bytes, **headers: str) -> Answer:
    """Answer a GET or HEAD as RFC 9110 says: conditions, one range, the whole."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named = {"ETag": etag(body), "Last-Modified": MODIFIED, "Accept-Ranges": "bytes", **named}
    if named["ETag"] in request.headers.get("if-none-match", ""):
        return Answer(b"", 304, named)
    unchanged = request.headers.get("if-range", named["ETag"]) in (named["ETag"], MODIFIED)
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", "")) if unchanged else None
    if wanted is None or not any(wanted.groups()):
        return Answer(body, 200, named)
    if wanted[1]:
        first, last = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
    else:
        first, last = max(0, len(body) - int(wanted[2])), len(body) - 1
    if first > last:
        return Answer(b"", 416, {**named, "Content-Range": f"bytes */{len(body)}"})
    named["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
    return Answer(body[first : last + 1], 206, named)


def etag(body: bytes) -> str:
    return f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"'


def basic(password: str) -> str:
    """Give the header's value for ``user:password``."""
    return "Basic " + base64.b64encode(password.encode()).decode()


def _pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]
