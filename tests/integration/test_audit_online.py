"""``audit --online``: what is published under the tags of images that are here, held against them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.misbehaving import Answer, Misbehaving
from tests.projects import Project, make_project, require_sandbox
from tests.published import Shelf, copy, published
from tests.servers import free_port

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("project"))
    project.call("lock", "copier")
    with published(project, tmp_path_factory.mktemp("registry")) as shelf:
        yield shelf


def knowing(shelf: Shelf, *namespaces: str, to: str = "") -> Project:
    """Give the project that built the image, with settings that name registries."""
    settings = {"REPROBUILD_SUBSTITUTERS": " ".join(namespaces)}
    if to:
        settings["REPROBUILD_PUBLISH_TO"] = to
    return Project(shelf.project.folder, shelf.project.store, settings)


@pytest.mark.twice
def test_equal_images_are_no_finding(shelf: Shelf) -> None:
    for project in (knowing(shelf, shelf.name), knowing(shelf, to=shelf.name)):
        ended = project.call("audit", "--online", "--json")
        assert (ended.json["findings"], ended.json["published"], ended.json["silent"]) == ([], 1, [])


def test_what_is_not_published_is_no_finding(shelf: Shelf) -> None:
    ended = knowing(shelf, f"{shelf.address}/nobody").call("audit", "--online", "--json")
    assert (ended.json["findings"], ended.json["published"]) == ([], 0)


@pytest.mark.parametrize("wrong", ["image ID", "input hash"])
def test_another_image_under_the_tag_is_found(shelf: Shelf, wrong: str) -> None:
    changed = shelf.name.replace("models", f"changed-{wrong.replace(' ', '-').lower()}")
    tag = f"{changed}/{shelf.tag.rpartition('/')[2]}"
    copy(shelf.tag, tag)
    manifest = shelf.manifest()
    if wrong == "image ID":
        manifest["config"] |= shelf.put_blob(b"{}")
        theirs = manifest["config"]["digest"]
    else:
        theirs = manifest["annotations"]["org.reprobuild.input-hash"] = "sha256:" + "0" * 64
    shelf.put_manifest(manifest, namespace=changed.partition("/")[2])
    ended = knowing(shelf, changed).call("audit", "--online", "--json", check=False)
    assert ended.code == 4
    (finding,) = ended.json["findings"]
    assert (finding["kind"], finding["what"]) == ("published", tag)
    assert f"{wrong}: {theirs}, and here" in finding["problem"]
    assert knowing(shelf, changed).call("audit", "copier", "--online", check=False).code == 4


def test_what_is_no_image_is_found(shelf: Shelf) -> None:
    tag = shelf.tag.rpartition(":")[2]
    with Misbehaving() as server:
        server.answers |= {"/v2/": [Answer(b"{}")], f"/v2/x/copier/manifests/{tag}": [Answer(b"nonsense")]}
        ended = knowing(shelf, f"{server.host}/x").call("audit", "--online", "--json", check=False)
    assert ended.code == 4
    assert "its manifest makes no sense" in ended.json["findings"][0]["problem"]


def test_a_registry_that_does_not_answer_is_exit_code_5(shelf: Shelf) -> None:
    dead = f"127.0.0.1:{free_port()}"
    ended = knowing(shelf, f"{dead}/x", f"{dead}/y", shelf.name).call("audit", "--online", check=False)
    assert ended.code == 5
    assert ended.err.count("error: ") == 1
    assert f"no connection to {dead}" in ended.err
    assert "1 published image compared" in ended.err


def test_an_image_that_was_pulled_is_asked_for_where_it_came_from(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "reprobuild.toml").write_text("")
    stranger = Project(tmp_path, tmp_path / "store")
    stranger.call("pull", shelf.tag)
    assert stranger.call("audit", "--online", "--json").json["published"] == 1


def test_it_excludes_offline(shelf: Shelf) -> None:
    ended = shelf.project.call("audit", "--online", "--offline", check=False)
    assert (ended.code, "--online and --offline exclude each other" in ended.err) == (2, True)


def test_without_a_registry_nothing_is_asked(shelf: Shelf) -> None:
    ended = shelf.project.call("audit", "--online", "--json")
    assert json.loads(ended.out)["published"] == 0
    assert "no registry is named" in ended.err
