"""Pushes to a registry that wants to know who asks: tokens, passwords, helpers, and hosts that get none."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.errors import UpstreamError
from tests.base_images import BaseImage, layer
from tests.pushing import MEBIBYTE, Pusher, noise, push_image, source
from tests.sites.push import Fault, PushSite, ScopedTokens
from tests.sites.registry import failure
from tests.upstreams import Answer, Request, Upstreams, moved

pytestmark = pytest.mark.once

LARGE = noise(3 * MEBIBYTE + 12_345)
DIGEST = Digest.of(LARGE)
IMAGE = BaseImage([layer({"srv/new": b"3"})])


def stored(site: PushSite, repository: str = "x/y") -> bytes | None:
    return site.blobs.get(repository, {}).get(str(DIGEST))


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


def test_a_helper_is_asked_once(site: PushSite, pusher: Pusher, tokens: ScopedTokens) -> None:
    helper = pusher.folder / "docker-credential-ours"
    helper.write_text(
        f"#!/bin/sh\necho asked >> {pusher.folder}/asked\n"
        'echo "{\\"Username\\": \\"me\\", \\"Secret\\": \\"secret\\"}"\n'
    )
    helper.chmod(0o755)
    (pusher.folder / ".docker").mkdir()
    (pusher.folder / ".docker" / "config.json").write_text('{"credsStore": "ours"}')
    pusher.environment = {**pusher.environment, "PATH": f"{pusher.folder}:/usr/bin:/bin"}
    with pusher.repository() as repository:
        repository.push_blobs([source(noise(1000, seed)) for seed in range(20)])
    assert (pusher.folder / "asked").read_text() == "asked\n"


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
