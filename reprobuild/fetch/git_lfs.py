"""Git LFS: pointers in a commit, and the files that they stand for, each checked by its sha256.

Specifications: https://github.com/git-lfs/git-lfs/tree/main/docs (spec.md, api/batch.md). No program of
LFS is run. Knows nothing of trees.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from reprobuild.digest import Digest
from reprobuild.errors import DigestMismatchError, UpstreamError
from reprobuild.events import FetchFinished, FetchProgressed, FetchStarted, Tell
from reprobuild.fetch.http import REDIRECTS, follow, plain, without_query
from reprobuild.fetch.stranger_json import read_json
from reprobuild.fetch.transfer import persist, refusal

if TYPE_CHECKING:
    from reprobuild.fetch.http import Http, Response
    from reprobuild.store.transaction import Transaction

MOST_POINTER = 1024
"""Bytes; a larger blob is no pointer."""
BATCH = 100
MOST_ANSWER = 16 * 1024 * 1024
CHUNK = 1024 * 1024
TYPE = "application/vnd.git-lfs+json"
_VERSIONS = (b"version https://git-lfs.github.com/spec/v1\n", b"version https://hawser.github.com/spec/v1\n")
_OID = re.compile(rb"^oid sha256:([0-9a-f]{64})$", re.MULTILINE)
_SIZE = re.compile(rb"^size ([0-9]{1,18})$", re.MULTILINE)


_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*")


@dataclass(frozen=True, slots=True)
class Pointer:
    """What stands in a commit in place of a large file."""

    path: str
    sha256: Digest
    size: int


def parse_pointer(path: str, body: bytes) -> Pointer | None:
    """Read a pointer; None for any other file."""
    if len(body) > MOST_POINTER or not body.startswith(_VERSIONS):
        return None
    oid, size = _OID.search(body), _SIZE.search(body)
    return Pointer(path, Digest(oid[1].decode()), int(size[1])) if oid and size else None


def server_of(url: str, settings: Mapping[str, str]) -> str:
    """Give where a repository's large files are asked for; ``settings``: of its ``.lfsconfig``."""
    named = settings.get("lfs.url", "").rstrip("/")
    if named:
        if urlsplit(named).scheme not in ("http", "https"):
            raise UpstreamError(f"{plain(url)}: its .lfsconfig names {named!r}, which is no http address")
        return plain(named)
    if urlsplit(url).scheme not in ("http", "https"):
        raise UpstreamError(
            f"{url}: the large files of LFS are not in a bundle, and no .lfsconfig names a server"
        )
    base = url.rstrip("/")
    return (base if base.endswith(".git") else base + ".git") + "/info/lfs"


def bring_large(http: Http, server: str, pointers: Sequence[Pointer], group: Transaction, tell: Tell) -> None:
    """Bring the files that pointers stand for into a group, if they are not in the store.

    Raises UpstreamError, DigestMismatchError, naming the path.
    """
    wanted = {one.sha256: one for one in pointers if not group.has(one.sha256)}
    todo = list(wanted.values())
    for start in range(0, len(todo), BATCH):
        part = todo[start : start + BATCH]
        actions = persist(partial(_ask, http, server, part), wait=_wait, progress=lambda: 0)
        for pointer in part:
            href, headers = actions[pointer.sha256.hex]
            persist(
                partial(_bring, http, pointer, href, headers, group, tell),
                wait=_wait,
                progress=lambda: 0,
            )


def _ask(http: Http, server: str, pointers: Sequence[Pointer]) -> dict[str, tuple[str, dict[str, str]]]:
    """Ask where objects are: oid → address and headers (the batch API)."""
    url = f"{server}/objects/batch"
    body = json.dumps(
        {
            "operation": "download",
            "transfers": ["basic"],
            "objects": [{"oid": one.sha256.hex, "size": one.size} for one in pointers],
            "hash_algo": "sha256",
        }
    ).encode()
    fields = [("Accept", TYPE), ("Content-Type", TYPE), ("Content-Length", str(len(body)))]
    fields += [("User-Agent", "git-lfs/3.0 (reprobuild)")]
    if authorization := http.authorization(url):
        fields.append(("Authorization", authorization))
    with http.exchange("POST", url, fields, io.BytesIO(body)) as response:
        if response.status != 200:
            raise refusal(response, url)
        answer = b""
        while len(answer) <= MOST_ANSWER and (chunk := response.read(CHUNK)):
            answer += chunk
    try:
        objects = {one["oid"]: one for one in read_json(answer)["objects"]}
        found = {}
        for pointer in pointers:
            one = objects.get(pointer.sha256.hex, {})
            if "error" in one or "actions" not in one:
                reason = one.get("error", {}).get("message", "it is not there")
                raise UpstreamError(f"/{pointer.path}: {server} does not give its large file: {reason}")
            action = one["actions"]["download"]
            href = urljoin(url, action["href"])
            parts = urlsplit(href)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
                raise ValueError("no http address")
            headers = {str(name): str(value) for name, value in action.get("header", {}).items()}
            if not all(_HEADER.fullmatch(f"{name}:{value}") for name, value in headers.items()):
                raise ValueError("a header that none can be")
            found[pointer.sha256.hex] = href, headers
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UpstreamError(f"{url}: the answer is not one of a server of Git LFS: {error!r}") from None


def _bring(
    http: Http, pointer: Pointer, href: str, headers: dict[str, str], group: Transaction, tell: Tell
) -> None:
    name = pointer.path.rpartition("/")[2]
    with _opened(http, href, headers) as response, group.writer() as writer:
        if response.status != 200:
            raise refusal(response, without_query(href))
        tell(FetchStarted(name, pointer.size))
        while chunk := response.read(CHUNK):
            writer.write(chunk)
            tell(FetchProgressed(name, writer.size))
            if writer.size > pointer.size:
                break
        if (writer.digest, writer.size) != (pointer.sha256, pointer.size):
            raise DigestMismatchError(
                f"/{pointer.path}: the large file is not the one that its pointer names\n"
                f"  from      {without_query(href)}\n"
                f"  expected  {pointer.sha256}, {pointer.size:,} bytes\n"
                f"  got       {writer.digest}, {writer.size:,} bytes"
            )
        writer.commit()
        tell(FetchFinished(name, pointer.size))


@contextmanager
def _opened(http: Http, href: str, headers: dict[str, str]) -> Iterator[Response]:
    """Ask for an object; headers that its server wants (a token, say) go to that server alone."""
    if not headers:
        with http.open(href) as response:
            yield response
        return
    names = {name.lower() for name in headers}
    fields = [*headers.items(), *([] if "accept-encoding" in names else [("Accept-Encoding", "identity")])]
    with http.exchange("GET", href, fields) as response:
        location = response.headers.get("location") if response.status in REDIRECTS else None
        if location is None:
            yield response
            return
    with http.open(follow(href, location, without_query(href))) as response:
        yield response


def _wait(seconds: float) -> None:
    import time

    time.sleep(seconds)
