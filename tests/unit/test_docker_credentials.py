from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from reprobuild.errors import OutsideError, UsageError
from reprobuild.fetch.challenge import Challenge, read_challenges
from reprobuild.fetch.docker_credentials import Credentials, DockerCredentials


def encoded(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def kept(folder: Path, config: Any, **environment: str) -> DockerCredentials:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    path = f"{folder}:{os.environ['PATH']}"
    return DockerCredentials({"DOCKER_CONFIG": str(folder), "HOME": str(folder), "PATH": path, **environment})


def helper(folder: Path, name: str, script: str) -> None:
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\nread server\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("kept_as", "asked"),
    [
        ("registry.test", "registry.test"),
        ("https://registry.test/v2/", "registry.test"),
        ("https://registry.test:5000", "registry.test:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
    ],
)
def test_a_registry_is_found_under_each_of_its_names(kept_as: str, asked: str, tmp_path: Path) -> None:
    config = {"auths": {kept_as: encoded("me", "p:w"), "other.test": encoded("a", "b")}}
    assert kept(tmp_path, config).find(asked) == Credentials("me", "p:w")
    assert kept(tmp_path, config).find("elsewhere.test") is None


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"identitytoken": "t", "auth": ""}, Credentials(identity_token="t")),
        ({"username": "me", "password": "pw"}, Credentials("me", "pw")),
        ({}, None),
    ],
    ids=["identity token", "in the clear", "empty, as helpers leave it"],
)
def test_entries_have_several_forms(entry: dict[str, str], found: object, tmp_path: Path) -> None:
    assert kept(tmp_path, {"auths": {"registry.test": entry}}).find("registry.test") == found


def test_podman_s_file_counts_too(tmp_path: Path) -> None:
    (tmp_path / "containers").mkdir()
    auth = {"auths": {"registry.test": encoded("pod", "man")}}
    (tmp_path / "containers" / "auth.json").write_text(json.dumps(auth))
    found = kept(tmp_path, "", XDG_RUNTIME_DIR=str(tmp_path)).find("registry.test")
    assert found == Credentials("pod", "man")


def test_a_helper_wins_over_the_file_and_has_nothing_for_others(tmp_path: Path) -> None:
    helper(tmp_path, "one", 'echo "{\\"Username\\": \\"$server\\", \\"Secret\\": \\"s\\"}"')
    helper(tmp_path, "all", 'echo "credentials not found in native keychain"; exit 1')
    config = {
        "credHelpers": {"registry.test": "one"},
        "credsStore": "all",
        "auths": {"registry.test": encoded("a", "b"), "other.test": encoded("c", "d")},
    }
    assert kept(tmp_path, config).find("registry.test") == Credentials("registry.test", "s")
    assert kept(tmp_path, config).find("other.test") == Credentials("c", "d")


@pytest.mark.parametrize(
    ("config", "script", "problem"),
    [
        ('{"auths": ', "", "is no JSON"),
        ("[]", "", "is no JSON"),
        ("[" * 100_000, "", "is no JSON: it is nested too deeply"),
        ({"auths": {"registry.test": {"auth": "%%%"}}}, "", "cannot be read"),
        ({"credsStore": "../evil"}, "", "no name of a credential helper"),
        ({"credsStore": "missing"}, "", "which is not installed"),
        ({"credsStore": "ours"}, "echo locked >&2; exit 3", "fails for registry.test: locked"),
        ({"credsStore": "ours"}, "echo '[1]'", "makes no sense"),
        ({"credsStore": "ours"}, "head -c 50000 /dev/zero | tr '\\0' '['", "makes no sense"),
    ],
)
def test_what_cannot_be_used_is_told(config: object, script: str, problem: str, tmp_path: Path) -> None:
    helper(tmp_path, "ours", script)
    with pytest.raises((UsageError, OutsideError), match=problem):
        kept(tmp_path, config).find("registry.test")


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    found = kept(tmp_path, {"auths": {"registry.test": encoded("me", "hush")}}).find("registry.test")
    assert "hush" not in repr(found)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (
            ['Bearer realm="https://a.test/t?x=1,2",service="r",scope="repository:x:pull,push"'],
            [
                Challenge(
                    "bearer",
                    {"realm": "https://a.test/t?x=1,2", "service": "r", "scope": "repository:x:pull,push"},
                )
            ],
        ),
        (['Basic realm="a \\"b\\""'], [Challenge("basic", {"realm": 'a "b"'})]),
        (
            ['Negotiate, Basic realm=x, Bearer realm="y"'],
            [
                Challenge("negotiate", {}),
                Challenge("basic", {"realm": "x"}),
                Challenge("bearer", {"realm": "y"}),
            ],
        ),
        (
            ["BASIC REALM=x", "bearer Realm=y"],
            [Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": "y"})],
        ),
        (['realm="nobody"', "", ",,"], []),
    ],
)  # fmt: skip
def test_challenges_are_read(values: list[str], found: list[Challenge]) -> None:
    assert read_challenges(values) == found
