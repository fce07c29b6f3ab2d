"""Pushes to Docker's own registry: in the clear, behind TLS, with passwords and with tokens."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, UpstreamError
from reprobuild.events import PushFinished, PushProgressed, PushStarted
from tests.base_images import BaseImage, layer, sha256, write_layout
from tests.pushing import MANIFEST, MEBIBYTE, Pusher, artifact, noise, push_image, source, stopping
from tests.servers import REGISTRY_PASSWORD, docker_registry, skopeo
from tests.sites.jwt import JwtSite
from tests.upstreams import Authority, Upstreams

pytestmark = pytest.mark.once

SAID = {"Env": ["PATH=/bin"], "WorkingDir": "/srv"}
LARGE = noise(3 * MEBIBYTE + 12_345)
IMAGE = BaseImage([layer({"srv/big": LARGE}), layer({"srv/new": b"3"})], SAID)
OTHER = BaseImage([layer({"srv/other": b"4"})], SAID)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with docker_registry(tmp_path) as address:
        yield address


def digest_of(image: BaseImage) -> Digest:
    return Digest.of(image.manifest)


def test_what_is_pushed_is_what_others_read(registry: str, tmp_path: Path) -> None:
    with Pusher(tmp_path, registry).repository() as repository:
        assert push_image(repository, IMAGE, "1.0") == sum(map(len, IMAGE.blobs.values()))
    inspected = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry}/x/y:1.0"))
    assert inspected["Digest"] == sha256(IMAGE.manifest)
    assert inspected["Layers"] == [sha256(one) for one in IMAGE.packed]
    skopeo("copy", "--src-tls-verify=false", f"docker://{registry}/x/y:1.0", f"oci:{tmp_path}/copy:1")
    write_layout(tmp_path / "ours", IMAGE)
    for path in (tmp_path / "ours" / "blobs" / "sha256").iterdir():
        assert (tmp_path / "copy" / "blobs" / "sha256" / path.name).read_bytes() == path.read_bytes()


def test_the_second_push_sends_nothing(registry: str, tmp_path: Path) -> None:
    pusher = Pusher(tmp_path, registry)
    for _ in range(2):
        with pusher.repository(remembers=False) as repository:
            sent = push_image(repository, IMAGE, "1.0")
    assert sent == 0
    ended = [event for event in pusher.events if isinstance(event, PushFinished)]
    assert [one.sent for one in ended[3:]] == [0, 0, 0]


def test_what_was_pushed_comes_back(registry: str, tmp_path: Path) -> None:
    with Pusher(tmp_path, registry).repository() as repository:
        push_image(repository, IMAGE, "1.0")
        large = IMAGE.packed[0]
        taken: list[bytes] = []
        repository.fetch_blob(Digest.of(large), len(large), taken.append)
        assert b"".join(taken) == large
        assert repository.read_blob(Digest.of(IMAGE.config), limit=1000) == IMAGE.config
        with pytest.raises(CheckFailedError, match="more than 100 bytes"):
            repository.read_blob(Digest.of(IMAGE.config), limit=100)
        found = repository.manifest("1.0")
        assert found is not None
        assert (found.body, found.media_type) == (IMAGE.manifest, MANIFEST)
        assert repository.manifest(sha256(b"nothing")) is None
        assert repository.manifest("2.0") is None
        assert not repository.has_blob(Digest.of(b"nothing"))


def test_a_repository_that_is_not_there_has_nothing(registry: str, tmp_path: Path) -> None:
    with Pusher(tmp_path, registry).repository() as repository:
        assert repository.manifest("1.0") is None
        assert repository.referrers(digest_of(IMAGE)) == []


def test_progress_is_told_in_order(registry: str, tmp_path: Path) -> None:
    pusher = Pusher(tmp_path, registry)
    with pusher.repository() as repository:
        repository.push_blobs([source(LARGE, name="layer 1"), source(b"", name="empty")])
    for name, size in (("layer 1", len(LARGE)), ("empty", 0)):
        told = [event for event in pusher.events if getattr(event, "name", "") == name]
        assert told[0] == PushStarted(name, size)
        assert told[-1] == PushFinished(name, size, size)
        steps = [event.sent for event in told if isinstance(event, PushProgressed)]
        assert steps == sorted(steps)
        assert steps[-1] == size


def test_a_blob_that_another_repository_has_is_mounted(registry: str, tmp_path: Path) -> None:
    pusher = Pusher(tmp_path, registry)
    with pusher.repository("models/one") as repository:
        assert repository.push_blob(source(LARGE)) == len(LARGE)
    with pusher.repository("models/two") as repository:
        assert repository.push_blob(source(LARGE)) == 0
        assert repository.has_blob(Digest.of(LARGE))


def test_a_push_that_was_cut_between_chunks_goes_on_in_another_process(registry: str, tmp_path: Path) -> None:
    pusher = Pusher(tmp_path, registry)
    with pusher.repository() as repository, pytest.raises(KeyboardInterrupt):
        repository.push_blob(stopping(LARGE, 2 * MEBIBYTE, KeyboardInterrupt()))
    with pusher.repository() as repository:
        assert repository.push_blob(source(LARGE)) == len(LARGE) - 2 * MEBIBYTE
        taken: list[bytes] = []
        repository.fetch_blob(Digest.of(LARGE), len(LARGE), taken.append)
    assert b"".join(taken) == LARGE


def test_an_upload_that_the_registry_has_dropped_is_begun_anew(registry: str, tmp_path: Path) -> None:
    """This registry forgets an upload of which a request was cut in the middle."""
    pusher = Pusher(tmp_path, registry)
    with pusher.repository() as repository, pytest.raises(KeyboardInterrupt):
        repository.push_blob(stopping(LARGE, 2 * MEBIBYTE + 300_000, KeyboardInterrupt()))
    with pusher.repository() as repository:
        assert repository.push_blob(source(LARGE)) == len(LARGE)


def test_bytes_that_are_not_what_their_digest_says_are_found_out(registry: str, tmp_path: Path) -> None:
    good = source(LARGE, name="layer 1")
    bad = source(LARGE[:-1] + b"\0")
    with Pusher(tmp_path, registry).repository() as repository:
        with pytest.raises(
            CheckFailedError, match="layer 1: the bytes that are to be pushed are not"
        ) as caught:
            repository.push_blob(type(good)(good.digest, good.size, bad.chunks, "layer 1"))
        assert str(bad.digest) in caught.value.message
        with pytest.raises(CheckFailedError, match="ends after 1,000 of"):
            repository.push_blob(type(good)(good.digest, good.size, source(LARGE[:1000]).chunks))
        assert not repository.has_blob(good.digest)


def test_large_blobs_take_little_memory(registry: str, tmp_path: Path) -> None:
    import tracemalloc

    piece = noise(MEBIBYTE)
    count = 48

    def chunks(offset: int) -> Iterator[bytes]:
        assert offset % MEBIBYTE == 0
        yield from (piece for _ in range(count - offset // MEBIBYTE))

    digest = Digest.of_chunks(chunks(0))
    with Pusher(tmp_path, registry, chunk=16).repository() as repository:
        tracemalloc.start()
        try:
            repository.push_blob(type(source(b""))(digest, count * MEBIBYTE, chunks))
            repository.fetch_blob(digest, count * MEBIBYTE, lambda chunk: None)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 4 * MEBIBYTE


# Tags.


def test_a_tag_never_moves(registry: str, tmp_path: Path) -> None:
    with Pusher(tmp_path, registry).repository() as repository:
        push_image(repository, IMAGE, "1.0")
        assert repository.put_tag("1.0", digest_of(IMAGE)) is False
        with pytest.raises(CheckFailedError, match=r"y:1\.0 names another image already") as caught:
            push_image(repository, OTHER, "1.0")
        assert sha256(IMAGE.manifest) in caught.value.message
        assert "another version" in caught.value.hint
        found = repository.manifest("1.0")
        assert found is not None
        assert found.digest == digest_of(IMAGE)
        with pytest.raises(UpstreamError, match="has no manifest"):
            repository.put_tag("2.0", Digest.of(b"nothing"))


def test_of_two_publishers_at_once_one_is_told(registry: str, tmp_path: Path) -> None:
    ready = threading.Barrier(2)
    failures: dict[str, CheckFailedError] = {}

    def publish(image: BaseImage) -> None:
        with Pusher(tmp_path, registry).repository() as repository:
            push_image(repository, image, f"own-{digest_of(image).short}")
            ready.wait(30)
            try:
                repository.put_tag("1.0", digest_of(image))
            except CheckFailedError as error:
                failures[str(digest_of(image))] = error

    threads = [threading.Thread(target=publish, args=(image,)) for image in (IMAGE, OTHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Pusher(tmp_path, registry).repository() as repository:
        found = repository.manifest("1.0")
    assert found is not None
    losers = {str(digest_of(IMAGE)), str(digest_of(OTHER))} - {str(found.digest)}
    assert set(failures) == losers


# Referrers: this registry has no API for them.


def test_referrers_are_listed_under_the_fallback_tag(registry: str, tmp_path: Path) -> None:
    kinds = ["application/vnd.in-toto+json", "application/vnd.cyclonedx+json"]
    with Pusher(tmp_path, registry).repository() as repository:
        push_image(repository, IMAGE, "1.0")
        repository.push_blob(source(b"{}"))
        bodies = [(artifact(kind, IMAGE.manifest, note=kind), MANIFEST) for kind in kinds]
        assert repository.put_referrers(digest_of(IMAGE), bodies) > 0
        assert repository.put_referrers(digest_of(IMAGE), bodies) == 0
        found = repository.referrers(digest_of(IMAGE))
        assert [one.artifact_type for one in found] == kinds
        assert [one.annotations for one in found] == [{"note": kind} for kind in kinds]
        assert [one.digest for one in found] == [Digest.of(body) for body, _ in bodies]
        (one,) = repository.referrers(digest_of(IMAGE), kinds[1])
        assert one.artifact_type == kinds[1]
    tag = sha256(IMAGE.manifest).replace(":", "-")
    index = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry}/x/y:{tag}"))
    assert [one["artifactType"] for one in index["manifests"]] == kinds


def test_referrers_of_many_publishers_are_all_listed(registry: str, tmp_path: Path) -> None:
    bodies = [(artifact(f"x/{number}", IMAGE.manifest), MANIFEST) for number in range(4)]
    with Pusher(tmp_path, registry).repository() as repository:
        push_image(repository, IMAGE, "1.0")
        repository.push_blob(source(b"{}"))

    def publish(body: tuple[bytes, str]) -> None:
        with Pusher(tmp_path, registry).repository() as repository:
            repository.put_referrers(digest_of(IMAGE), [body])

    threads = [threading.Thread(target=publish, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Pusher(tmp_path, registry).repository() as repository:
        found = repository.referrers(digest_of(IMAGE))
    assert {one.artifact_type for one in found} == {f"x/{number}" for number in range(4)}


# Who asks.


def auths(registry: str, user: str, password: str) -> str:
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    return json.dumps({"auths": {registry: {"auth": login}}})


def test_a_registry_behind_tls_takes_docker_s_password_a_given_one_or_netrc_s(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with docker_registry(tmp_path, certificate=authority.issue("registry.test"), user="models") as address:
        pusher = Pusher(
            tmp_path,
            "registry.test",
            {
                "REPROBUILD_CONNECT_TO": f"registry.test:443:{address}",
                "REQUESTS_CA_BUNDLE": str(authority.path),
            },
        )
        with pusher.repository() as repository:
            with pytest.raises(
                UpstreamError, match="answers 401 for x/y: it wants to know who asks"
            ) as caught:
                repository.push_blob(source(LARGE))
            assert caught.value.hint == "docker login registry.test"
        with (
            pusher.repository(password=("models", "guess")) as repository,
            pytest.raises(UpstreamError, match="does not take the user name and password"),
        ):
            repository.push_blob(source(LARGE))
        with pusher.repository(password=("models", REGISTRY_PASSWORD)) as repository:
            assert repository.push_blob(source(LARGE)) == len(LARGE)
        (tmp_path / ".netrc").write_text(f'machine registry.test login models password "{REGISTRY_PASSWORD}"')
        with pusher.repository() as repository:
            assert repository.push_blob(source(IMAGE.config)) == len(IMAGE.config)
        (tmp_path / ".netrc").unlink()
        (tmp_path / ".docker").mkdir()
        (tmp_path / ".docker" / "config.json").write_text(auths("registry.test", "models", REGISTRY_PASSWORD))
        with pusher.repository() as repository:
            push_image(repository, IMAGE, "1.0")
        logged_in = f"--creds=models:{REGISTRY_PASSWORD}"
        found = skopeo("inspect", "--raw", "--tls-verify=false", logged_in, f"docker://{address}/x/y:1.0")
        assert found.encode() == IMAGE.manifest


@pytest.fixture
def tokens(tmp_path: Path) -> JwtSite:
    return JwtSite(
        tmp_path,
        {"me": ("secret", frozenset({"pull", "push"})), "reader": ("secret", frozenset({"pull"}))},
    )


@pytest.fixture
def guarded(tokens: JwtSite, net: Upstreams, tmp_path: Path) -> Iterator[Pusher]:
    net.add("auth.test", tokens)
    with docker_registry(tmp_path, auth=tokens.settings) as address:
        yield Pusher(tmp_path, address, net.environment())


def test_tokens_are_asked_for_what_is_done_with_them(guarded: Pusher, tokens: JwtSite) -> None:
    with guarded.repository("models/one", password=("me", "secret")) as repository:
        push_image(repository, IMAGE, "1.0")
    assert tokens.asked == [
        ("me", ("repository:models/one:pull",)),
        ("me", ("repository:models/one:pull,push",)),
    ]
    tokens.asked.clear()
    with guarded.repository("models/two", password=("me", "secret")) as repository:
        assert repository.push_blob(source(IMAGE.packed[0])) == 0
    who, scopes = tokens.asked[-1]  # in whatever order the registry names them
    assert (who, sorted(scopes)) == (
        "me",
        ["repository:models/one:pull", "repository:models/two:pull,push"],
    )
    with guarded.repository("models/one") as repository:
        assert repository.manifest("1.0") is not None


def test_who_may_only_read_is_told_so(guarded: Pusher, tokens: JwtSite) -> None:
    with (
        guarded.repository(password=("reader", "secret")) as repository,
        pytest.raises(UpstreamError, match="401 for x/y: whoever is logged in may not push there") as caught,
    ):
        repository.push_blob(source(LARGE))
    assert caught.value.hint == f"docker login {guarded.registry}"
    with guarded.repository() as repository, pytest.raises(UpstreamError, match="it wants to know who asks"):
        repository.push_blob(source(LARGE))
    with (
        guarded.repository(password=("me", "guess")) as repository,
        pytest.raises(UpstreamError, match=r"its token server .* answers 401: the password is wrong"),
    ):
        repository.push_blob(source(LARGE))


def test_a_token_that_is_too_old_is_asked_for_again(guarded: Pusher, tokens: JwtSite) -> None:
    tokens.stale = 1
    with guarded.repository(password=("me", "secret")) as repository:
        assert not repository.has_blob(Digest.of(LARGE))
        assert repository.push_blob(source(LARGE)) == len(LARGE)
