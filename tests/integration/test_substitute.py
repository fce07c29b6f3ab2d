"""Images that are pulled instead of built, from Docker's own registry, believed as far as the lock goes."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.misbehaving import Answer, Misbehaving
from tests.projects import Project, make_project, require_sandbox
from tests.published import Shelf, bomb, copy, published, push, statuses, tag_at
from tests.servers import REGISTRY_PASSWORD, docker_registry, free_port
from tests.upstreams import Authority

pytestmark = pytest.mark.once

RECORD = '{"text": "abc"}\n'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("project"))
    project.call("lock", "copier")
    return project


@pytest.fixture
def shelf(project: Project, tmp_path: Path) -> Iterator[Shelf]:
    with published(project, tmp_path) as shelf:
        yield shelf


def is_built_instead(shelf: Shelf, reader: Project, *told: str) -> None:
    """A fall back: said in words, and otherwise as if there were no substituter."""
    ended = reader.call("realize", "copier", "--json")
    assert ended.json["image_id"] == shelf.realized["image_id"]
    assert ended.json["engine"] == "sandbox"
    assert statuses(ended)[-1] == "built"
    assert "pulled" not in statuses(ended)
    assert "hint: it is built instead" in ended.err
    for text in told:
        assert text in ended.err
    assert reader.call("audit").code == 0


def test_an_empty_store_pulls_and_builds_nothing(shelf: Shelf, tmp_path: Path) -> None:
    reader = shelf.reader(tmp_path / "store")
    ended = reader.call("realize", "copier", "--json")
    pulled, built = ended.json, shelf.realized
    for field in ("image_id", "input_hash", "tag"):
        assert pulled[field] == built[field]
    assert statuses(ended) == ["pulled"] * 4
    assert [layer["diff_id"] for layer in pulled["layers"]] == [one["diff_id"] for one in built["layers"]]
    assert [layer["step"] for layer in pulled["layers"]] == [one["step"] for one in built["layers"]]
    manifest = shelf.manifest()
    assert pulled["fetched_bytes"] == sum(layer["size"] for layer in manifest["layers"])
    assert pulled["engine"] == "pulled"
    assert pulled["isolation"].startswith(f"pulled from {shelf.tag}@sha256:")
    assert "built" not in ended.err
    assert not any((reader.store / "checkouts").iterdir())


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(("--dest-compress-format", "zstd"), id="zstd"),
        pytest.param(("--dest-compress-format", "gzip", "--dest-compress-level", "1"), id="another gzip"),
        pytest.param(("--dest-decompress",), id="plain"),
        pytest.param(("--format", "v2s2"), id="Docker's manifest"),
    ],
)
def test_it_does_not_matter_how_it_was_packed(project: Project, tmp_path: Path, how: tuple[str, ...]) -> None:
    """What counts is the image ID, which knows nothing of compression, annotations and types of manifests."""
    realized = project.call("realize", "copier", "--json").json
    with docker_registry(tmp_path) as address:
        push(project, tag_at(f"{address}/x", realized["tag"]), how=how)
        settings = {"REPROBUILD_SUBSTITUTERS": f"{address}/x"}
        ended = Project(project.folder, tmp_path / "store", settings).call("realize", "copier", "--json")
    assert statuses(ended) == ["pulled"] * 4
    assert ended.json["image_id"] == realized["image_id"]


def test_what_publish_pushed_is_pulled_with_its_predictions_equal(project: Project, tmp_path: Path) -> None:
    with docker_registry(tmp_path) as address:
        published = project.call("publish", "copier", "--to", f"{address}/x", "--json").json
        settings = {"REPROBUILD_SUBSTITUTERS": f"{address}/x"}
        reader = Project(project.folder, tmp_path / "store", settings)
        predict = ("predict", "copier", "--input", "-", "--output", "-", "--cache", "off")
        ours, theirs = (one.call(*predict, stdin=RECORD * 3).out for one in (reader, project))
        realized = reader.call("realize", "copier", "--json")
    assert ours == theirs
    assert realized.json["isolation"].endswith(f"{published['tag']}@{published['manifest']}")
    assert "built" not in realized.err


def test_a_substituter_may_want_to_know_who_asks(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.path))
    login = base64.b64encode(f"models:{REGISTRY_PASSWORD}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"registry.test": {"auth": login}}}))
    tag = project.call("realize", "copier", "--json").json["tag"]
    with docker_registry(tmp_path, certificate=authority.issue("registry.test"), user="models") as address:
        push(project, tag_at(f"{address}/x", tag), how=(f"--dest-creds=models:{REGISTRY_PASSWORD}",))
        settings = {
            "REPROBUILD_SUBSTITUTERS": "registry.test/x",
            "REPROBUILD_CONNECT_TO": f"registry.test:443:{address}",
            "DOCKER_CONFIG": str(tmp_path / "nothing"),
        }
        reader = Project(project.folder, tmp_path / "store", settings)
        assert (
            "registry.test/x/copier is not there, or not for whoever"
            in reader.call("realize", "copier", "--dry-run").err
        )
        settings["DOCKER_CONFIG"] = str(tmp_path)
        assert statuses(reader.call("realize", "copier", "--json")) == ["pulled"] * 4


@pytest.mark.twice
def test_what_was_pulled_is_as_what_was_built(shelf: Shelf, tmp_path: Path) -> None:
    reader = shelf.reader(tmp_path / "store")
    reader.call("realize", "copier")
    assert listings(reader) == listings(shelf.project)
    assert reader.call("audit", "--all", check=False).code in (0, 4)
    assert "realisation" not in reader.call("audit", "--all", check=False).out
    ours, theirs = (
        one.call("predict", "copier", "--input", "-", "--output", "-", "--cache", "off", stdin=RECORD).out
        for one in (reader, shelf.project)
    )
    assert ours == theirs == '{"text":"abc"}\n'
    again, before = tmp_path / "again.tar", tmp_path / "before.tar"
    reader.call("export", "copier", "--to", str(again))
    shelf.project.call("export", "copier", "--to", str(before))
    assert again.read_bytes() == before.read_bytes()


def listings(project: Project) -> set[str]:
    records = (json.loads(path.read_bytes()) for path in (project.store / "realisations").glob("*.json"))
    return {layer["layer"] for one in records if one["kind"] == "image" for layer in one["layers"]}


def test_what_is_there_is_asked_for_nowhere(shelf: Shelf, tmp_path: Path) -> None:
    reader = shelf.reader(tmp_path / "store")
    reader.call("realize", "copier")
    away = Project(reader.folder, reader.store, {"REPROBUILD_SUBSTITUTERS": f"127.0.0.1:{free_port()}/x"})
    ended = away.call("realize", "copier", "--json")
    assert statuses(ended) == ["reused"] * 4
    assert ended.json["engine"] == "pulled"
    assert "warning" not in ended.err
    shutil.rmtree(reader.store / "memo")
    assert "warning" not in away.call("realize", "copier").err


def test_only_layers_that_the_store_lacks_are_pulled(shelf: Shelf, tmp_path: Path) -> None:
    other = ("--set", "extra=echo more > /opt/made/more")
    reader = shelf.reader(tmp_path / "store")
    reader.call("realize", "copier")
    lock = shelf.project.lock.read_bytes()
    try:
        shelf.project.call("lock", "copier", *other)
        there = shelf.project.call("realize", "copier", *other, "--json").json
        push(shelf.project, tag_at(shelf.name, there["tag"]), *other)
        planned = reader.call("realize", "copier", *other, "--dry-run", "--json").json
        ended = reader.call("realize", "copier", *other, "--json")
    finally:
        shelf.project.lock.write_bytes(lock)
    assert statuses(ended) == ["reused"] * 4 + ["pulled"]
    assert planned["pull"] == {
        "from": tag_at(shelf.name, there["tag"]),
        "layers": 1,
        "size": ended.json["fetched_bytes"],
    }
    assert {step["action"] for step in planned["steps"]} == {"pull"}


def test_a_plan_says_what_would_be_pulled(shelf: Shelf, tmp_path: Path) -> None:
    reader = shelf.reader(tmp_path / "store")
    lines = reader.call("realize", "copier", "--dry-run").out.splitlines()
    assert lines[0].startswith("copier: pull 4 layers, ")
    assert lines[1] == f"  from   {shelf.tag}"
    assert lines[2] == "  pull   files root to /"
    assert reader.blobs() == []
    without = reader.call("realize", "copier", "--dry-run", "--no-pull").out
    assert without.startswith("copier: fetch 1 file, 262.1 kB; build 4")


def test_a_flag_names_substituters_too(shelf: Shelf, tmp_path: Path) -> None:
    plain = Project(shelf.project.folder, tmp_path / "store")
    assert statuses(plain.call("realize", "copier", "--substituter", shelf.name, "--json")) == ["pulled"] * 4


def test_the_second_substituter_is_asked_where_the_first_has_nothing(shelf: Shelf, tmp_path: Path) -> None:
    reader = shelf.reader(tmp_path / "store", f"{shelf.address}/nobody")
    ended = reader.call("realize", "copier", "--json")
    assert statuses(ended) == ["pulled"] * 4
    assert "warning" not in ended.err


# What is wrong is said, and the image is built.


def test_another_image_under_the_tag_is_not_taken(shelf: Shelf, tmp_path: Path) -> None:
    other = ("--set", "extra=echo other > /opt/other")
    lock = shelf.project.lock.read_bytes()
    try:
        shelf.project.call("lock", "copier", *other)
        got = shelf.project.call("realize", "copier", *other, "--json").json["image_id"]
        push(shelf.project, shelf.tag, *other)
    finally:
        shelf.project.lock.write_bytes(lock)
    told = f"{shelf.tag} is another image than recipe.lock says\n  expected  {shelf.realized['image_id']}"
    is_built_instead(shelf, shelf.reader(tmp_path / "store"), told, f"  got       {got}")


def test_a_layer_that_was_tampered_with_is_not_taken(shelf: Shelf, tmp_path: Path) -> None:
    layer = shelf.manifest()["layers"][0]["digest"]
    file = shelf.file(layer)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    is_built_instead(shelf, shelf.reader(tmp_path / "store"), "the bytes are not the pinned ones", layer)


def test_another_layer_under_the_right_config_is_not_taken(shelf: Shelf, tmp_path: Path) -> None:
    manifest = shelf.manifest()
    evil = gzip.decompress(shelf.file(manifest["layers"][2]["digest"]).read_bytes()).replace(
        b"word\n", b"evil\n"
    )
    manifest["layers"][2] |= shelf.put_blob(gzip.compress(evil))
    shelf.put_manifest(manifest)
    told = "the layer is not the one that the image's config names"
    reader = shelf.reader(tmp_path / "store")
    is_built_instead(shelf, reader, told, shelf.realized["layers"][2]["diff_id"])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param(b"no tar at all" * 100, "not in reprobuild's layer format", id="no tar"),
        pytest.param(bomb(2**20)[:-50], "cut off", id="cut off"),
        pytest.param(bomb(2**31), "unpacks to more than 1,073,741,824", id="a bomb"),
    ],
)
def test_what_is_no_layer_is_not_taken(shelf: Shelf, tmp_path: Path, body: bytes, told: str) -> None:
    manifest = shelf.manifest()
    manifest["layers"][0] |= shelf.put_blob(body)
    shelf.put_manifest(manifest)
    is_built_instead(shelf, shelf.reader(tmp_path / "store"), told, "files root to /")


def test_a_layer_that_is_gone_is_not_waited_for(shelf: Shelf, tmp_path: Path) -> None:
    shutil.rmtree(shelf.file(shelf.manifest()["layers"][1]["digest"]).parent)
    is_built_instead(shelf, shelf.reader(tmp_path / "store"), "answers 404")


@pytest.mark.parametrize("wrong", ["fewer layers", "a list", "no JSON"])
def test_a_manifest_that_makes_no_sense_is_not_taken(shelf: Shelf, tmp_path: Path, wrong: str) -> None:
    manifest = shelf.manifest()
    told = "its config names 4 layers, its manifest 3"
    if wrong == "a list":
        kind = "application/vnd.oci.image.index.v1+json"
        manifest = {"schemaVersion": 2, "mediaType": kind, "manifests": []}
        told = "is a list of images"
    elif wrong == "fewer layers":
        manifest["layers"].pop()
    else:
        manifest["layers"] = [5]
        told = "its manifest makes no sense"
    if wrong == "no JSON":
        with Misbehaving() as server:
            tag = shelf.realized["tag"].rpartition(":")[2]
            server.answers[f"/v2/x/copier/manifests/{tag}"] = [Answer(json.dumps(manifest).encode())]
            server.answers["/v2/"] = [Answer(b"{}")]
            reader = Project(
                shelf.project.folder, tmp_path / "store", {"REPROBUILD_SUBSTITUTERS": f"{server.host}/x"}
            )
            is_built_instead(shelf, reader, told)
        return
    shelf.put_manifest(manifest)
    is_built_instead(shelf, shelf.reader(tmp_path / "store"), told)


def test_a_lock_without_outputs_pulls_nothing_and_says_so(shelf: Shelf, tmp_path: Path) -> None:
    lock = shelf.project.lock.read_text()
    try:
        shelf.project.lock.write_text(lock[: lock.index(' "outputs"')] + ' "outputs": {}\n}\n')
        ended = shelf.reader(tmp_path / "store").call("realize", "copier", "--json")
    finally:
        shelf.project.lock.write_text(lock)
    assert statuses(ended) == ["built"] * 4
    assert "warning: copier is not pulled: recipe.lock does not say what it comes to" in ended.err


def test_a_lock_that_names_another_recipe_s_image_is_not_believed(shelf: Shelf, tmp_path: Path) -> None:
    """Whoever can edit the lock could name any image; one with other predictors is none of this recipe."""
    recipe = shelf.project.recipe / "recipe.py"
    text, lock = recipe.read_text(), shelf.project.lock.read_text()
    try:
        recipe.write_text(text.replace("exit 7", "exit 8"))
        hint = shelf.project.call("realize", "copier", "--dry-run", "--json").json
        shelf.project.lock.write_text(lock.replace(shelf.realized["input_hash"], hint["input_hash"]))
        copy(shelf.tag, tag_at(shelf.name, hint["tag"]))
        ended = shelf.reader(tmp_path / "store").call("realize", "copier", "--json", check=False)
    finally:
        recipe.write_text(text)
        shelf.project.lock.write_text(lock)
    assert ended.code == 4
    assert "its predictors are not the recipe's" in ended.err
