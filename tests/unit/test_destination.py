"""Where images are published, and where recipes are said to be kept."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from reprobuild.errors import UsageError
from reprobuild.publish.destination import destination
from reprobuild.publish.origin import address, origin
from tests.publishing import Scene, make_scene
from tests.require import program


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("docker.io/user", "docker.io/user/model"),
        ("docker.io/user/", "docker.io/user/model"),
        ("user", "docker.io/user/model"),
        ("index.docker.io/user", "docker.io/user/model"),
        ("localhost:5000", "localhost:5000/model"),
        ("[::1]:5000/x", "[::1]:5000/x/model"),
        ("registry.example/team/models", "registry.example/team/models/model"),
    ],
)
def test_a_recipe_has_a_repository_below_a_namespace(scene: Scene, to: str, name: str) -> None:
    found = destination(to, scene.derived)
    assert (found.name, found.tag) == (name, f"1.0-{scene.realised.input_hash.short}")


@pytest.mark.parametrize(
    ("to", "message", "hint"),
    [
        pytest.param("", "where to publish", "--to docker.io/USER", id="nowhere"),
        pytest.param("docker.io", "whose repositories", "--to docker.io/USER", id="no account"),
        pytest.param("docker.io/user/x:1.0", "names an image", "leave out the tag", id="a tag"),
        pytest.param(f"docker.io/user/x@sha256:{'0' * 64}", "names an image", "leave out", id="a digest"),
        pytest.param("https://docker.io/user", "has no scheme", "docker.io/USER", id="a scheme"),
        pytest.param("docker.io/User", "is no name of a repository", "docker.io/USER", id="capitals"),
        pytest.param("docker.io/us er", "is no name of a repository", "docker.io/USER", id="a space"),
        pytest.param("docker.io//user", "is no name of a repository", "docker.io/USER", id="two slashes"),
        pytest.param("-x.example/user", "is no name of a registry", "docker.io/USER", id="no host"),
        pytest.param("oci-layout:x", "not a registry", "docker.io/USER", id="a layout"),
        pytest.param("\x1b[31m/x", "is no name", "docker.io/USER", id="control characters"),
    ],
)
def test_what_is_no_namespace_is_refused(scene: Scene, to: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        destination(to, scene.derived)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_recipe_with_a_name_that_no_repository_can_have(scene: Scene) -> None:
    derived = replace(scene.derived, recipe=replace(scene.derived.recipe, name="Model"))
    with pytest.raises(UsageError) as caught:
        destination("docker.io/user", derived)
    assert "give Model another name" in caught.value.hint


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://github.com/owner/repo.git", "https://github.com/owner/repo"),
        ("https://github.com/owner/repo/", "https://github.com/owner/repo"),
        ("https://x-access-token:secret@github.com/owner/repo", "https://github.com/owner/repo"),
        ("git@github.com:owner/repo.git", "https://github.com/owner/repo"),
        ("ssh://git@gitlab.com:22/group/sub/repo.git", "https://gitlab.com/group/sub/repo"),
        ("https://git.sr.ht/~owner/repo", "https://git.sr.ht/~owner/repo"),
        ("https://git.corp.example/secret/project.git", ""),
        ("/srv/git/repo.git", ""),
        ("../repo", ""),
        ("file:///srv/git", ""),
        ("https://github.com.evil.example/owner/repo", ""),
        ("https://github.com/owner/repo?token=x", ""),
        ("ext::sh -c whoami", ""),
        ("", ""),
    ],
)
def test_only_addresses_on_public_forges_are_told_and_no_credentials(remote: str, expected: str) -> None:
    assert address(remote) == expected


def test_git_is_asked_where_a_project_is_kept(tmp_path: Path) -> None:
    assert origin("") == origin(str(tmp_path)) == ""
    for command in (["init", "-q"], ["remote", "add", "origin", "git@github.com:owner/repo.git"]):
        subprocess.run([program("git"), "-C", str(tmp_path), *command], check=True)
    (tmp_path / "below").mkdir()
    assert origin(str(tmp_path / "below")) == "https://github.com/owner/repo"
    assert origin(str(tmp_path), {"PATH": "/nowhere"}) == ""
