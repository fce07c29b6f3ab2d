"""Closures: images with all that goes with them as one file, read where there is no network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.closures import EVERYTHING, IO, RECORDS, cached, predicted_project, without_network, written
from tests.projects import Project
from tests.servers import docker_registry, skopeo

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return predicted_project(tmp_path_factory.mktemp("closure"))


@pytest.fixture(scope="module")
def closure(project: Project) -> Path:
    return written(project, project.folder.parent)


@pytest.fixture
def stranger(tmp_path: Path) -> Project:
    """Somebody without the recipe and without a network."""
    return without_network(tmp_path / "stranger")


def away(project: Project, tmp_path: Path) -> Project:
    """Give the project on a machine without a network, with an empty store."""
    return Project(project.folder, tmp_path / "away", {"REPROBUILD_OFFLINE": "1"})


@pytest.mark.twice
def test_a_closure_is_enough_to_predict_without_recipe_and_network(
    project: Project, closure: Path, stranger: Project
) -> None:
    (image,) = stranger.call("import", str(closure), "--json").json["images"]
    realized = project.call("realize", "copier", "--json").json
    for field in ("tag", "image_id", "input_hash"):
        assert image[field] == realized[field]
    assert [layer["status"] for layer in image["layers"]] == ["pulled"] * 4
    assert [layer["step"] for layer in image["layers"]] == [layer["step"] for layer in realized["layers"]]
    assert (image["engine"], image["derivation"], image["predictions"]) == ("imported", True, 7)
    predicted = stranger.call("predict", image["tag"], *IO, stdin=RECORDS)
    assert predicted.out == project.call("predict", "copier", *IO, stdin=RECORDS).out
    assert "7 from the cache, 0 computed" in predicted.err
    assert "1 example, 0 failed" in stranger.call("test", image["tag"]).err
    assert stranger.call("why", image["tag"], image["tag"]).out.endswith("the same inputs\n")
    stranger.call("gc", "--grace", "0")
    assert stranger.call("audit").code == 0


def test_with_the_recipe_realize_has_nothing_to_do(project: Project, closure: Path, tmp_path: Path) -> None:
    here = away(project, tmp_path)
    (image,) = here.call("import", str(closure), "--json").json["images"]
    assert image["confirmed_by"] == ["copier"]
    realized = here.call("realize", "copier", "--json")
    assert "built" not in realized.err
    assert realized.json["isolation"].startswith(f"imported from {closure}@sha256:")
    assert "7 from the cache, 0 computed" in here.call("predict", "copier", *IO, stdin=RECORDS).err
    assert "built twice, and equal" in here.call("realize", "copier", "--check").err
    here.call("gc", "--grace", "0")
    assert here.call("audit").code == 0


def test_without_sources_and_predictions_there_are_none(
    project: Project, stranger: Project, tmp_path: Path
) -> None:
    path = tmp_path / "small.tar"
    written = project.call("export", "copier", "--closure", str(path), "--json").json
    assert written["artifacts"] == [
        "application/vnd.in-toto+json",
        "application/vnd.cyclonedx+json",
        "application/vnd.reprobuild.lock.v1+json",
    ]
    assert written["size"] == path.stat().st_size
    (image,) = stranger.call("import", str(path), "--json").json["images"]
    assert image["predictions"] == 0
    weights = hashlib.sha256((project.recipe / "weights.bin").read_bytes()).hexdigest()
    assert weights in {blob.name for blob in project.blobs()} & {blob.name for blob in stranger.blobs()}


def test_the_same_closure_is_the_same_bytes_wherever_it_is_written(
    project: Project, closure: Path, stranger: Project, tmp_path: Path
) -> None:
    again = project.call("export", "copier", "--closure", str(closure), *EVERYTHING, "--json").json
    assert not again["written"]
    path, second = tmp_path / "first.tar", tmp_path / "second.tar"
    project.call("export", "copier", "--closure", str(path))
    (image,) = stranger.call("import", str(path), "--json").json["images"]
    stranger.call("export", image["tag"], "--closure", str(second))
    assert second.read_bytes() == path.read_bytes()
    ended = project.call("export", "copier", "--closure", str(path), "--predictions", check=False)
    assert (ended.code, "is there already, with other content" in ended.err) == (2, True)


def test_an_image_that_was_not_built_here_goes_without_provenance(
    project: Project, closure: Path, tmp_path: Path
) -> None:
    here = away(project, tmp_path)
    here.call("import", str(closure))
    ended = here.call("export", "copier", "--closure", str(tmp_path / "again.tar"), "--json")
    assert "application/vnd.in-toto+json" not in ended.json["artifacts"]
    assert "goes without provenance" in ended.err


def test_other_tools_read_the_image_by_its_name(project: Project, closure: Path, tmp_path: Path) -> None:
    realized = project.call("realize", "copier", "--json").json
    source = f"oci-archive:{closure}:{realized['tag']}"
    found = json.loads(skopeo("inspect", "--config", source))
    assert found["rootfs"]["diff_ids"] == [layer["diff_id"] for layer in realized["layers"]]
    with docker_registry(tmp_path) as address:
        tag = f"{address}/x/{realized['tag'].partition('/')[2]}"
        skopeo("copy", "--dest-tls-verify=false", source, f"docker://{tag}")
        (tmp_path / "reprobuild.toml").write_text("")
        reader = Project(tmp_path, tmp_path / "store")
        assert reader.call("pull", tag, "--json").json["image_id"] == realized["image_id"]


def test_what_does_not_go_together_is_told(project: Project, stranger: Project, closure: Path) -> None:
    for arguments, told in (
        (("--closure", "x.tar", "--to", "y.tar"), "--to and --closure exclude each other"),
        (("--with-sources", "--to", "x.tar"), "--with-sources and --predictions are for --closure"),
        (("--closure", "nowhere/x.tar"), "is no folder"),
        (("--closure", "."), "is a folder, and an archive is one file"),
    ):
        ended = project.call("export", "copier", *arguments, check=False)
        assert ended.code in (2, 5)
        assert told in ended.err
    (image,) = stranger.call("import", str(closure), "--json").json["images"]
    ended = stranger.call("export", image["tag"], "--closure", "x.tar", "--with-sources", check=False)
    assert (ended.code, "its recipe has sources" in ended.err) == (2, True)


# Predictions of others.


def test_imported_predictions_say_that_they_are_somebody_s(closure: Path, stranger: Project) -> None:
    (image,) = stranger.call("import", str(closure), "--json").json["images"]
    for value in cached(stranger).values():
        said = json.loads(value[32:].split(b"\n")[0])
        assert said["audited"] is False
        assert said["imported"]["from"] == image["manifest"]
        assert said["imported"]["provenance"]["engine"] == "sandbox"


def test_they_never_take_the_place_of_one_that_is_there(
    project: Project, closure: Path, tmp_path: Path
) -> None:
    here = away(project, tmp_path)
    here.call("realize", "copier")
    here.call("predict", "copier", *IO, stdin=RECORDS.splitlines(keepends=True)[0])
    before = cached(here)
    (image,) = here.call("import", str(closure), "--json").json["images"]
    assert image["predictions"] == 6
    assert cached(here).items() >= before.items()
    assert len(cached(here)) == 7
    assert here.call("import", str(closure), "--json").json["images"][0]["predictions"] == 0


def test_predictions_of_other_images_stay_at_home(
    project: Project, stranger: Project, tmp_path: Path
) -> None:
    lock = project.lock.read_bytes()
    path = tmp_path / "other.tar"
    try:
        project.call("lock", "copier", "--set", "extra=echo more > /opt/more")
        options = ("--set", "extra=echo more > /opt/more")
        without = ("--closure", str(tmp_path / "none.tar"), "--predictions", *options)
        none = project.call("export", "copier", *without, "--json")
        assert not [kind for kind in none.json["artifacts"] if "predictions" in kind]
        assert "the cache has no predictions of" in none.err
        project.call("predict", "copier", *IO, *options, stdin='{"text": "another"}\n')
        project.call("export", "copier", "--closure", str(path), "--predictions", *options)
    finally:
        project.lock.write_bytes(lock)
    assert stranger.call("import", str(path), "--json").json["images"][0]["predictions"] == 1
