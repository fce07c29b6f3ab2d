"""Base images from registries: Docker's own, and a stand-in with tokens, a CDN, limits and changed bytes."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprobuild.errors import CheckFailedError, DigestMismatchError, RecipeError, UpstreamError
from reprobuild.fetch.http import UnreachableError
from tests.base_images import DOCKER, BaseImage, index, layer, sha256, write_docker_archive, write_layout
from tests.base_scene import Scene, make_scene
from tests.servers import REGISTRY_PASSWORD, docker_registry, skopeo
from tests.sites.registry import BlobSite, RegistrySite, TokenSite, failure
from tests.upstreams import Answer, Authority, Upstreams, upstreams

pytestmark = pytest.mark.once

SAID = {"Env": ["PATH=/bin"], "WorkingDir": "/srv"}
LOWER = layer({"etc/motd": b"hello", "srv/gone": b"1", "srv/big": bytes(3_000_000)}, folders=["etc", "srv"])
IMAGE = BaseImage([LOWER, layer({"srv/new": b"3"}, whiteouts=["srv/gone"])], SAID)
OTHER = BaseImage([layer({"other": b""})], architecture="arm64")
PATHS = ["etc", "etc/motd", "srv", "srv/big", "srv/new"]


def paths(scene: Scene, reference: str, *mirrors: str) -> list[str]:
    return [entry.path for entry in scene.tree(reference, *mirrors)]


# Docker's own registry.


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with docker_registry(tmp_path) as address:
        yield address


def push(layout: str, target: str, *options: str) -> None:
    skopeo("copy", "--all", *options, layout, f"docker://{target}")


def test_one_image_is_one_tree_from_a_registry_a_layout_and_an_archive(registry: str, tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    write_layout(tmp_path / "base", IMAGE)
    write_docker_archive(tmp_path / "base.tar", IMAGE)
    push(f"oci:{tmp_path}/base", f"{registry}/x/y:1.0", "--dest-tls-verify=false")
    pins = scene.resolve(f"{registry}/x/y:1.0")
    assert [pin.name for pin in pins] == ["manifest", "config", "layer 1", "layer 2"]
    assert pins[0].found == {"url": f"{registry}/x/y:1.0@{sha256(IMAGE.manifest)}"}
    by_digest = f"{registry}/x/y@{pins[0].sha256}"
    references = (f"{registry}/x/y:1.0", by_digest, "oci-layout:base", "docker-archive:base.tar")
    trees = {scene.tree(one).digest for one in references}
    assert len(trees) == 1
    from_layout = scene.resolve("oci-layout:base")
    assert [pin.content for pin in from_layout] == [pin.content for pin in pins]


def test_an_index_gives_the_image_for_the_platform(registry: str, tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    write_layout(tmp_path / "base", IMAGE, OTHER, name="1", top=index(OTHER, IMAGE))
    push(f"oci:{tmp_path}/base:1", f"{registry}/x:1", "--dest-tls-verify=false")
    assert paths(scene, f"{registry}/x:1") == PATHS
    scene.platform = "linux/arm64"
    assert paths(scene, f"{registry}/x:1") == ["other"]
    scene.platform = "linux/ppc64le"
    with pytest.raises(RecipeError, match="not there for linux/ppc64le") as caught:
        scene.resolve(f"{registry}/x:1")
    assert caught.value.hint == "it is there for linux/amd64, linux/arm64"


def test_docker_s_own_manifests_are_read(registry: str, tmp_path: Path) -> None:
    write_docker_archive(tmp_path / "base.tar", IMAGE)
    push(
        f"docker-archive:{tmp_path}/base.tar",
        f"{registry}/x:1",
        "--dest-tls-verify=false",
        "--format",
        "v2s2",
    )
    assert paths(make_scene(tmp_path), f"{registry}/x:1") == PATHS


def test_a_registry_behind_tls_takes_docker_s_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    login = base64.b64encode(f"models:{REGISTRY_PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"registry.test": {"auth": login}}}))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.path))
    with docker_registry(tmp_path, certificate=authority.issue("registry.test"), user="models") as address:
        write_layout(tmp_path / "base", IMAGE)
        push(f"oci:{tmp_path}/base", f"{address}/x:1", "--dest-tls-verify=false",
             f"--dest-creds=models:{REGISTRY_PASSWORD}")  # fmt: skip
        scene = make_scene(
            tmp_path,
            {
                "REPROBUILD_CONNECT_TO": f"registry.test:443:{address}",
                "REPROBUILD_ALLOW_PRIVATE": "registry.test",
            },
        )
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "empty"))
        with pytest.raises(
            UpstreamError, match=r"registry.test answers 401 for x: it wants to know who"
        ) as caught:
            scene.resolve("registry.test/x:1")
        assert caught.value.hint == "docker login registry.test"
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        assert paths(scene, "registry.test/x:1") == PATHS


def test_a_reference_that_is_gone_says_so(registry: str, tmp_path: Path) -> None:
    told = r"^base_scene.py:\d+: oci .*/x:1: .* answers 404 for x: there is no such thing: manifest unknown$"
    with pytest.raises(UpstreamError, match=told):
        make_scene(tmp_path).resolve(f"{registry}/x:1")


def test_a_lock_needs_the_registry_only_where_bytes_are_missing(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    with docker_registry(tmp_path) as address:
        write_layout(tmp_path / "base", IMAGE)
        push(f"oci:{tmp_path}/base", f"{address}/x:1", "--dest-tls-verify=false")
        pins = scene.resolve(f"{address}/x:1")
        scene.place(f"{address}/x:1", pins)
    assert scene.place(f"{address}/x:1", pins).entries
    (tmp_path / "fresh").mkdir()
    with pytest.raises(UpstreamError, match="no connection"):
        make_scene(tmp_path / "fresh").place(f"{address}/x:1", pins)


# A stand-in with the peculiarities of public ones.


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstreams]:
    with upstreams(tmp_path) as made:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made.authority.path))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
        (tmp_path / "docker").mkdir()
        yield made


def login(folder: Path, **config: object) -> None:
    (folder / "docker" / "config.json").write_text(json.dumps(config))


def auths(registry: str, user: str, password: str) -> dict[str, object]:
    return {registry: {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}}


def test_docker_hub_s_way_is_gone(net: Upstreams, tmp_path: Path) -> None:
    tokens, cdn = TokenSite(), BlobSite()
    site = RegistrySite(tokens, cdn=cdn)
    top = index(OTHER, IMAGE, kind=f"{DOCKER}distribution.manifest.list.v2+json")
    site.add("library/python", "3.7-slim", IMAGE, OTHER, top=top)
    for host, one in (("registry-1.docker.io", site), ("auth.test", tokens), ("cdn.test", cdn)):
        net.add(host, one)
    scene = make_scene(tmp_path, net.environment())
    assert paths(scene, "python:3.7-slim") == PATHS
    assert set(tokens.scopes) == {"repository:library/python:pull"}
    assert set(cdn.proofs) == {""}, "a token was shown to a host that it is not for"


def test_passwords_go_to_the_registry_s_token_server_and_nowhere_else(net: Upstreams, tmp_path: Path) -> None:
    tokens, cdn = TokenSite("me", "secret"), BlobSite()
    site = RegistrySite(tokens, cdn=cdn)
    site.add("x/y", "1", IMAGE)
    for host, one in (("registry.test", site), ("auth.test", tokens), ("cdn.test", cdn)):
        net.add(host, one)
    login(tmp_path, auths={**auths("registry.test", "me", "secret"), **auths("other.test", "a", "b")})
    assert paths(make_scene(tmp_path, net.environment()), "registry.test/x/y:1") == PATHS
    proof = base64.b64encode(b"me:secret").decode()
    seen = {(one.host, one.headers.get("authorization", "").partition(" ")[0]) for one in net.log}
    assert seen == {
        ("registry.test", ""),
        ("registry.test", "Bearer"),
        ("auth.test", "Basic"),
        ("cdn.test", ""),
    }
    assert all(one.host == "auth.test" for one in net.log if proof in one.headers.get("authorization", ""))


def test_a_wrong_password_is_told(net: Upstreams, tmp_path: Path) -> None:
    tokens = TokenSite("me", "secret")
    net.add("registry.test", RegistrySite(tokens))
    net.add("auth.test", tokens)
    login(tmp_path, auths=auths("registry.test", "me", "guess"))
    with pytest.raises(UpstreamError, match=r"registry.test: its token server .* 401: the password is wrong"):
        make_scene(tmp_path, net.environment()).resolve("registry.test/x:1")


def test_a_helper_of_docker_s_is_asked(
    net: Upstreams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = TokenSite(refresh_token="long-lived")
    site = RegistrySite(tokens)
    site.add("x", "1", IMAGE)
    net.add("registry.test", site)
    net.add("auth.test", tokens)
    helper = tmp_path / "docker-credential-ours"
    helper.write_text(
        '#!/bin/sh\nread server\necho "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"long-lived\\"}"\n'
    )
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    login(tmp_path, credHelpers={"registry.test": "ours"})
    assert paths(make_scene(tmp_path, net.environment()), "registry.test/x:1") == PATHS


def test_a_token_server_without_tls_gets_no_password(net: Upstreams, tmp_path: Path) -> None:
    tokens = TokenSite("me", "secret")
    net.add("registry.test", RegistrySite(tokens, realm="http://auth.test/token"))
    net.add("auth.test", tokens)
    login(tmp_path, auths=auths("registry.test", "me", "secret"))
    with pytest.raises(
        UpstreamError, match=r"wants its password sent to http://auth.test/token, which is not safe"
    ):
        make_scene(tmp_path, net.environment()).resolve("registry.test/x:1")
    assert net.asked("auth.test") == []


@pytest.mark.parametrize("body", [b"[" * 100_000, b"[]", b'{"token": [1]}'], ids=["deep", "list", "number"])
def test_a_token_server_that_gives_none_is_told(net: Upstreams, tmp_path: Path, body: bytes) -> None:
    net.add("registry.test", RegistrySite(TokenSite()))
    net.add("auth.test", lambda _: Answer(body))
    with pytest.raises(UpstreamError, match=r"its token server https://auth.test/token gives no token"):
        make_scene(tmp_path, net.environment()).resolve("registry.test/x:1")


@pytest.mark.parametrize("realm", ["https://[1/token", "https://auth.test:x/token", "https:///token"])
def test_a_token_server_that_makes_no_sense_is_told(net: Upstreams, tmp_path: Path, realm: str) -> None:
    net.add("registry.test", RegistrySite(TokenSite("me", "secret"), realm=realm))
    with pytest.raises(UpstreamError, match="names a token server that makes no sense"):
        make_scene(tmp_path, net.environment()).resolve("registry.test/x:1")


def test_a_limit_is_waited_for_or_told(net: Upstreams, tmp_path: Path) -> None:
    site = RegistrySite()
    site.add("x", "1", IMAGE)
    net.add("registry.test", site)
    scene = make_scene(tmp_path, net.environment())
    site.before = [failure(429, "TOOMANYREQUESTS", "slow down", **{"Retry-After": "0"}), Answer(b"", 503)]
    assert paths(scene, "registry.test/x:1") == PATHS
    site.before = [failure(429, "TOOMANYREQUESTS", "You have reached your limit", **{"Retry-After": "3600"})]
    told = r"429 .*asked too often: You have reached your limit \(again in 3600 s\)"
    with pytest.raises(UpstreamError, match=told) as caught:
        scene.resolve("registry.test/x:1")
    assert "mirrors" in caught.value.hint


def test_mirrors_of_the_settings_are_asked_first_and_the_registry_when_they_fail(
    net: Upstreams, tmp_path: Path
) -> None:
    site, mirror = RegistrySite(), RegistrySite()
    site.add("library/python", "3", IMAGE)
    mirror.add("hub/library/python", "3", IMAGE)
    net.add("registry-1.docker.io", site)
    net.add("mirror.test", mirror)
    environment = {**net.environment(), "REPROBUILD_OCI_MIRRORS": "docker.io=https://mirror.test/hub"}
    scene = make_scene(tmp_path, environment)
    assert paths(scene, "python:3") == PATHS
    assert net.asked("registry-1.docker.io") == []
    mirror.manifests.clear()
    pins = scene.resolve("python:3")
    assert net.asked("registry-1.docker.io")
    (tmp_path / "fresh").mkdir()
    mirror.blobs.clear()
    assert make_scene(tmp_path / "fresh", environment).place("python:3", pins).entries


def test_mirrors_of_the_recipe_come_last(net: Upstreams, tmp_path: Path) -> None:
    site = RegistrySite()
    site.add("kept/x", "1", IMAGE)
    net.add("mirror.test", site)
    net.add("registry.test", RegistrySite())
    pins = make_scene(tmp_path, net.environment()).resolve("registry.test/x:1", "mirror.test/kept/x")
    assert pins[0].found["url"].startswith("registry.test/x:1@")


def test_a_manifest_that_is_not_the_digest_s_is_refused(net: Upstreams, tmp_path: Path) -> None:
    site = RegistrySite()
    site.add("x", "1", IMAGE)
    asked = f"x@{sha256(IMAGE.manifest)}"
    site.manifests[asked] = (OTHER.manifest, OTHER.manifest_type)
    net.add("registry.test", site)
    with pytest.raises(
        CheckFailedError, match=r"gives another manifest of registry.test/x than it was asked"
    ):
        make_scene(tmp_path, net.environment()).resolve(f"registry.test/{asked}")


def test_a_blob_that_is_not_the_digest_s_is_refused(net: Upstreams, tmp_path: Path) -> None:
    site = RegistrySite()
    site.add("x", "1", IMAGE)
    site.blobs[sha256(IMAGE.packed[1])] = IMAGE.packed[0]
    net.add("registry.test", site)
    with pytest.raises(DigestMismatchError, match="layer 2: the bytes are not the pinned ones"):
        make_scene(tmp_path, net.environment()).tree("registry.test/x:1")


REFUSED = {
    "schema 1": (
        (b'{"schemaVersion": 1, "fsLayers": []}', "application/vnd.docker.distribution.manifest.v1+json"),
        "Docker's old schema 1",
    ),
    "an artefact": ((b'{"schemaVersion": 2, "mediaType": "application/spdx+json"}', ""), "is no image"),
    "no JSON": ((b"<html>", "text/html"), "makes no sense"),
    "nothing of a digest": ((b'{"schemaVersion": 2, "manifests": [{"size": 1}]}', ""), "makes no sense"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_manifest_that_cannot_be_used_is_refused_by_name(name: str, net: Upstreams, tmp_path: Path) -> None:
    found, problem = REFUSED[name]
    site = RegistrySite()
    site.manifests["x:1"] = found
    net.add("registry.test", site)
    with pytest.raises((RecipeError, CheckFailedError), match=problem):
        make_scene(tmp_path, net.environment()).resolve("registry.test/x:1")


def test_a_layer_that_registries_do_not_give_out_is_refused(net: Upstreams, tmp_path: Path) -> None:
    site = RegistrySite()
    site.add("x", "1", BaseImage([LOWER], layer_type=f"{DOCKER}image.rootfs.foreign.diff.tar.gzip"))
    net.add("registry.test", site)
    with pytest.raises(RecipeError, match="a layer that registries do not give out"):
        make_scene(tmp_path, net.environment()).resolve("registry.test/x:1")


def test_a_registry_at_an_address_that_is_not_public_is_not_asked(net: Upstreams, tmp_path: Path) -> None:
    scene = make_scene(tmp_path, {"REPROBUILD_ALLOW_PRIVATE": "nobody.test"})
    with pytest.raises(UpstreamError, match="not public"):
        scene.resolve(f"localhost:{net.ports['http']}/x:1")


def test_plain_http_is_spoken_on_this_machine_alone(net: Upstreams, tmp_path: Path) -> None:
    site = RegistrySite()
    site.add("x", "1", IMAGE)
    net.add_elsewhere("registry.test", f"127.0.0.1:{net.ports['http']}")
    scene = make_scene(tmp_path, {"REPROBUILD_CONNECT_TO": " ".join(net.connect_to())})
    with pytest.raises(UnreachableError, match="no secure connection"):
        scene.resolve("registry.test/x:1")
