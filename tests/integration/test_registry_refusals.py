"""Pushes that a registry refuses, or stores as something else; tags and referrers that others write too."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, OfflineError, ReprobuildError, UpstreamError
from tests.base_images import BaseImage, layer, sha256
from tests.pushing import MANIFEST, MEBIBYTE, Pusher, artifact, noise, push_image, source
from tests.sites.push import Fault, PushSite
from tests.sites.registry import failure
from tests.upstreams import Answer, Upstreams

pytestmark = pytest.mark.once

LARGE = noise(3 * MEBIBYTE + 12_345)
DIGEST = Digest.of(LARGE)
IMAGE = BaseImage([layer({"srv/new": b"3"})])
OTHER = BaseImage([layer({"srv/other": b"4"})])
IMAGE_DIGEST = Digest.of(IMAGE.manifest)


def stored(site: PushSite, repository: str = "x/y") -> bytes | None:
    return site.blobs.get(repository, {}).get(str(DIGEST))


def busy(status: int, wait: str = "0") -> Answer:
    return failure(status, "UNKNOWN", "come again", **{"Retry-After": wait})


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
