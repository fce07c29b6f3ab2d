"""Downloads that end up in the store, whatever happens on the way."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.errors import DigestMismatchError, OfflineError, ReprobuildError, UpstreamError
from reprobuild.events import Event, FetchFinished, FetchProgressed, FetchStarted, ignore
from reprobuild.fetch.download import Download, Fetched, fetch_all
from reprobuild.store.store import Store
from tests.downloads import BODY, DIGEST, NOWHERE, OTHER, TROUBLES, bring, partials, wait_for, wanted
from tests.misbehaving import Answer, Misbehaving
from tests.require import require
from tests.servers import free_port, nginx

pytestmark = pytest.mark.once


def test_a_download_ends_up_in_the_store_and_is_told(server: Misbehaving, store: Store) -> None:
    server.answers["/f"] = [Answer(BODY)]
    events: list[Event] = []
    fetched = bring(store, wanted(f"{server.url}/f"), events=events)
    assert fetched == Fetched(DIGEST, len(BODY), f"{server.url}/f", "", len(BODY))
    assert store.blobs.read(DIGEST) == BODY
    assert events[0] == FetchStarted("model.bin", len(BODY))
    assert events[-1] == FetchFinished("model.bin", len(BODY))
    assert all(isinstance(event, FetchProgressed) for event in events[1:-1])
    assert partials(store) == []


def test_what_the_store_has_is_not_asked_for(server: Misbehaving, store: Store) -> None:
    server.answers["/f"] = [Answer(BODY)]
    bring(store, wanted(f"{server.url}/f"))
    again = bring(store, wanted(f"{server.url}/f"))
    assert (again, len(server.requests)) == (Fetched(DIGEST, len(BODY)), 1)


def test_one_digest_is_asked_for_once(server: Misbehaving, store: Store) -> None:
    server.answers["/f"] = server.answers["/g"] = [Answer(BODY)]
    bring(store, wanted(f"{server.url}/f"), wanted(f"{server.url}/g"))
    assert len(server.requests) == 1


def test_many_at_a_time_come_back_in_order(server: Misbehaving, store: Store) -> None:
    bodies = [os.urandom(5000 + number) for number in range(40)]
    downloads = []
    for number, body in enumerate(bodies):
        server.answers[f"/{number}"] = [Answer(body)]
        downloads.append(wanted(f"{server.url}/{number}", sha256=Digest.of(body) if number % 2 else None))
    found = fetch_all(store, downloads, tell=ignore)
    assert [one.digest for one in found] == [Digest.of(body) for body in bodies]


def test_the_request_asks_for_the_bytes_as_they_are(server: Misbehaving, store: Store) -> None:
    server.answers["/f"] = [Answer(BODY, headers={"Content-Encoding": "gzip"})]
    assert bring(store, wanted(f"{server.url}/f")).digest == DIGEST
    (request,) = server.requests
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"].startswith("reprobuild/")


@pytest.mark.parametrize("answers", TROUBLES.values(), ids=TROUBLES)
def test_what_passes_is_waited_for(server: Misbehaving, store: Store, answers: Sequence[Answer]) -> None:
    server.answers["/f"] = list(answers)
    assert bring(store, wanted(f"{server.url}/f", size=len(BODY))).digest == DIGEST
    assert store.blobs.read(DIGEST) == BODY


def test_a_cut_body_goes_on_where_it_was_cut(server: Misbehaving, store: Store) -> None:
    server.answers["/f"] = [Answer(BODY, etag='"1"', cut_after=1_200_000), Answer(BODY, etag='"1"')]
    bring(store, wanted(f"{server.url}/f", sha256=None))
    assert server.requests[1].headers["range"] == "bytes=1200000-"
    assert server.requests[1].headers["if-range"] == '"1"'
    assert server.sent == len(BODY)


def test_a_file_that_changed_meanwhile_is_taken_from_its_beginning(server: Misbehaving, store: Store) -> None:
    server.answers["/f"] = [Answer(BODY, etag='"1"', cut_after=1_200_000), Answer(OTHER, etag='"2"')]
    fetched = bring(store, wanted(f"{server.url}/f", sha256=None))
    assert store.blobs.read(fetched.digest) == OTHER


def test_without_a_validator_an_unpinned_file_is_taken_from_its_beginning(
    server: Misbehaving, store: Store
) -> None:
    server.answers["/f"] = [Answer(BODY, cut_after=1_200_000), Answer(OTHER)]
    fetched = bring(store, wanted(f"{server.url}/f", sha256=None))
    assert store.blobs.read(fetched.digest) == OTHER
    assert "range" not in server.requests[1].headers


def test_a_partial_of_something_else_costs_one_more_request(server: Misbehaving, store: Store) -> None:
    store.partial(DIGEST.hex).write_bytes(b"another file's beginning")
    server.answers["/f"] = [Answer(BODY)]
    assert bring(store, wanted(f"{server.url}/f", size=len(BODY))).digest == DIGEST
    assert [request.headers.get("range") for request in server.requests] == ["bytes=24-", None]


def test_a_whole_partial_needs_no_network(store: Store) -> None:
    store.partial(DIGEST.hex).write_bytes(BODY)
    assert bring(store, wanted(f"http://127.0.0.1:{free_port()}/f")).received == 0
    assert store.blobs.read(DIGEST) == BODY


def test_an_interrupt_keeps_what_has_come(server: Misbehaving, store: Store) -> None:
    come = threading.Event()
    server.answers["/f"] = [Answer(BODY, gate=lambda sent: wait_for(come) if sent > 1_000_000 else None),
                            Answer(BODY)]  # fmt: skip

    def interrupt(event: Event) -> None:
        if isinstance(event, FetchProgressed):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_all(store, [wanted(f"{server.url}/f")], tell=interrupt)
    come.set()
    assert partials(store) == [DIGEST.hex]
    kept = store.partial(DIGEST.hex).stat().st_size
    assert kept > 0
    assert bring(store, wanted(f"{server.url}/f")).received == len(BODY) - kept
    assert server.requests[1].headers["range"] == f"bytes={kept}-"


def test_two_at_once_share_one_download(server: Misbehaving, store: Store) -> None:
    started, may_end = threading.Event(), threading.Event()

    def gate(sent: int) -> None:
        started.set()
        wait_for(may_end)

    server.answers["/f"] = [Answer(BODY, gate=gate)]
    results: list[Fetched] = []
    both = [
        threading.Thread(target=lambda: results.append(bring(store, wanted(f"{server.url}/f")))) for _ in "12"
    ]
    both[0].start()
    wait_for(started)
    both[1].start()
    may_end.set()
    for thread in both:
        thread.join()
    assert [one.digest for one in results] == [DIGEST, DIGEST]
    assert server.sent == len(BODY)


# What ends badly, and how it is said.

FAILURES: dict[str, tuple[Answer, str, int]] = {
    "404": (Answer(status=404), "the server answers 404", 1),
    "403": (Answer(status=403), "the server answers 403", 1),
    "500 always": (Answer(status=500, headers={"Retry-After": "0"}), r"500 .*\(asked 5 times\)", 5),
    "429 for a day": (Answer(status=429, headers={"Retry-After": "86400"}), "the server answers 429", 1),
    "redirects without end": (
        Answer(status=302, headers={"Location": "/f"}), "redirects more than 10 times", 11),
    "redirect to a file": (
        Answer(status=302, headers={"Location": "file:///etc/passwd"}), "which is no http address", 1),
    "far too large": (Answer(bytes(70_000_000)), "sends more than", 1),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "message", "requests"), FAILURES.values(), ids=FAILURES)
def test_what_a_server_does_not_give_is_an_error_of_the_outside(
    server: Misbehaving, store: Store, answer: Answer, message: str, requests: int
) -> None:
    server.answers["/f"] = [answer]
    with pytest.raises(UpstreamError, match=message) as caught:
        bring(store, wanted(f"{server.url}/f", size=100, where="recipes/x/recipe.py:7"))
    assert caught.value.exit_code == 5
    assert caught.value.message.startswith("recipes/x/recipe.py:7: model.bin: ")
    assert len(server.requests) == requests


def test_nobody_at_the_address(store: Store) -> None:
    port = free_port()
    with pytest.raises(UpstreamError, match=f"no connection to 127.0.0.1:{port}: Connection refused"):
        bring(store, wanted(f"http://127.0.0.1:{port}/f"))


def test_wrong_bytes_are_shown_and_kept(server: Misbehaving, store: Store) -> None:
    page = b"<!DOCTYPE html><title>Quota exceeded</title>"
    server.answers["/f"] = [Answer(page, headers={"Content-Type": "text/html"})]
    with pytest.raises(DigestMismatchError) as caught:
        bring(
            store, wanted(f"{server.url}/f", size=5, where="recipes/x/recipe.py:7", mend="write {got} there")
        )
    assert caught.value.exit_code == 4
    assert caught.value.message.splitlines() == [
        "recipes/x/recipe.py:7: model.bin: the bytes are not the pinned ones",
        f"  from      {server.url}/f",
        f"  expected  {DIGEST}, 5 bytes",
        f"  got       {Digest.of(page)}, 44 bytes (kept in the store)",
        "  this is an HTML page with the title 'Quota exceeded'",
        "  it speaks of a quota: the host gives this file again later, or never; a mirror helps",
    ]
    assert caught.value.hint == f"write {Digest.of(page).hex} there"
    assert store.blobs.read(Digest.of(page)) == page
    assert bring(store, wanted(f"{server.url}/f", sha256=Digest.of(page))).received == 0
    assert partials(store) == []


def test_a_wrong_size_of_a_right_digest_is_no_right_pin(server: Misbehaving, store: Store) -> None:
    server.answers["/f"] = [Answer(BODY)]
    with pytest.raises(DigestMismatchError, match="the digest is right, and the pinned size is not"):
        bring(store, wanted(f"{server.url}/f", size=len(BODY) + 1))


def test_what_came_before_a_failure_is_in_the_store(server: Misbehaving, store: Store) -> None:
    server.answers["/f"] = [Answer(BODY)]
    with pytest.raises(UpstreamError):
        fetch_all(
            store,
            [wanted(f"{server.url}/f"), wanted(f"{server.url}/gone", sha256=NOWHERE)],
            tell=ignore,
            jobs=1,
        )
    assert store.blobs.has(DIGEST)


def test_offline_names_what_is_needed_from_where(server: Misbehaving, store: Store) -> None:
    downloads = [
        Download(name=f"f{number}", urls=(f"https://example.org/{number}",), sha256=Digest.of(b"%d" % number),
                 size=1000, where=f"recipe.py:{number}")
        for number in range(12)
    ]  # fmt: skip
    with pytest.raises(OfflineError) as caught:
        fetch_all(store, downloads, tell=ignore, offline=True)
    assert caught.value.exit_code == 5
    lines = caught.value.message.splitlines()
    assert lines[0].endswith("12 files are needed from it:")
    assert lines[1] == "  f0 (1,000 bytes) from https://example.org/0, for recipe.py:0"
    assert lines[-1] == "  and 2 more"
    assert len(lines) == 12


NO_NETWORK = """
import sys
from reprobuild.errors import OfflineError
from reprobuild.events import ignore
from reprobuild.fetch.download import Download, fetch_all
from reprobuild.fetch.document import get
from reprobuild.digest import Digest
from reprobuild.store.store import Store
try:
    get("https://example.org/index")
except OfflineError as error:
    print(error.message)
downloads = [Download(name="a", urls=("https://example.org/a",), sha256=Digest.of(b"a")),
             Download(name="b", urls=("http://192.0.2.1/b", "https://example.net/b"), sha256=Digest.of(b"b"))]
try:
    fetch_all(Store.open(sys.argv[1]), downloads, tell=ignore)
except OfflineError as error:
    print(error.message)
"""


def test_a_cut_network_is_told_from_a_server_that_fails(tmp_path: Path) -> None:
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        sys.executable,
        "-c",
        NO_NETWORK,
        str(tmp_path / "s"),
    ]
    probe = subprocess.run([*command[:4], "true"], capture_output=True, check=False)
    require("unshare", "" if probe.returncode == 0 else "no network namespaces for this user")
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert found.stderr == ""
    assert found.stdout.splitlines() == [
        "there is no network, and https://example.org/index is needed from it",
        "there is no network, and 2 files are needed from it:",
        "  a from https://example.org/a",
        "  b from http://192.0.2.1/b",
    ]


# A real server.


def test_nginx_resumes(store: Store, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    body = os.urandom(20_000_000)
    (tmp_path / "web/big").write_bytes(body)
    with nginx(tmp_path, tmp_path / "web") as address:
        first = bring(store, wanted(f"{address}/big", sha256=None))
        store.partial(NOWHERE.hex).unlink(missing_ok=True)
        store.blobs.path(first.digest).unlink()
        store.partial(first.digest.hex).write_bytes(body[:15_000_000])
        again = bring(store, wanted(f"{address}/big", sha256=first.digest, size=len(body)))
    assert (first.received, again.received) == (20_000_000, 5_000_000)
    assert store.blobs.read(first.digest) == body


def test_errors_travel_with_their_kind(store: Store) -> None:
    with pytest.raises(ReprobuildError, match="has no address to fetch it from"):
        bring(store, wanted())
