"""Small documents that resolvers read: index pages, release files, answers of an API.

Knows nothing of what is in them. Bytes stay in memory, up to a limit; nothing is kept.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprobuild.errors import OfflineError, UpstreamError
from reprobuild.fetch.http import Http, UnreachableError, plain
from reprobuild.fetch.transfer import ATTEMPTS, Opener, Site, persist, refusal
from reprobuild.fetch.transfer import ask as ask_site

if TYPE_CHECKING:
    from reprobuild.settings import Settings

LIMIT = 64 * 1024 * 1024
"""Bytes of a document unless its caller says otherwise."""
MISSING = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Document:
    """What a server answered, with what lets one ask whether it is still the same."""

    url: str
    """Where it came from at last, redirects followed."""
    body: bytes
    content_type: str = ""
    etag: str = ""
    last_modified: str = ""
    following: str = ""
    """The next page of a listing (``Link: …; rel="next"``, RFC 8288), as it was written."""


def get(
    url: str,
    *,
    http: Opener | None = None,
    limit: int = LIMIT,
    headers: Mapping[str, str] | None = None,
    known: Document | None = None,
    is_optional: bool = False,
    offline: bool = False,
    settings: Settings | None = None,
    site: Site | None = None,
    attempts: int = ATTEMPTS,
) -> Document | None:
    """Fetch a document; give ``known`` itself where the server says that it has not changed.

    ``limit``: bytes it may have; ``headers``: an Accept, say; ``is_optional``: None for a document
    that is not there (404, 410), instead of an error; ``settings``: where connections may go, unless
    ``http`` says so; ``site``: how its host is asked; ``attempts``: before
    it counts as failed. Raises OfflineError where the network may not be used or is cut, UpstreamError for
    all else that goes wrong.
    """
    if offline:
        raise _offline(url, "this run may not use the network (--offline)")
    if http is None:
        with Http(os.environ, connections=1, settings=settings) as own:
            return get(
                url,
                http=own,
                limit=limit,
                headers=headers,
                known=known,
                is_optional=is_optional,
                site=site,
                attempts=attempts,
            )
    fields = dict(headers or {})
    if known is not None and known.etag:
        fields["If-None-Match"] = known.etag
    elif known is not None and known.last_modified:
        fields["If-Modified-Since"] = known.last_modified
    client = http

    def ask() -> Document | None:
        with ask_site(client, url, fields, site) as response:
            if response.status == 304 and known is not None:
                return known
            if response.status in MISSING and is_optional:
                return None
            if response.status != 200:
                raise refusal(response, url)
            parts, size = [], 0
            while chunk := response.read(256 * 1024):
                parts.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise UpstreamError(f"{plain(url)} is larger than {limit:,} bytes")
            return Document(
                url=response.url,
                body=b"".join(parts),
                content_type=response.headers.get("content-type", ""),
                etag=response.headers.get("etag", ""),
                last_modified=response.headers.get("last-modified", ""),
                following=_following(response.headers.get("link", "")),
            )

    try:
        return persist(ask, wait=time.sleep, progress=lambda: 0, attempts=attempts)
    except UnreachableError as error:
        if error.network_is_cut:
            raise _offline(url, "there is no network") from None
        raise


def _following(link: str) -> str:
    match = re.search(r"<([^>]*)>\s*;[^,]*\brel=\"?next\b", link)
    return match[1] if match else ""


def _offline(url: str, why: str) -> OfflineError:
    return OfflineError(
        f"{why}, and {plain(url)} is needed from it", "run the same command once with the network"
    )
