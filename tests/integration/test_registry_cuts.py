"""Pushes, and pulls, that are cut, refused for a while, or too large: what is tried again, and how."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from reprobuild.digest import Digest
from reprobuild.errors import UpstreamError
from reprobuild.events import PushProgressed
from tests.base_images import sha256
from tests.pushing import MEBIBYTE, Pusher, noise, source, stopping
from tests.sites.push import Fault, PushSite
from tests.sites.registry import failure
from tests.upstreams import Answer, Upstreams

pytestmark = pytest.mark.once

LARGE = noise(3 * MEBIBYTE + 12_345)
DIGEST = Digest.of(LARGE)


def stored(site: PushSite, repository: str = "x/y") -> bytes | None:
    return site.blobs.get(repository, {}).get(str(DIGEST))


def busy(status: int, wait: str = "0") -> Answer:
    return failure(status, "UNKNOWN", "come again", **{"Retry-After": wait})


CUTS = [
    pytest.param(Fault("HEAD", "/blobs/", is_answer_lost=True), len(LARGE), id="when the blob is looked for"),
    pytest.param(Fault("POST", is_answer_lost=True), len(LARGE), id="when the upload begins"),
    pytest.param(Fault("PATCH", cut_after=500_000), None, id="in the first chunk"),
    pytest.param(Fault("PATCH", cut_after=500_000, after=2), None, id="in the third chunk"),
    pytest.param(Fault("PATCH", cut_after=0, after=1), None, id="before a chunk"),
    pytest.param(Fault("PATCH", is_answer_lost=True), None, id="after a chunk"),
    pytest.param(Fault("PUT", is_answer_lost=True), len(LARGE), id="at the end"),
    pytest.param(Fault("PATCH", answer=busy(500)), None, id="500"),
    pytest.param(Fault("PATCH", answer=busy(429), count=3), None, id="429"),
    pytest.param(Fault("POST", answer=busy(503), count=2), len(LARGE), id="503"),
    pytest.param(Fault("PUT", answer=busy(502)), len(LARGE), id="502 at the end"),
    pytest.param(Fault("PATCH", early=busy(429), after=1), None, id="429 before the body"),
]


@pytest.mark.parametrize(("fault", "received"), CUTS)
def test_a_push_goes_on_from_what_arrived(
    site: PushSite, pusher: Pusher, fault: Fault, received: int | None
) -> None:
    most = len(LARGE) + fault.count * MEBIBYTE
    site.faults.append(fault)
    with pusher.repository() as repository:
        sent = repository.push_blob(source(LARGE))
    assert stored(site) == LARGE
    assert fault.count == 0
    assert sent >= len(LARGE)
    assert site.received == received if received is not None else site.received <= most


@pytest.mark.parametrize("after", [0, 2])
def test_an_upload_that_a_cut_ends_is_begun_anew(site: PushSite, pusher: Pusher, after: int) -> None:
    site.keeps_cut = False
    site.faults.append(Fault("PATCH", cut_after=500_000, after=after))
    with pusher.repository() as repository:
        repository.push_blob(source(LARGE))
    assert stored(site) == LARGE
    assert site.received == len(LARGE) + 500_000 + after * MEBIBYTE


def test_a_small_blob_goes_in_one_request_and_again_when_it_is_cut(site: PushSite, pusher: Pusher) -> None:
    site.faults.append(Fault("PUT", cut_after=1000))
    body = noise(5000)
    with pusher.repository() as repository:
        repository.push_blob(source(body))
    assert site.blobs["x/y"] == {sha256(body): body}
    assert site.received == 6000


def test_a_registry_that_is_cut_off_again_and_again_is_given_up(site: PushSite, pusher: Pusher) -> None:
    fault = Fault("PATCH", cut_after=0, count=10**6)
    site.faults.append(fault)
    with pusher.repository() as repository, pytest.raises(UpstreamError, match=r"\(asked 5 times\)"):
        repository.push_blob(source(LARGE))
    assert 10**6 - fault.count == 5


def test_one_that_takes_a_little_each_time_is_not_given_up(site: PushSite, pusher: Pusher) -> None:
    site.faults.append(Fault("PATCH", cut_after=200_000, count=8))
    with pusher.repository() as repository:
        repository.push_blob(source(LARGE))
    assert stored(site) == LARGE
    assert site.received == len(LARGE)


def test_an_interrupted_push_goes_on_in_another_process_where_the_server_kept_it(
    site: PushSite, pusher: Pusher
) -> None:
    with pusher.repository() as repository, pytest.raises(KeyboardInterrupt):
        repository.push_blob(stopping(LARGE, 2 * MEBIBYTE + 500_000, KeyboardInterrupt()))
    with pusher.repository() as repository:
        assert repository.push_blob(source(LARGE)) <= len(LARGE) - 2 * MEBIBYTE
    assert stored(site) == LARGE
    assert site.received == len(LARGE)
    assert list((pusher.folder / "store" / "tmp" / "partial").glob("push-*")) == []


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(failure(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown"), id="expired"),
        pytest.param(Answer(b"", 204, {"Range": "bytes 5"}), id="nonsense"),
        pytest.param(Answer(b"", 204, {"Range": "0-999999999"}), id="more than there is"),
        pytest.param(Answer(is_cut=True), id="cut"),
    ],
)
def test_an_upload_that_cannot_be_taken_up_is_begun_anew(
    site: PushSite, pusher: Pusher, answer: Answer
) -> None:
    with pusher.repository() as repository, pytest.raises(KeyboardInterrupt):
        repository.push_blob(stopping(LARGE, 2 * MEBIBYTE, KeyboardInterrupt()))
    site.faults.append(Fault("GET", "/uploads/", answer=answer))
    with pusher.repository() as repository:
        assert repository.push_blob(source(LARGE)) == len(LARGE)
    assert stored(site) == LARGE


def test_an_upload_that_expires_on_the_way_is_begun_anew_once(site: PushSite, pusher: Pusher) -> None:
    gone = failure(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
    site.faults.append(Fault("PATCH", answer=gone, after=1))
    with pusher.repository() as repository:
        repository.push_blob(source(LARGE))
    assert stored(site) == LARGE
    site.faults.append(Fault("PATCH", answer=gone, count=100))
    with (
        pusher.repository("x/z", remembers=False) as repository,
        pytest.raises(UpstreamError, match="404 for x/z: it does not know the upload any more") as caught,
    ):
        repository.push_blob(source(LARGE))
    assert "load balancer" in caught.value.hint
    assert site.faults[-1].count == 98


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_server_that_falls_silent_is_asked_again(
    site: PushSite, pusher: Pusher, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("reprobuild.registry.upload.CHUNK_SECONDS", 0.5)
    monkeypatch.setattr("reprobuild.registry.upload.COMMIT_SECONDS", 0.5)
    site.faults.append(Fault(method, done=lambda: time.sleep(1)))
    with pusher.repository() as repository:
        repository.push_blob(source(LARGE))
    assert stored(site) == LARGE


def test_a_server_that_is_slow_is_waited_for(site: PushSite, pusher: Pusher) -> None:
    site.faults.append(Fault("PATCH", done=lambda: time.sleep(1), count=2))
    with pusher.repository() as repository:
        assert repository.push_blob(source(LARGE)) == len(LARGE)


def test_parallel_pushes_stop_at_the_first_failure_and_the_next_go_on(site: PushSite, pusher: Pusher) -> None:
    bodies = [noise(2 * MEBIBYTE + number, number) for number in range(6)]
    site.faults.append(Fault("PUT", answer=failure(403, "DENIED", "no more"), after=2))
    with pusher.repository() as repository:
        with pytest.raises(UpstreamError, match="no more"):
            repository.push_blobs([source(body) for body in bodies])
        repository.push_blobs([source(body) for body in [*bodies, bodies[0]]])
    assert set(site.blobs["x/y"]) == set(map(sha256, bodies))


def test_progress_goes_back_to_what_the_registry_has(site: PushSite, pusher: Pusher) -> None:
    site.keeps_cut = False
    site.faults.append(Fault("PATCH", cut_after=500_000, after=2))
    with pusher.repository() as repository:
        repository.push_blob(source(LARGE))
    steps = [event.sent for event in pusher.events if isinstance(event, PushProgressed)]
    assert steps != sorted(steps)
    assert steps[-1] == len(LARGE)


def pieces(body: bytes, *, cut: bool = False) -> Iterator[bytes]:
    yield body
    if cut:
        raise ConnectionAbortedError


def test_a_pull_that_is_cut_goes_on_from_there(site: PushSite, pusher: Pusher, net: Upstreams) -> None:
    site.blobs["x/y"] = {str(DIGEST): LARGE}
    length = {"Content-Length": str(len(LARGE))}
    site.faults.append(
        Fault("GET", "/blobs/", answer=Answer(pieces(LARGE[:1_000_000], cut=True), 200, length))
    )
    site.faults.append(
        Fault("GET", "/blobs/", answer=Answer(pieces(LARGE[:1_500_000], cut=True), 200, length))
    )
    taken: list[bytes] = []
    with pusher.repository() as repository:
        repository.fetch_blob(DIGEST, len(LARGE), taken.append)
    assert b"".join(taken) == LARGE
    asked = [one.headers.get("range", "") for one in net.log if one.method == "GET" and "/blobs/" in one.path]
    assert asked == ["", "bytes=1000000-", "bytes=1500000-"]


# Chunks.


def test_chunks_are_of_the_size_that_is_set_and_of_the_least_that_the_server_takes(
    site: PushSite, pusher: Pusher, net: Upstreams
) -> None:
    with pusher.repository() as repository:
        repository.push_blob(source(LARGE))
    site.least_chunk = 2_000_000
    with pusher.repository("x/z", remembers=False) as repository:
        repository.push_blob(source(LARGE))
    sizes = [len(one.body) for one in net.log if one.method == "PATCH"]
    assert sizes == [MEBIBYTE] * 3 + [12_345, 2_000_000, len(LARGE) - 2_000_000]


@pytest.mark.parametrize("status", [413, 416])
def test_chunks_that_are_too_large_become_smaller(
    site: PushSite, pusher: Pusher, net: Upstreams, status: int
) -> None:
    site.most_chunk, site.too_large = 4 * MEBIBYTE, status
    pusher.chunk = 6
    body = noise(10 * MEBIBYTE)
    with pusher.repository() as repository:
        repository.push_blobs([source(body)])
        repository.push_blob(source(body[1:]))
    sizes = [len(one.body) for one in net.log if one.method == "PATCH"]
    assert sizes == [6 * MEBIBYTE, *[4 * MEBIBYTE] * 2, 2 * MEBIBYTE, *[4 * MEBIBYTE] * 2, 2 * MEBIBYTE - 1]


def test_a_blob_that_is_too_large_for_one_request_goes_in_chunks(site: PushSite, pusher: Pusher) -> None:
    pusher.chunk = 64
    site.faults.append(Fault("PUT", early=Answer(b"<html>too large</html>", 413), count=1))
    with pusher.repository() as repository:
        repository.push_blob(source(LARGE))
    assert stored(site) == LARGE


def test_chunks_become_smaller_where_large_ones_are_cut(
    site: PushSite, pusher: Pusher, net: Upstreams
) -> None:
    """As by a proxy that limits the time of a request, or its size, and hangs up."""
    pusher.chunk = 3
    site.keeps_cut = False
    site.faults.append(Fault("PATCH", cut_after=2_000_000, count=10**6))
    with pusher.repository() as repository:
        repository.push_blob(source(LARGE))
    assert stored(site) == LARGE


@pytest.mark.parametrize("status", [400, 405, 416, 501])
def test_a_registry_that_takes_no_chunks_gets_blobs_whole(
    site: PushSite, pusher: Pusher, net: Upstreams, status: int
) -> None:
    site.faults.append(Fault("PATCH", early=failure(status, "UNSUPPORTED", "no chunks"), count=100))
    with pusher.repository() as repository:
        repository.push_blob(source(LARGE))
        repository.push_blob(source(LARGE[1:]))
    assert stored(site) == LARGE
    assert len([one for one in net.log if one.method == "PATCH"]) == 1


@pytest.mark.parametrize("range", ["0-99", "0-9999999", "0-0"])
def test_a_registry_that_miscounts_is_asked_or_told(site: PushSite, pusher: Pusher, range: str) -> None:
    """What it says after the second chunk is less than before, more than was sent, or nothing."""
    site.faults.append(Fault("PATCH", answer=Answer(b"", 202, {"Range": range}), after=1))
    with pusher.repository() as repository:
        repository.push_blob(source(LARGE))
    assert stored(site) == LARGE
