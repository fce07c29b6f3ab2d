"""Downloads that are read while they arrive, and not kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from reprobuild.errors import CheckFailedError, DigestMismatchError
from reprobuild.events import Event, FetchProgressed, ignore
from reprobuild.fetch.download import Download, Fetched, fetch_all
from reprobuild.store.store import Store
from tests.downloads import BODY, DIGEST, OTHER, TROUBLES, partials, wait_for
from tests.misbehaving import Answer, Misbehaving

pytestmark = pytest.mark.once


class Reader:
    """Reads a file to its end, and remembers what it read each time."""

    def __init__(self) -> None:
        self.whole: list[bytes] = []
        self.begun: list[bytes] = []
        self.has_begun = threading.Event()

    def __call__(self, file: Any) -> None:
        head = file.read(6)
        file.seek(-len(head), os.SEEK_CUR)
        parts = []
        while chunk := file.read(100_000):
            parts.append(chunk)
            self.begun.append(chunk[:1])
            self.has_begun.set()
        self.whole.append(b"".join(parts))


def bring(store: Store, take: Any, *urls: str) -> Fetched:
    wanted = Download(name="layer", urls=urls, sha256=DIGEST, size=len(BODY), take=take)
    (fetched,) = fetch_all(store, [wanted], tell=ignore)
    return fetched


@pytest.mark.parametrize("answers", TROUBLES.values(), ids=TROUBLES)
def test_the_reader_gets_the_whole_once(server: Misbehaving, store: Store, answers: Sequence[Answer]) -> None:
    server.answers["/f"] = list(answers)
    reader = Reader()
    assert bring(store, reader, f"{server.url}/f").digest == DIGEST
    assert reader.whole == [BODY]
    assert partials(store) == []
    assert list(store.blobs) == []


def test_bytes_are_read_before_the_last_have_come(server: Misbehaving, store: Store) -> None:
    reader = Reader()
    server.answers["/f"] = [
        Answer(BODY, gate=lambda sent: wait_for(reader.has_begun) if sent > 1_500_000 else None)
    ]
    bring(store, reader, f"{server.url}/f")
    assert reader.whole == [BODY]


def test_the_end_of_wrong_bytes_is_never_read(server: Misbehaving, store: Store) -> None:
    server.answers["/f"] = [Answer(OTHER)]
    reader = Reader()
    with pytest.raises(DigestMismatchError) as caught:
        bring(store, reader, f"{server.url}/f")
    assert reader.whole == []
    assert "kept" not in caught.value.message
    assert partials(store) == []


def test_the_reader_begins_anew_with_the_next_address(server: Misbehaving, store: Store) -> None:
    server.answers["/a"], server.answers["/b"] = [Answer(OTHER)], [Answer(BODY)]
    reader = Reader()
    bring(store, reader, f"{server.url}/a", f"{server.url}/b")
    assert reader.whole == [BODY]


def test_the_reader_begins_anew_where_the_first_bytes_were_another_s(
    server: Misbehaving, store: Store
) -> None:
    store.partial(DIGEST.hex).write_bytes(OTHER[:700_000])
    server.answers["/f"] = [Answer(BODY)]
    reader = Reader()
    bring(store, reader, f"{server.url}/f")
    assert reader.whole == [BODY]
    assert [request.headers.get("range") for request in server.requests] == ["bytes=700000-", None]


def test_what_came_before_an_interrupt_is_read_and_not_fetched_again(
    server: Misbehaving, store: Store
) -> None:
    come = threading.Event()
    server.answers["/f"] = [
        Answer(BODY, gate=lambda sent: wait_for(come) if sent > 1_000_000 else None),
        Answer(BODY),
    ]

    def interrupt(event: Event) -> None:
        if isinstance(event, FetchProgressed):
            raise KeyboardInterrupt

    reader = Reader()
    wanted = Download(name="layer", urls=(f"{server.url}/f",), sha256=DIGEST, take=reader)
    with pytest.raises(KeyboardInterrupt):
        fetch_all(store, [wanted], tell=interrupt)
    come.set()
    assert reader.whole == []
    kept = store.partial(DIGEST.hex).stat().st_size
    assert bring(store, reader, f"{server.url}/f").received == len(BODY) - kept
    assert reader.whole == [BODY]


def test_a_whole_partial_is_read_without_a_network(store: Store) -> None:
    store.partial(DIGEST.hex).write_bytes(BODY)
    reader = Reader()
    assert bring(store, reader, "http://127.0.0.1:9/f").received == 0
    assert reader.whole == [BODY]


def test_what_the_store_has_is_read_from_there(server: Misbehaving, store: Store) -> None:
    with store.transaction() as group:
        group.add_bytes(BODY)
    reader = Reader()
    assert bring(store, reader, f"{server.url}/f") == Fetched(DIGEST, len(BODY))
    assert (reader.whole, server.requests) == ([BODY], [])


@pytest.mark.parametrize("after", [0, 1_000_000, len(BODY)], ids=["at once", "in the middle", "at the end"])
def test_a_reader_that_fails_ends_the_download(server: Misbehaving, store: Store, after: int) -> None:
    server.answers["/f"] = [Answer(BODY)]

    def fail(file: Any) -> None:
        left = after
        while left and (chunk := file.read(min(left, 50_000))):
            left -= len(chunk)
        raise CheckFailedError("no layer")

    with pytest.raises(CheckFailedError, match="no layer"):
        bring(store, fail, f"{server.url}/f")
    assert len(server.requests) == 1
    assert list(store.blobs) == []
