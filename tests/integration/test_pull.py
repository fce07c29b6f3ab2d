"""Images of others, taken by their tags alone: what works with them, what is believed, what is refused."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reprobuild import load
from reprobuild.errors import UsageError
from tests.projects import Project, make_project, require_sandbox
from tests.published import Shelf, published

pytestmark = pytest.mark.once

RECORD = '{"text": "abc"}\n'


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("project"))
    project.call("lock", "copier")
    with published(project, tmp_path_factory.mktemp("registry")) as shelf:
        yield shelf


@pytest.fixture
def stranger(tmp_path: Path) -> Project:
    """Somebody without the recipe."""
    (tmp_path / "reprobuild.toml").write_text("")
    return Project(tmp_path, tmp_path / "store")


@pytest.mark.twice
def test_a_tag_is_enough_for_everything_that_an_image_can_do(shelf: Shelf, stranger: Project) -> None:
    pulled = stranger.call("pull", shelf.tag, "--json").json
    assert pulled["tag"] == shelf.tag
    for field in ("image_id", "input_hash", "recipe", "version"):
        assert pulled[field] == shelf.realized[field]
    assert [layer["status"] for layer in pulled["layers"]] == ["pulled"] * 4
    assert pulled["predictors"] == ["broken", "default", "online"]
    assert "1 example, 0 failed" in stranger.call("test", shelf.tag).err
    record = ("--input", "-", "--output", "-")
    theirs = shelf.project.call("predict", "copier", *record, stdin=RECORD).out
    short = shelf.tag.partition("/")[2]
    for name in (shelf.tag, f"{shelf.tag}/default", short, pulled["image_id"][7:19], short.partition("/")[2]):
        assert stranger.call("predict", name, *record, stdin=RECORD).out == theirs
    assert stranger.call("run", shelf.tag, "--", "cat", "/app/word").out == "word\n"
    assert stranger.call("predict", f"{short}/broken", *record, stdin=RECORD, check=False).code == 1
    (listed,) = stranger.call("list", "--json").json["images"]
    assert listed["tag"] == shelf.tag
    shown = stranger.call("show", shelf.tag, "--json").json
    assert shown["predictors"]["default"]["examples"] == 1
    assert shown["isolation"] == f"pulled from {shelf.tag}@{pulled['manifest']}"
    archive = stranger.folder / "image.tar"
    stranger.call("export", shelf.tag, "--to", str(archive))
    assert archive.stat().st_size > 2_000_000


def test_python_takes_a_tag_too(shelf: Shelf, stranger: Project) -> None:
    stranger.call("pull", shelf.tag)
    with load(shelf.tag, store=stranger.store) as model:
        assert model.predict("abc") == "abc"
    with pytest.raises(UsageError, match="it has no options"):
        load(f"{shelf.tag}/default", store=stranger.store, extra="x")


def test_what_was_published_beside_it_comes_too(shelf: Shelf, stranger: Project) -> None:
    published = shelf.project.call("publish", "copier", "--to", f"{shelf.address}/whole", "--json").json
    ended = stranger.call("pull", published["tag"], "--json")
    assert "cannot be had" not in ended.err
    assert ended.json["derivation"]
    assert [one["step"] for one in ended.json["layers"]] == [one["step"] for one in shelf.realized["layers"]]


def test_it_is_kept_until_it_is_forgotten(shelf: Shelf, stranger: Project) -> None:
    stranger.call("pull", shelf.tag)
    stranger.call("gc", "--grace", "0")
    assert stranger.call("audit").code == 0
    assert stranger.call("run", shelf.tag, "--", "cat", "/app/word").out == "word\n"
    refused = stranger.call("gc", "--forget", "copier", check=False)
    assert (refused.code, f"there are: {shelf.tag}" in refused.err) == (2, True)
    stranger.call("gc", "--forget", shelf.tag, "--dry-run")
    stranger.call("gc", "--grace", "0", "--forget", shelf.tag, "--checkouts")
    stranger.call("gc", "--grace", "0")  # a checkout's listing goes after the checkout
    assert stranger.blobs() == []
    assert stranger.call("run", shelf.tag, "--", "cat", "/app/word", check=False).code == 2


def test_pulling_again_brings_nothing(shelf: Shelf, stranger: Project) -> None:
    stranger.call("pull", shelf.tag)
    again = stranger.call("pull", shelf.tag, "--json").json
    assert again["fetched_bytes"] == 0
    assert {layer["status"] for layer in again["layers"]} == {"reused"}


def test_what_was_not_checked_is_said(shelf: Shelf, stranger: Project) -> None:
    text = stranger.call("pull", shelf.tag).out
    assert "checked     layers, config and manifest fit each other and the tag" in text
    assert "unchecked   that these inputs come to this image: no lock here says so" in text


def test_with_the_recipe_the_lock_confirms_it_and_realize_takes_it(shelf: Shelf, tmp_path: Path) -> None:
    reader = Project(shelf.project.folder, tmp_path / "store")
    pulled = reader.call("pull", shelf.tag, "--json").json
    assert pulled["confirmed_by"] == ["copier"]
    planned = reader.call("realize", "copier", "--dry-run").out
    assert planned == f"copier: nothing to do; {shelf.realized['tag']} is there\n"
    realized = reader.call("realize", "copier", "--offline", "--json").json
    assert realized["image_id"] == shelf.realized["image_id"]
    assert realized["isolation"] == f"pulled from {shelf.tag}@{pulled['manifest']}"
    assert {layer["status"] for layer in realized["layers"]} == {"reused"}
    assert [layer["step"] for layer in realized["layers"]] == [
        one["step"] for one in shelf.realized["layers"]
    ]
    assert reader.call("audit").code == 0


def test_a_pulled_image_never_stands_in_for_a_recipe_s(shelf: Shelf, tmp_path: Path) -> None:
    """Whoever publishes can claim any input hash: without a lock that confirms it, it is not taken."""
    reader = Project(shelf.project.folder, tmp_path / "store")
    reader.call("pull", shelf.tag)
    text = shelf.project.lock.read_text()
    try:
        shelf.project.lock.write_text(text[: text.index(' "outputs"')] + ' "outputs": {}\n}\n')
        realized = reader.call("realize", "copier", "--json").json
    finally:
        shelf.project.lock.write_text(text)
    assert realized["engine"] == "sandbox"
    assert realized["layers"][-1]["status"] == "built"


def test_a_manifest_can_be_named(shelf: Shelf, stranger: Project) -> None:
    digest = stranger.call("pull", shelf.tag, "--json").json["manifest"]
    name = shelf.tag.rpartition(":")[0]
    for text in (f"{shelf.tag}@{digest}", f"{name}@{digest}"):
        assert stranger.call("pull", text, "--json").json["tag"] == shelf.tag
    assert stranger.call("run", f"{shelf.tag}@{digest}", "--", "true").code == 0
    other = f"{shelf.tag}@sha256:{'0' * 64}"
    assert stranger.call("run", other, "--", "true", check=False).code == 2
    ended = stranger.call("pull", other, check=False)
    assert (ended.code, "there is no image" in ended.err) == (5, True)


def test_a_local_tag_is_looked_for_at_the_substituters(shelf: Shelf, stranger: Project) -> None:
    for text in (shelf.realized["tag"], shelf.realized["tag"].partition("/")[2]):
        reader = Project(
            stranger.folder, stranger.store, {"REPROBUILD_SUBSTITUTERS": f"127.0.0.1:9/x {shelf.name}"}
        )
        ended = reader.call("pull", text, "--json", check=False)
        assert ended.code == 5 and "127.0.0.1:9" in ended.err
        reader = Project(stranger.folder, stranger.store, {"REPROBUILD_SUBSTITUTERS": shelf.name})
        assert reader.call("pull", text, "--json").json["tag"] == shelf.tag


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("copier", 2, "'copier' names no tag"),
        ("{name}", 2, "names no tag"),
        ("{name}:latest", 5, "there is no image"),
        ("{name}:1.0-0123456789ab", 5, "there is no image"),
        ("oci-layout:x", 2, "is no image of a registry"),
        ("UPPER/Case:1", 2, "is no image of a registry: 'Case' is no name of a repository"),
        ("https://x/y:1", 2, "is no image of a registry"),
        ("{name}:1@sha256:12", 2, "is no digest"),
        ("{name}:1.0-0123456789ab --offline", 5, "this run may not use the network"),
    ],
)
def test_what_cannot_be_pulled_is_told(
    shelf: Shelf, stranger: Project, text: str, code: int, told: str
) -> None:
    name = shelf.tag.rpartition(":")[0]
    ended = stranger.call("pull", *text.format(name=name).split(), check=False)
    assert ended.code == code
    assert told in ended.err


# Images that contradict themselves. Each test has a registry of its own.


@pytest.fixture
def victim(shelf: Shelf, tmp_path: Path) -> Iterator[Shelf]:
    (tmp_path / "registry").mkdir()
    with published(shelf.project, tmp_path / "registry") as victim:
        yield victim


def with_config(shelf: Shelf, **changes: Any) -> None:
    """Let the tag name an image with another config."""
    manifest = shelf.manifest()
    config = json.loads(shelf.file(manifest["config"]["digest"]).read_bytes())
    config["config"] |= changes.pop("config", {})
    body = json.dumps({**config, **changes}, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    manifest["config"] |= shelf.put_blob(body.encode())
    shelf.put_manifest(manifest)


def predictors(**changes: Any) -> dict[str, Any]:
    one = {
        "command": "cp {input} {output}",
        "cuda": False,
        "examples": [],
        "inputs": [["text", "str"]],
        "network": "",
        "outputs": [["text", "str"]],
        "parameters": {},
        "protocol": "files",
        "random": False,
        "scope": "item",
        "threads": 1,
        "tolerance": 0,
    }
    value = {"default": {**one, **changes}}
    label = json.dumps(value, separators=(",", ":"), sort_keys=True)
    return {"config": {"Labels": {"org.reprobuild.predictors": label}}}


def test_other_predictors_than_at_first_are_another_image(victim: Shelf, stranger: Project) -> None:
    with_config(victim, **predictors())
    pulled = stranger.call("pull", victim.tag, "--json").json
    assert pulled["predictors"] == ["default"]
    assert pulled["image_id"] != victim.realized["image_id"]


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "a command that is none": (predictors(command=5), "its predictors are none that a recipe can say"),
    "a type that is none": (predictors(inputs=[["text", "elephant"]]), "its predictors are none"),
    "a field too many": (predictors(secret=1), "its predictors are none"),
    "an example that is none": (predictors(examples=[5]), "its predictors are none"),
    "an exchange that is none": (predictors(exchanges=[{"name": 5}]), "its predictors are none"),
    "no command": ({"config": {"Labels": {"org.reprobuild.predictors": '{"x":{}}'}}}, "its predictors"),
    "no predictors": ({"config": {"Labels": {}}}, "an image's config makes no sense"),
    "a work folder that is none": ({"config": {"WorkingDir": 5}}, "its work folder makes no sense"),
    "variables that are none": ({"config": {"Env": ["PATH"]}}, "an image's config makes no sense"),
    "another platform": ({"architecture": "arm64"}, "is for linux/arm64, and this is linux/amd64"),
    "more fields": ({"author": "me"}, "is not one that reprobuild writes"),
    "layers that are none": ({"rootfs": {"diff_ids": [], "type": "layers"}}, "its config names 0 layers"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_makes_no_sense_is_refused(victim: Shelf, stranger: Project, case: str) -> None:
    changes, told = CONFIGS[case]
    if case == "layers that are none":
        changes = {**changes, "history": []}
    with_config(victim, **changes)
    ended = stranger.call("pull", victim.tag, check=False)
    assert ended.code in (2, 4)
    assert told in ended.err
    assert stranger.call("list", "--json").json["images"] == []


@pytest.mark.parametrize(
    ("annotations", "told"),
    [
        ({"org.reprobuild.input-hash": "sha256:" + "0" * 64}, "would have the tag '1.0-000000000000'"),
        ({"org.reprobuild.input-hash": "nonsense"}, "names no input hash"),
        ({"org.opencontainers.image.version": "2.0"}, "would have the tag '2.0-"),
        ({"org.opencontainers.image.title": "../../etc"}, "names no recipe and version: '../../etc'"),
    ],
)
def test_a_manifest_that_contradicts_its_tag_is_refused(
    victim: Shelf, stranger: Project, annotations: dict[str, str], told: str
) -> None:
    manifest = victim.manifest()
    manifest["annotations"] |= annotations
    victim.put_manifest(manifest)
    ended = stranger.call("pull", victim.tag, check=False)
    assert ended.code == 4
    assert told in ended.err


def test_a_layer_that_does_not_fit_the_ones_below_is_refused(victim: Shelf, stranger: Project) -> None:
    manifest = victim.manifest()
    manifest["layers"].reverse()
    config = json.loads(victim.file(manifest["config"]["digest"]).read_bytes())
    removing = Project(victim.project.folder, victim.project.store)
    lock = victim.project.lock.read_bytes()
    try:
        removing.call("lock", "copier", "--set", "extra=rm /app/word")
        there = removing.call("realize", "copier", "--set", "extra=rm /app/word", "--json").json
    finally:
        victim.project.lock.write_bytes(lock)
    archive = stranger.folder / "x.tar"
    removing.call("export", there["image_id"][7:19], "--to", str(archive))
    last = there["layers"][-1]["diff_id"]
    with tarfile.open(archive) as layout:
        body = layout.extractfile(f"blobs/sha256/{last[7:]}")
        assert body is not None
        layer = {**manifest["layers"][0], **victim.put_blob(body.read())}
    manifest["layers"] = [{**layer, "mediaType": "application/vnd.oci.image.layer.v1.tar"}]
    config["rootfs"]["diff_ids"] = [last]
    config["history"] = config["history"][:1]
    text = json.dumps(config, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    manifest["config"] |= victim.put_blob(text.encode())
    victim.put_manifest(manifest)
    ended = stranger.call("pull", victim.tag, check=False)
    assert ended.code == 4
    assert "the layer removes /app/word, which the tree below does not have" in ended.err


def test_another_image_than_was_built_here_is_refused(victim: Shelf) -> None:
    with_config(victim, **predictors())
    ended = victim.project.call("pull", victim.tag, check=False)
    assert ended.code == 4
    assert "is not what its inputs came to here" in ended.err
    assert victim.realized["image_id"] in ended.err


def test_a_layer_that_is_gone_is_told_and_the_rest_is_not_fetched_again(
    victim: Shelf, stranger: Project
) -> None:
    lost = victim.file(victim.manifest()["layers"][3]["digest"])
    lost.rename(lost.with_name("kept"))
    ended = stranger.call("pull", victim.tag, check=False)
    assert (ended.code, "answers 404" in ended.err) == (5, True)
    assert stranger.call("list", "--json").json["images"] == []
    lost.with_name("kept").rename(lost)
    statuses = [layer["status"] for layer in stranger.call("pull", victim.tag, "--json").json["layers"]]
    assert statuses.count("pulled") < 4
    shutil.rmtree(stranger.store)
