"""Fixed-output downloads, many at a time: into the store, verified while they stream.

Knows nothing of what kind of source wants them, nor how progress is drawn.

Threads bring bodies into partials (``fetch.partial``); the calling thread alone tells events and
commits what has arrived, as many at a time as there are. An interrupt or a failure stops all threads
and keeps what they have: the next call goes on from there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from reprobuild.digest import Digest
from reprobuild.errors import OutsideError, ReprobuildError, UpstreamError
from reprobuild.events import FetchFinished, Tell, Warned
from reprobuild.fetch.failures import mismatch, refuse_offline, worst
from reprobuild.fetch.following import Follower, Take
from reprobuild.fetch.local import copy_local
from reprobuild.fetch.partial import Partial, Stopped
from reprobuild.fetch.watch import Finished, Shared, Watch

if TYPE_CHECKING:
    from reprobuild.fetch.http import Http
    from reprobuild.fetch.transfer import Arrived, Opener, Site
    from reprobuild.settings import Settings
    from reprobuild.store.store import Store

Bring = Callable[["Download", "Store", "Settings", Tell], None]
"""Brings a download into the store, verified, in a way of its own."""

SLACK = 64 * 1024 * 1024
"""Bytes beyond four times the pinned size that are taken to find out what came instead."""


class Access(Protocol):
    """A way to prove who asks, shared by the downloads that need it."""

    def over(self, http: Http) -> Opener:
        """Give what asks by it, over connections that are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One file that is wanted."""

    name: str
    """What a person calls it: the file's name."""
    urls: tuple[str, ...]
    """Where it may be, tried in turn: http, https, or ``file:`` inside ``folder``."""
    sha256: Digest | None = None
    """Its digest, where known; else whatever comes is taken, and the first address that answers counts."""
    size: int | None = None
    """Its size in bytes, where known."""
    where: str = ""
    """Which place in which recipe wants it: ``recipes/tutorial/recipe.py:6``."""
    trusted: tuple[str, ...] = ()
    """Hosts that no recipe named but an index of the settings: their addresses need not be public."""
    access: Access | None = field(default=None, compare=False, repr=False)
    """What proves who asks, where ``netrc`` does not."""
    mend: str = ""
    """What to do where upstream changed on purpose: a command or an edit; ``{got}`` is the new digest."""
    lost: str = ""
    """What to do where no address gives it."""
    folder: Path | None = None
    """The recipe's folder, for ``file:``."""
    site: Site | None = None
    """What is peculiar about asking its first addresses' host."""
    bring: Bring | None = None
    """What brings it, where that is more than one file from one address: then ``fetch_all`` is not asked."""
    take: Take | None = field(default=None, compare=False, repr=False)
    """Reads the bytes, to their end, in a thread of its own while they arrive; then they are not kept. The
    end comes when they are found to fit the digest: what is made of them must not count before that."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A download whose bytes are in the store."""

    digest: Digest
    size: int
    url: str = ""
    """Where they came from; empty if the store had them."""
    moved_to: str = ""
    """Where the address that was asked for has moved for good, or empty."""
    received: int = 0
    """Bytes that travelled for it; 0 if the store had them."""
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Of the answer that had the last of them; names in any case."""


def fetch_all(
    store: Store,
    downloads: Sequence[Download],
    *,
    tell: Tell,
    offline: bool = False,
    jobs: int = 8,
    http: Http | None = None,
    settings: Settings | None = None,
) -> list[Fetched]:
    """Bring downloads into the store, ``jobs`` at a time; give one result for each, in order.

    ``settings``: where connections may go (``fetch.reach``), unless ``http`` says so. What the store has is
    not asked for. Raises OfflineError, naming all that is missing, where
    the network is needed and may not be used or is cut; DigestMismatchError, with the bytes kept under
    their true digest; UpstreamError where no address gives a body; RecipeError for a ``file:`` that leads
    outside its folder.
    """
    results: dict[int, Fetched] = {}
    wanted: dict[object, list[int]] = {}
    for index, download in enumerate(downloads):
        if download.sha256 is not None and store.blobs.has(download.sha256):
            results[index] = _take_kept(download, store)
        else:
            wanted.setdefault(download.sha256 or download.urls, []).append(index)
    if wanted:
        missing = [downloads[indexes[0]] for indexes in wanted.values()]
        if offline:
            refuse_offline(missing, "this run may not use the network (--offline)")
        with _Crew(store, missing, tell, http, settings, min(jobs, len(missing))) as crew:
            found = crew.work()
        for fetched, indexes in zip(found, wanted.values(), strict=True):
            results.update(dict.fromkeys(indexes, fetched))
    return [results[index] for index in range(len(downloads))]


class _Crew:
    """The threads that work on a list of downloads, and the caller's thread that commits."""

    def __init__(
        self,
        store: Store,
        downloads: Sequence[Download],
        tell: Tell,
        http: Http | None,
        settings: Settings | None,
        jobs: int,
    ) -> None:
        from reprobuild.fetch.http import Http

        self._store = store
        self._downloads = downloads
        self._tell = tell
        self._own_http = Http(os.environ, connections=jobs, settings=settings) if http is None else None
        self._http = http or self._own_http
        assert self._http is not None
        self._http.trust(host for download in downloads for host in download.trusted)
        self._shared = Shared()
        self._todo = iter(range(len(downloads)))
        self._threads = [
            threading.Thread(target=self._take_turns, name=f"fetch-{number}", daemon=True)
            for number in range(jobs)
        ]

    def __enter__(self) -> _Crew:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._shared.end()
        for thread in self._threads:
            thread.join(timeout=2.0)
        while not self._shared.messages.empty():
            message = self._shared.messages.get()
            if isinstance(message, Finished) and message.partial is not None:
                message.partial.close()
        if self._own_http is not None:
            self._own_http.close()

    def work(self) -> list[Fetched]:
        """Commit what arrives until all has; raise the first failure after committing what came with it."""
        found: dict[int, Fetched] = {}
        failure: BaseException | None = None
        while len(found) < len(self._downloads) and failure is None:
            finished = self._gather()
            self._commit([item.partial for item in finished if item.partial is not None])
            for item in finished:
                if item.fetched is not None:
                    found[item.index] = item.fetched
                    download = self._downloads[item.index]
                    self._tell(FetchFinished(download.name, item.fetched.size))
                failure = failure or item.failure
        if failure is not None:
            if getattr(failure, "network_is_cut", False):
                missing = [item for index, item in enumerate(self._downloads) if index not in found]
                refuse_offline(missing, "there is no network")
            raise failure
        return [found[index] for index in range(len(self._downloads))]

    def _gather(self) -> list[Finished]:
        """Wait for threads' messages; pass events on; give what is finished, all that is there."""
        finished: list[Finished] = []
        while not finished or not self._shared.messages.empty():
            message = self._shared.messages.get()
            if isinstance(message, Finished):
                finished.append(message)
            else:
                self._tell(message)
        return finished

    def _commit(self, partials: list[Partial]) -> None:
        if not partials:
            return
        try:
            with self._store.transaction() as group:
                for partial in partials:
                    group.adopt(partial.path, partial.digest)
            for partial in partials:
                partial.discard()
        finally:
            for partial in partials:
                partial.close()

    def _take_turns(self) -> None:
        while not self._shared.stop.is_set():
            with self._shared.lock:
                index = next(self._todo, None)
            if index is None:
                return
            try:
                self._bring(index)
            except Stopped:
                return
            except BaseException as error:  # noqa: BLE001 - handed to the calling thread, which raises it
                self._shared.messages.put(Finished(index, None, failure=error))

    def _bring(self, index: int) -> None:
        """Try a download's addresses in turn; say what came of it."""
        download = self._downloads[index]
        failures: list[ReprobuildError] = []
        for url in download.urls:
            name = download.sha256.hex if download.sha256 else "url-" + Digest.of(url.encode()).hex
            partial = Partial.open(self._store, name, lambda: self._is_needed(download))
            if partial is None:
                self._shared.messages.put(Finished(index, None, _take_kept(download, self._store)))
                return
            try:
                failure = self._bring_from(url, index, partial)
            except BaseException:
                partial.close()
                raise
            if failure is None:
                return
            failures.append(failure)
            if getattr(failure, "network_is_cut", False):
                break
        self._shared.messages.put(Finished(index, None, failure=worst(download, failures)))

    def _is_needed(self, download: Download) -> bool:
        if self._shared.stop.is_set():
            raise Stopped
        return download.sha256 is None or not self._store.blobs.has(download.sha256)

    def _bring_from(self, url: str, index: int, partial: Partial) -> ReprobuildError | None:
        """Bring a body from one address and hand it over; give what went wrong, None for nothing."""
        take = self._downloads[index].take
        follower = None if take is None else Follower(partial, take)
        try:
            return self._bring_whole(url, index, partial, follower)
        finally:
            if follower is not None:
                follower.call_off()

    def _bring_whole(
        self, url: str, index: int, partial: Partial, follower: Follower | None
    ) -> ReprobuildError | None:
        download = self._downloads[index]
        watch = Watch(self._shared, download.name, None if follower is None else follower.grown)
        before = partial.size
        try:
            arrived = self._transfer(url, download, partial, watch)
            if (
                partial.digest != download.sha256
                and download.sha256 is not None
                and 0 < before <= partial.size
            ):
                # What was there before may have been another file's beginning: once more, from nothing.
                partial.restart()
                before = 0
                arrived = self._transfer(url, download, partial, watch)
        except UpstreamError as error:
            partial.close()
            return error
        except OutsideError:
            partial.close()
            raise
        is_pinned = download.sha256 is not None
        if not is_pinned or (partial.digest == download.sha256 and download.size in (None, partial.size)):
            fetched = Fetched(
                partial.digest,
                partial.size,
                arrived.url,
                arrived.moved_to,
                max(0, partial.size - before),
                arrived.headers,
            )
            if follower is not None:
                follower.finish()
                partial.forget()
            self._shared.messages.put(Finished(index, None if follower is not None else partial, fetched))
            return None
        failure = mismatch(download, url, arrived, partial)
        if follower is not None:
            partial.forget()
        else:
            partial.set_aside()
            self._shared.messages.put(Finished(index, partial))
        if url != download.urls[-1]:
            self._shared.messages.put(Warned(failure.message, "the next address is tried"))
        return failure

    def _transfer(self, url: str, download: Download, partial: Partial, watch: Watch) -> Arrived:
        from reprobuild.fetch.transfer import ATTEMPTS, ATTEMPTS_WITH_ANOTHER, Arrived, transfer

        if download.sha256 is not None and partial.size and partial.digest == download.sha256:
            watch.begin(partial.size)
            return Arrived("")
        if url.startswith("file:"):
            copy_local(url, download, partial, watch)
            return Arrived(url)
        assert self._http is not None
        if download.size is not None and partial.size >= download.size:
            partial.restart()
        most = None if download.size is None else 4 * download.size + SLACK
        return transfer(
            self._http if download.access is None else download.access.over(self._http),
            url,
            partial,
            watch,
            size=download.size,
            is_pinned=download.sha256 is not None,
            most=most,
            attempts=ATTEMPTS if url == download.urls[-1] else ATTEMPTS_WITH_ANOTHER,
            site=download.site,
        )


def _take_kept(download: Download, store: Store) -> Fetched:
    """Give a download that the store has, which may have to be read."""
    assert download.sha256 is not None
    if download.take is not None:
        with store.blobs.open(download.sha256) as file:
            download.take(file)
    return Fetched(download.sha256, store.blobs.size(download.sha256))
