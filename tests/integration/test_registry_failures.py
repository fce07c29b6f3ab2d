"""Pushes to a registry with the faults and ways of public ones: what is tried again, what is told."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, OfflineError, ReprobuildError, UpstreamError
from reprobuild.events import PushProgressed
from tests.base_images import BaseImage, layer, sha256
from tests.pushing import MANIFEST, MEBIBYTE, Pusher, artifact, noise, push_image, source, stopping
from tests.sites.push import Fault, PushSite, ScopedTokens
from tests.sites.registry import failure
from tests.upstreams import Answer, Request, Upstreams, moved

LARGE = noise(3 * MEBIBYTE + 12_345)
DIGEST = Digest.of(LARGE)
IMAGE = BaseImage([layer({"srv/new": b"3"})])
OTHER = BaseImage([layer({"srv/other": b"4"})])
IMAGE_DIGEST = Digest.of(IMAGE.manifest)


@pytest.fixture
def site(net: Upstreams) -> PushSite:
    made = PushSite()
    net.add("registry.test", made)
    return made


@pytest.fixture
def pusher(net: Upstreams, site: PushSite, tmp_path: Path) -> Pusher:
    return Pusher(tmp_path, "registry.test", net.environment())


@pytest.fixture(autouse=True)
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let waits before another try be short."""
    monkeypatch.setattr("reprobuild.fetch.transfer.FIRST_DELAY", 0.01)
    monkeypatch.setattr("reprobuild.registry.tags.SETTLE_SECONDS", 0.01)


def stored(site: PushSite, repository: str = "x/y") -> bytes | None:
    return site.blobs.get(repository, {}).get(str(DIGEST))


def busy(status: int, wait: str = "0") -> Answer:
    return failure(status, "UNKNOWN", "come again", **{"Retry-After": wait})


# What is tried again.

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


def test_parallel_pushes_stop_at_the_first_failure_and_the_next_go_on(site: PushSite, pusher: Pusher) -> None:
    bodies = [noise(2 * MEBIBYTE + number, number) for number in range(6)]
    site.faults.append(Fault("PUT", answer=failure(403, "DENIED", "no more"), after=2))
    with pusher.repository() as repository:
        with pytest.raises(UpstreamError, match="no more"):
            repository.push_blobs([source(body) for body in bodies])
        repository.push_blobs([source(body) for body in [*bodies, bodies[0]]])
    assert set(site.blobs["x/y"]) == set(map(sha256, bodies))


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


# Who asks.


@pytest.fixture
def tokens(net: Upstreams, site: PushSite, pusher: Pusher) -> ScopedTokens:
    made = ScopedTokens("me", "secret")
    net.add("auth.test", made)
    pusher.environment = net.environment()
    site.tokens = made
    return made


def test_a_token_that_ends_in_the_middle_is_renewed(
    site: PushSite, pusher: Pusher, tokens: ScopedTokens
) -> None:
    tokens.good_for = 2
    with pusher.repository(password=("me", "secret")) as repository:
        repository.push_blob(source(LARGE))
    assert stored(site) == LARGE
    assert len(tokens.given) > 2
    assert set(tokens.scopes) == {"repository:x/y:pull", "repository:x/y:pull,push"}


def test_a_token_is_renewed_before_it_ends(
    site: PushSite, pusher: Pusher, tokens: ScopedTokens, net: Upstreams
) -> None:
    tokens.expires_in = 1
    with pusher.repository(password=("me", "secret")) as repository:
        repository.push_blob(source(LARGE))
        before, given = len(net.log), len(tokens.given)
        time.sleep(1)
        repository.push_blob(source(LARGE[1:]))
    later = [one for one in net.log[before:] if one.host == "registry.test"]
    assert {one.headers["authorization"].removeprefix("Bearer ") for one in later} <= set(
        tokens.given[given:]
    )


@pytest.mark.parametrize("status", [401, 403])
def test_a_repository_that_is_not_there_yet_is_looked_at_by_who_may_make_it(
    site: PushSite, pusher: Pusher, tokens: ScopedTokens, status: int
) -> None:
    """As Docker Hub has it: of such a repository a token for reading alone tells nothing."""
    tokens.made = lambda name: name in site.blobs
    site.unauthorized = status
    with pusher.repository(password=("me", "secret")) as repository:
        assert repository.manifest("1.0") is None
        assert push_image(repository, IMAGE, "1.0") > 0
    assert tokens.scopes == ["repository:x/y:pull", "repository:x/y:pull,push"]
    with pusher.repository() as repository, pytest.raises(UpstreamError, match=r"token server .* 401"):
        repository.manifest("1.0")


def test_credentials_go_to_no_other_host(
    site: PushSite, pusher: Pusher, tokens: ScopedTokens, net: Upstreams
) -> None:
    site.uploads_at = "https://uploads.test"
    net.add("uploads.test", site)
    pusher.environment = net.environment()
    with pusher.repository(password=("me", "secret")) as repository:
        repository.push_blob(source(LARGE))
    assert stored(site) == LARGE
    told = {one.headers.get("authorization", "") for one in net.log if one.host == "uploads.test"}
    assert told == {""}
    proof = base64.b64encode(b"me:secret").decode()
    hosts = {one.host for one in net.log if proof in one.headers.get("authorization", "")}
    assert hosts == {"auth.test"}


def test_another_host_that_wants_to_know_who_asks_is_not_told(
    site: PushSite, pusher: Pusher, tokens: ScopedTokens, net: Upstreams
) -> None:
    def elsewhere(request: Request) -> Answer:
        return failure(401, "UNAUTHORIZED", "who?", **{"WWW-Authenticate": 'Basic realm="x"'})

    site.uploads_at = "https://uploads.test"
    net.add("uploads.test", elsewhere)
    pusher.environment = net.environment()
    with (
        pusher.repository(password=("me", "secret")) as repository,
        pytest.raises(
            UpstreamError, match=r"registry\.test led to https://uploads\.test/.*, which answers 401"
        ),
    ):
        repository.push_blob(source(LARGE))
    assert {one.headers.get("authorization", "") for one in net.log if one.host == "uploads.test"} == {""}


def test_a_redirect_that_keeps_the_method_is_followed_without_credentials(
    site: PushSite, pusher: Pusher, tokens: ScopedTokens, net: Upstreams
) -> None:
    net.add("uploads.test", site)
    pusher.environment = net.environment()

    def redirect(request: Request) -> Answer:
        if request.method == "PATCH":
            return moved(f"https://uploads.test{request.target}", 307)
        return site(request)

    net.add("registry.test", redirect)
    with pusher.repository(password=("me", "secret")) as repository:
        repository.push_blob(source(LARGE))
    assert stored(site) == LARGE
    assert {one.headers.get("authorization", "") for one in net.log if one.host == "uploads.test"} == {""}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param(
            Fault("PATCH", answer=moved("http://registry.test/v2/x/y/blobs/uploads/1", 307)),
            "redirects from https to plain http",
            id="to plain http",
        ),
        pytest.param(
            Fault(
                "POST", answer=Answer(b"", 202, {"Location": "http://registry.test/v2/x/y/blobs/uploads/1"})
            ),
            "redirects from https to plain http",
            id="an upload in plain http",
        ),
        pytest.param(Fault("POST", answer=Answer(b"", 202)), "does not say where to send", id="to nowhere"),
        pytest.param(
            Fault("POST", answer=Answer(b"", 202, {"Location": "ftp://x/y"})), "no http address", id="to ftp"
        ),
        pytest.param(
            Fault("POST", answer=moved("https://registry.test/login")),
            "leads elsewhere with 302",
            id="to a page",
        ),
    ],
)
def test_where_an_upload_may_not_go_is_told(site: PushSite, pusher: Pusher, fault: Fault, told: str) -> None:
    site.faults.append(fault)
    with pusher.repository() as repository, pytest.raises(UpstreamError, match=told):
        repository.push_blob(source(LARGE))
    assert stored(site) is None


def test_a_password_is_not_sent_without_tls(site: PushSite, net: Upstreams, tmp_path: Path) -> None:
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}
    net.add("plain.test", lambda request: failure(401, "UNAUTHORIZED", "who?", **challenge))
    environment = net.environment()
    kept = [
        one for one in environment["REPROBUILD_CONNECT_TO"].split() if not one.startswith("plain.test:443")
    ]
    environment["REPROBUILD_CONNECT_TO"] = " ".join([*kept, f"plain.test:443:127.0.0.1:{net.ports['http']}"])
    with (
        Pusher(tmp_path, "plain.test", environment).repository(password=("me", "secret")) as repository,
        pytest.raises(UpstreamError, match="no password is sent to a server without TLS") as caught,
    ):
        repository.push_blob(source(LARGE))
    assert caught.value.hint == "let the registry speak https"
    assert all("authorization" not in one.headers for one in net.log)


def test_a_helper_of_docker_s_is_asked_for_pushes(
    site: PushSite, pusher: Pusher, tokens: ScopedTokens
) -> None:
    tokens.user, tokens.refresh_token = "nobody", "long-lived"
    helper = pusher.folder / "docker-credential-ours"
    helper.write_text(
        '#!/bin/sh\nread server\necho "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"long-lived\\"}"\n'
    )
    helper.chmod(0o755)
    (pusher.folder / ".docker").mkdir()
    config = {"credHelpers": {"registry.test": "ours"}}
    (pusher.folder / ".docker" / "config.json").write_text(json.dumps(config))
    pusher.environment = {**pusher.environment, "PATH": f"{pusher.folder}:/usr/bin:/bin"}
    with pusher.repository() as repository:
        assert push_image(repository, IMAGE, "1.0") > 0


def test_a_mount_that_is_not_allowed_is_a_push(site: PushSite, pusher: Pusher, tokens: ScopedTokens) -> None:
    with pusher.repository("x/one", password=("me", "secret")) as repository:
        repository.push_blob(source(LARGE))
    with pusher.repository("x/two", password=("me", "secret")) as repository:
        assert repository.push_blob(source(LARGE)) == 0
    tokens.may = {"x/one": frozenset(), "x/two": frozenset()}
    with pusher.repository("x/three", password=("me", "secret")) as repository:
        assert repository.push_blob(source(LARGE)) == len(LARGE)
    site.faults.append(Fault("POST", "mount=", answer=failure(403, "DENIED", "not yours")))
    with pusher.repository("x/four", password=("me", "secret")) as repository:
        assert repository.push_blob(source(LARGE)) == len(LARGE)


# What is told.


def test_a_server_that_is_not_trusted_is_not_asked_without_tls(
    site: PushSite, pusher: Pusher, net: Upstreams
) -> None:
    del pusher.environment["REQUESTS_CA_BUNDLE"]
    with pusher.repository() as repository, pytest.raises(UpstreamError, match="no secure connection"):
        repository.manifest("1.0")
    assert net.log == []


def test_a_registry_of_an_inner_network_may_do_without_tls(
    site: PushSite, pusher: Pusher, net: Upstreams
) -> None:
    http = f"registry.test:443:127.0.0.1:{net.ports['http']}"
    pusher.environment["REPROBUILD_CONNECT_TO"] += " " + http
    with pusher.repository() as repository:
        assert repository.push_blob(source(LARGE)) == len(LARGE)
    assert {one.scheme for one in net.log} == {"http"}


REFUSALS = [
    pytest.param("POST", 401, "it wants to know who asks", "docker login registry.test", id="401"),
    pytest.param("POST", 403, "whoever asks may not push there: said so", "docker login", id="403"),
    pytest.param("POST", 404, "it has no such repository", "want a repository made first", id="404"),
    pytest.param("POST", 405, "it takes no pushes there", "name another", id="405"),
    pytest.param("PATCH", 413, "what is sent is too large for it", "upload_chunk", id="413"),
    pytest.param("PUT", 415, "does not take this type of content", "OCI artifacts", id="415"),
    pytest.param("POST", 429, r"asked too often: said so \(again in 3600 s\)", "docker login", id="429"),
    pytest.param("POST", 507, "answers 507 for x/y", "", id="another"),
]


@pytest.mark.parametrize(("method", "status", "told", "hint"), REFUSALS)
def test_a_refusal_is_told_with_what_helps(
    site: PushSite, pusher: Pusher, method: str, status: int, told: str, hint: str
) -> None:
    answer = failure(status, "SOME_CODE", "said so", **{"Retry-After": "3600"})
    site.faults.append(Fault(method, answer=answer, count=100))
    with pusher.repository() as repository, pytest.raises(UpstreamError, match=told) as caught:
        repository.push_blob(source(LARGE))
    assert f"registry.test answers {status} for x/y" in caught.value.message
    assert hint in caught.value.hint


def test_no_server_at_all_is_told(site: PushSite, net: Upstreams, pusher: Pusher) -> None:
    net.stop()
    with (
        pusher.repository() as repository,
        pytest.raises(UpstreamError, match=r"no connection to registry\.test"),
    ):
        repository.push_blob(source(LARGE))
    net.start()


def test_offline_nothing_is_asked(site: PushSite, net: Upstreams, pusher: Pusher) -> None:
    pusher.environment = {**pusher.environment, "REPROBUILD_OFFLINE": "1"}
    with pusher.repository() as repository, pytest.raises(OfflineError, match="--offline"):
        repository.manifest("1.0")
    assert net.log == []


# Registries that store, or give, something else.


@pytest.mark.parametrize(
    "push",
    [
        pytest.param(lambda repository: repository.push_blob(source(LARGE)), id="a blob"),
        pytest.param(
            lambda repository: repository.put_manifest(IMAGE.manifest, MANIFEST, str(IMAGE_DIGEST)),
            id="a manifest",
        ),
    ],
)
def test_a_registry_that_stores_something_else_is_found_out(
    site: PushSite, pusher: Pusher, push: Callable[..., object]
) -> None:
    site.stored = sha256(b"something else")
    with pusher.repository() as repository, pytest.raises(CheckFailedError, match="stored") as caught:
        push(repository)
    assert site.stored in caught.value.message


def test_bytes_that_are_changed_on_the_way_are_found_out(site: PushSite, pusher: Pusher) -> None:
    refusal = failure(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
    site.faults.append(Fault("PUT", answer=refusal))
    with pusher.repository() as repository:
        repository.push_blob(source(LARGE))
    assert stored(site) == LARGE
    site.faults.append(Fault("PUT", answer=refusal, count=2))
    with (
        pusher.repository("x/z", remembers=False) as repository,
        pytest.raises(CheckFailedError, match="the bytes that were sent are right"),
    ):
        repository.push_blob(source(LARGE))


def test_a_blob_that_the_registry_has_in_part_only_is_pushed(site: PushSite, pusher: Pusher) -> None:
    site.blobs["x/y"] = {str(DIGEST): LARGE[:-1]}
    with pusher.repository() as repository:
        assert repository.push_blob(source(LARGE)) == len(LARGE)
    assert stored(site) == LARGE


def pieces(body: bytes, *, cut: bool = False) -> Iterator[bytes]:
    yield body
    if cut:
        raise ConnectionAbortedError


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        pytest.param([Answer(LARGE[:-1] + b"\0")], "gives other bytes than it was asked for", id="changed"),
        pytest.param([Answer(LARGE + b"\0")], f"more than {len(LARGE):,} bytes", id="more"),
        pytest.param(
            [Answer(LARGE[:-1], 200, {"Content-Length": str(len(LARGE) - 1)})] * 6,
            "the body ends after|other bytes",
            id="less",
        ),
    ],
)
def test_other_bytes_than_were_asked_for_are_found_out(
    site: PushSite, pusher: Pusher, answers: list[Answer], told: str
) -> None:
    site.faults += [Fault("GET", "/blobs/", answer=answer) for answer in answers]
    with pusher.repository() as repository, pytest.raises(ReprobuildError, match=told):
        repository.fetch_blob(DIGEST, len(LARGE), lambda chunk: None)


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


# Tags.

IMMUTABLE = [
    pytest.param(
        failure(
            400,
            "TAG_INVALID",
            "The image tag '1.0' already exists in the 'x/y' repository and cannot be overwritten "
            "because the repository is immutable.",
        ),
        id="ECR",
    ),
    pytest.param(failure(403, "DENIED", "cannot overwrite an immutable tag"), id="Docker Hub"),
    pytest.param(failure(412, "PRECONDITION", "configured as immutable"), id="Harbor"),
    pytest.param(failure(409, "TAG_IMMUTABLE", "tag is immutable"), id="another"),
]


@pytest.mark.parametrize("refusal", IMMUTABLE)
def test_an_immutable_tag_that_somebody_else_was_faster_with_is_refused(
    site: PushSite, pusher: Pusher, refusal: Answer
) -> None:
    site.is_immutable = refusal

    def be_faster() -> None:
        site.manifests["x/y:1.0"] = (OTHER.manifest, MANIFEST)

    with pusher.repository() as repository:
        repository.put_manifest(IMAGE.manifest, MANIFEST, str(IMAGE_DIGEST))
        site.faults.append(Fault("PUT", "/manifests/1.0", done=be_faster))
        with pytest.raises(CheckFailedError, match=r"y:1\.0 names another image already") as caught:
            repository.put_tag("1.0", IMAGE_DIGEST)
    assert json.loads(refusal.body)["errors"][0]["message"] in caught.value.message  # type: ignore[arg-type]
    assert caught.value.exit_code == 4
    assert site.manifests["x/y:1.0"][0] == OTHER.manifest


@pytest.mark.parametrize("refusal", IMMUTABLE)
def test_an_immutable_tag_with_the_same_image_is_a_success(
    site: PushSite, pusher: Pusher, refusal: Answer
) -> None:
    site.is_immutable = refusal

    def be_faster() -> None:
        site.manifests["x/y:1.0"] = (IMAGE.manifest, MANIFEST)

    with pusher.repository() as repository:
        repository.put_manifest(IMAGE.manifest, MANIFEST, str(IMAGE_DIGEST))
        site.faults.append(Fault("PUT", "/manifests/1.0", done=be_faster))
        assert repository.put_tag("1.0", IMAGE_DIGEST) is False
        assert repository.put_tag("1.0", IMAGE_DIGEST) is False


def test_a_registry_that_honours_if_none_match_lets_the_first_win(site: PushSite, pusher: Pusher) -> None:
    site.honours_if_none_match = True

    def be_faster() -> None:
        site.manifests["x/y:1.0"] = (OTHER.manifest, MANIFEST)

    with pusher.repository() as repository:
        repository.put_manifest(IMAGE.manifest, MANIFEST, str(IMAGE_DIGEST))
        site.faults.append(Fault("PUT", "/manifests/1.0", done=be_faster))
        with pytest.raises(CheckFailedError, match="names another image already"):
            repository.put_tag("1.0", IMAGE_DIGEST)


def test_a_tag_that_somebody_else_put_right_after_is_told(site: PushSite, pusher: Pusher) -> None:
    def overwrite() -> None:
        site.manifests["x/y:1.0"] = (OTHER.manifest, MANIFEST)

    with pusher.repository() as repository:
        repository.put_manifest(IMAGE.manifest, MANIFEST, str(IMAGE_DIGEST))
        site.faults.append(Fault("GET", "/manifests/1.0", done=overwrite, after=1))
        with pytest.raises(CheckFailedError, match=r"somebody else published another image as .* same time"):
            repository.put_tag("1.0", IMAGE_DIGEST)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("PUT", "/manifests/", is_answer_lost=True), id="the answer is lost"),
        pytest.param(Fault("PUT", "/manifests/", cut_after=10), id="the body is cut"),
        pytest.param(Fault("PUT", "/manifests/", answer=busy(500), count=2), id="500"),
    ],
)
def test_a_manifest_that_is_cut_is_put_again(site: PushSite, pusher: Pusher, fault: Fault) -> None:
    site.faults.append(fault)
    with pusher.repository() as repository:
        push_image(repository, IMAGE, "1.0")
    assert site.manifests["x/y:1.0"][0] == IMAGE.manifest


def test_who_may_not_tag_is_told(site: PushSite, pusher: Pusher) -> None:
    with pusher.repository() as repository:
        repository.put_manifest(IMAGE.manifest, MANIFEST, str(IMAGE_DIGEST))
        site.faults.append(Fault("PUT", answer=failure(403, "DENIED", "read only")))
        with pytest.raises(UpstreamError, match="may not push there: read only"):
            repository.put_tag("1.0", IMAGE_DIGEST)


# Referrers.

KINDS = [f"application/x-{number}" for number in range(5)]
REFERRING = [(artifact(kind, IMAGE.manifest), MANIFEST) for kind in KINDS]


@pytest.mark.parametrize("has_api", [True, False])
def test_referrers_are_listed_by_the_api_or_a_tag(site: PushSite, pusher: Pusher, has_api: bool) -> None:
    site.has_referrers = has_api
    with pusher.repository() as repository:
        repository.put_manifest(IMAGE.manifest, MANIFEST, str(IMAGE_DIGEST))
        assert repository.put_referrers(IMAGE_DIGEST, REFERRING) > 0
        assert repository.put_referrers(IMAGE_DIGEST, REFERRING) == 0
        assert [one.artifact_type for one in repository.referrers(IMAGE_DIGEST)] == KINDS
        assert [one.artifact_type for one in repository.referrers(IMAGE_DIGEST, KINDS[3])] == [KINDS[3]]
        assert repository.referrers(Digest.of(b"nothing")) == []
    fallback = sha256(IMAGE.manifest).replace(":", "-")
    assert (f"x/y:{fallback}" in site.manifests) is not has_api


def test_one_more_referrer_joins_the_others(site: PushSite, pusher: Pusher) -> None:
    site.has_referrers = False
    with pusher.repository() as repository:
        repository.put_referrers(IMAGE_DIGEST, REFERRING[:2])
        body, kind = REFERRING[2]
        repository.put_manifest(body, kind, sha256(body), subject=IMAGE_DIGEST)
        assert [one.artifact_type for one in repository.referrers(IMAGE_DIGEST)] == KINDS[:3]


def test_a_fallback_tag_that_may_not_change_is_told(site: PushSite, pusher: Pusher) -> None:
    site.has_referrers = False
    site.is_immutable = failure(403, "DENIED", "immutable")
    with pusher.repository() as repository:
        repository.put_referrers(IMAGE_DIGEST, REFERRING[:2])
        with pytest.raises(
            UpstreamError, match="has no referrers API, and does not let that tag change"
        ) as caught:
            repository.put_referrers(IMAGE_DIGEST, REFERRING)
    assert "sha256-" in caught.value.hint


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"manifests": [{"digest": "md5:0", "size": 1}]}', b"\xff"])
def test_a_list_of_referrers_that_makes_no_sense_is_told(site: PushSite, pusher: Pusher, body: bytes) -> None:
    site.faults.append(Fault("GET", "/referrers/", answer=Answer(body)))
    with pusher.repository() as repository, pytest.raises(CheckFailedError, match="referrers makes no sense"):
        repository.referrers(IMAGE_DIGEST)


def test_a_list_of_referrers_without_end_is_told(site: PushSite, pusher: Pusher) -> None:
    again = Answer(b'{"manifests": []}', 200, {"Link": '<?again>; rel="next"'})
    site.faults.append(Fault("GET", "/referrers/", answer=again, count=10**6))
    with pusher.repository() as repository, pytest.raises(UpstreamError, match="have no end"):
        repository.referrers(IMAGE_DIGEST)


def test_progress_goes_back_to_what_the_registry_has(site: PushSite, pusher: Pusher) -> None:
    site.keeps_cut = False
    site.faults.append(Fault("PATCH", cut_after=500_000, after=2))
    with pusher.repository() as repository:
        repository.push_blob(source(LARGE))
    steps = [event.sent for event in pusher.events if isinstance(event, PushProgressed)]
    assert steps != sorted(steps)
    assert steps[-1] == len(LARGE)
