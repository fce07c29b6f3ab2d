"""What tests of downloads share: a body, and how it is asked for."""

from __future__ import annotations

import os
import threading

from reprobuild.digest import Digest
from reprobuild.events import Event, ignore
from reprobuild.fetch.download import Download, Fetched, fetch_all
from reprobuild.fetch.http import Http
from reprobuild.store.store import Store
from tests.misbehaving import Answer

BODY = os.urandom(2_000_000)
DIGEST = Digest.of(BODY)
OTHER = os.urandom(1_500_000)
NOWHERE = Digest.of(b"nowhere")
EPOCH = "Thu, 01 Jan 1970 00:00:00 GMT"
TROUBLES = {
    "503 twice": [Answer(status=503), Answer(status=503), Answer(BODY)],
    "429 with Retry-After": [Answer(status=429, headers={"Retry-After": "0"}), Answer(BODY)],
    "429 with a date": [Answer(status=429, headers={"Retry-After": EPOCH}), Answer(BODY)],
    "no answer": [Answer(is_silent=True), Answer(BODY)],
    "chunked": [Answer(BODY, is_chunked=True)],
    "chunked and cut": [Answer(BODY, is_chunked=True, cut_after=100_000), Answer(BODY)],
    "cut without a length": [Answer(BODY, has_length=False, cut_after=100_000), Answer(BODY)],
    "cut, and no ranges": [Answer(BODY, cut_after=100_000), Answer(BODY, ranges=False)],
    "a length that is too large": [Answer(BODY, length=len(BODY) + 5), Answer(BODY)],
    "three cuts": [*(Answer(BODY, cut_after=100_000) for _ in range(3)), Answer(BODY)],
}  # fmt: skip


def wanted(
    *urls: str, sha256: Digest | None = DIGEST, size: int | None = None, where: str = "", mend: str = ""
) -> Download:
    return Download(name="model.bin", urls=urls, sha256=sha256, size=size, where=where, mend=mend)


def bring(
    store: Store, *downloads: Download, http: Http | None = None, events: list[Event] | None = None
) -> Fetched:
    tell = ignore if events is None else events.append
    results = fetch_all(store, downloads, tell=tell, http=http)
    assert len(results) == len(downloads)
    return results[0]


def partials(store: Store) -> list[str]:
    folder = store.root / "tmp/partial"
    return sorted(os.listdir(folder)) if folder.exists() else []


def wait_for(event: threading.Event) -> None:
    assert event.wait(60)
