"""Pin a ``hub`` step: what a revision holds, and the sha256 of each file that is wanted.

The hub's own digests (git's sha1 of a blob, sha256 of a large file) are checked against what came, and kept
as the entity tags that libraries name their cache by. Knows nothing of layouts.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urljoin

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Hub
from reprobuild.digest import BUFFER_SIZE, Digest
from reprobuild.errors import DigestMismatchError, RecipeError, UpstreamError
from reprobuild.fetch import document
from reprobuild.fetch.download import Download, fetch_all
from reprobuild.fetch.http import Http
from reprobuild.fetch.hub import HubSite, address, endpoints
from reprobuild.fetch.stranger_json import read_json
from reprobuild.lock.resolver import Context
from reprobuild.store.store import Store

MOST_PAGES = 1000
"""Of a revision's listing; each has some thousand files."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A file as the hub lists it."""

    path: str
    size: int
    oid: str
    """git's sha1 of the blob: of the file itself, or of the pointer to a large one."""
    sha256: str = ""
    """Of a large file."""

    @property
    def etag(self) -> str:
        """What the hub gives as the file's entity tag, without quotes."""
        return self.sha256 or self.oid


def resolve(step: Hub, context: Context) -> tuple[Pin, ...]:
    """Give a pin for each file of the revision that the step wants, sorted; they are in the store then.

    Raises RecipeError for files that are not there, UpstreamError and OfflineError where something cannot
    be had, DigestMismatchError for bytes that are not what the hub itself says.
    """
    hubs = endpoints(step, context.settings)
    with Http(os.environ, connections=context.settings.jobs, settings=context.settings) as http:
        files = select(step, _list(step, hubs, http))
        fetched = fetch_all(
            context.store,
            [
                Download(
                    name=f"{step.repository}/{file.path}",
                    urls=tuple(address(hub, step, file.path) for hub in hubs),
                    sha256=Digest(file.sha256) if file.sha256 else None,
                    size=file.size,
                    where=str(step.where),
                    mend="the hub says another digest than its bytes have: ask again, or another mirror",
                    site=HubSite(),
                )
                for file in files
            ],
            tell=context.tell,
            jobs=context.settings.jobs,
            http=http,
        )
    for file, one in zip(files, fetched, strict=True):
        if not file.sha256 and (found := git_blob(context.store, one.digest)) != file.oid:
            raise DigestMismatchError(
                f"{step.where}: {step.repository}/{file.path}: the bytes are not the hub's: as a git blob "
                f"they are {found}, {one.size:,} bytes; the hub says {file.oid}, {file.size:,} bytes",
                "ask again: a proxy or a mirror gave something else",
            )
    return tuple(
        Pin(name=file.path, size=one.size, sha256=one.digest, hashed={"etag": file.etag})
        for file, one in zip(files, fetched, strict=True)
    )


def select(step: Hub, listed: Sequence[Listed]) -> list[Listed]:
    """Give the files that a step names by path or pattern, all of them where it names none."""
    if not step.files:
        return list(listed)
    paths = [file.path for file in listed]
    chosen: set[str] = set()
    for pattern in step.files:
        wanted = pattern + "*" if pattern.endswith("/") else pattern
        found = [path for path in paths if path == wanted or fnmatchcase(path, wanted)]
        if not found:
            close = difflib.get_close_matches(pattern, paths) or sorted(paths)[:10]
            raise RecipeError(
                f"{step.where}: {step.title}: it has no file {pattern!r}", f"it has {', '.join(close)}"
            )
        chosen.update(found)
    return [file for file in listed if file.path in chosen]


def git_blob(store: Store, digest: Digest) -> str:
    """Give git's sha1 of a blob of the store."""
    hasher = hashlib.sha1(b"blob %d\0" % store.blobs.size(digest), usedforsecurity=False)
    with store.blobs.open(digest) as file:
        while chunk := file.read(BUFFER_SIZE):
            hasher.update(chunk)
    return hasher.hexdigest()


def _list(step: Hub, hubs: Sequence[str], http: Http) -> list[Listed]:
    """Ask one hub after another what a revision holds; give it sorted by path."""
    failures: list[UpstreamError] = []
    for hub in hubs:
        try:
            return sorted(_list_of(step, hub, http), key=lambda file: file.path)
        except UpstreamError as error:
            failures.append(error)
    first = failures[0]
    others = [f"  also tried: {error.message}" for error in failures[1:]]
    message = "\n".join([f"{step.where}: {step.title}: {first.message}", *others])
    raise UpstreamError(message, first.hint)


def _list_of(step: Hub, hub: str, http: Http) -> list[Listed]:
    found: list[Listed] = []
    url = f"{hub}/api/{step.repository_kind}s/{step.repository}/tree/{step.revision}?recursive=true"
    for _ in range(MOST_PAGES):
        page = document.get(url, http=http, site=HubSite())
        assert page is not None
        try:
            found += [_listed(entry) for entry in read_json(page.body) if entry["type"] == "file"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UpstreamError(
                f"{url}: not the listing of a revision: {type(error).__name__}: {error}",
                "a hub that speaks Hugging Face's API is needed",
            ) from None
        if not page.following:
            return found
        try:
            url = urljoin(url, page.following)
        except ValueError:
            raise UpstreamError(f"{url}: the listing goes on at what is no address") from None
        if not url.startswith(hub + "/"):
            raise UpstreamError(f"{hub}: its listing goes on at another host, {url}")
    raise UpstreamError(f"{url}: the listing has no end")


def _listed(entry: dict[str, object]) -> Listed:
    large = entry.get("lfs")
    sha256 = str(large["oid"]).removeprefix("sha256:") if isinstance(large, dict) else ""
    size = large["size"] if isinstance(large, dict) else entry["size"]
    path, oid = entry["path"], entry["oid"]
    if not isinstance(path, str) or not isinstance(oid, str) or not isinstance(size, int):
        raise ValueError("a field of the wrong type")
    path.encode()  # JSON can say what no text is
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"the path {path!r}")
    if not re.fullmatch(r"[0-9a-f]{40}", oid) or not re.fullmatch(r"([0-9a-f]{64})?", sha256):
        raise ValueError(f"the digest of {path!r}")
    return Listed(path, size, oid, sha256)
