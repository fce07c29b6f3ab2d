from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, OutsideError, UsageError
from reprobuild.images.export import archive_of, export_archive, export_layout, full_name, write_archive
from tests.golden import assert_golden
from tests.images import Sample, sample_image

TAG = "models/sample:1.0-0123456789ab"


@pytest.fixture(scope="module")
def sample() -> Sample:
    return sample_image()


def archive(sample: Sample, docker: bool) -> bytes:
    out = io.BytesIO()
    size = write_archive(sample.image, sample.read_layer, sample.open_blob, out, tag=TAG, docker=docker)
    assert size == len(out.getvalue())
    return out.getvalue()


def to_archive(sample: Sample, path: Path, *, docker: bool = True, replace: bool = False) -> bool:
    return export_archive(
        sample.image, sample.read_layer, sample.open_blob, path, tag=TAG, docker=docker, replace=replace
    )


def to_layout(sample: Sample, path: Path, *, replace: bool = False) -> bool:
    return export_layout(sample.image, sample.read_layer, sample.open_blob, path, tag=TAG, replace=replace)


def contents(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as opened:
        found = {}
        for member in opened:
            body = opened.extractfile(member)
            if body is not None:
                found[member.name] = body.read()
        return found


def test_golden_archives(sample: Sample) -> None:
    assert_golden(
        "export-format",
        {
            name: {"digest": str(Digest.of(data)), "size": len(data)}
            for name, data in (("oci", archive(sample, False)), ("docker", archive(sample, True)))
        },
    )


def test_the_layout_is_what_the_specification_asks_for(sample: Sample) -> None:
    files = contents(archive(sample, False))
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (manifest,) = json.loads(files["index.json"])["manifests"]
    assert manifest["annotations"]["org.opencontainers.image.ref.name"] == TAG
    assert manifest["platform"] == {"architecture": "amd64", "os": "linux"}
    described = json.loads(files["blobs/" + manifest["digest"].replace(":", "/")])
    for descriptor in (manifest, described["config"], *described["layers"]):
        data = files["blobs/" + descriptor["digest"].replace(":", "/")]
        assert (str(Digest.of(data)), len(data)) == (descriptor["digest"], descriptor["size"])
    assert described["config"]["digest"] == str(sample.image.image_id)
    assert len(files) == 2 + 2 + 3


def test_layers_can_be_left_out_of_an_archive(sample: Sample) -> None:
    lowest = sample.image.layers[0].diff_id
    size, chunks = archive_of(
        sample.image, sample.read_layer, sample.open_blob, tag=TAG, docker=True, without={lowest}
    )
    data = b"".join(chunks)
    assert len(data) == size
    whole = contents(archive(sample, True))
    assert contents(data) == {
        name: body for name, body in whole.items() if name != f"blobs/sha256/{lowest.hex}"
    }


def test_the_docker_archive_has_one_file_more(sample: Sample) -> None:
    files = contents(archive(sample, True))
    (described,) = json.loads(files.pop("manifest.json"))
    assert described["RepoTags"] == [TAG]
    assert files[described["Config"]] == sample.image.config
    assert [Digest.of(files[name]) for name in described["Layers"]] == [
        layer.diff_id for layer in sample.image.layers
    ]
    assert files == contents(archive(sample, False))


def test_folder_and_archive_hold_the_same(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "layout"
    assert to_layout(sample, path)
    found = {str(item.relative_to(path)): item.read_bytes() for item in path.rglob("*") if item.is_file()}
    assert found == contents(archive(sample, False))
    assert list(tmp_path.iterdir()) == [path]


def test_a_layer_that_is_there_twice_is_one_file(sample: Sample) -> None:
    first = sample.tree
    other = sample_image()
    twice = Sample(first, type(first)(), first, bodies=other.bodies)
    assert twice.image.layers[0] == replace(twice.image.layers[2], step="step 0")
    files = contents(archive(twice, True))
    (described,) = json.loads(files["manifest.json"])
    assert described["Layers"][0] == described["Layers"][2]
    assert len([name for name in files if name.startswith("blobs/")]) == 2 + 2


@pytest.mark.parametrize("write", [to_archive, to_layout])
def test_writing_the_same_again_does_nothing(
    write: Callable[[Sample, Path], bool], sample: Sample, tmp_path: Path
) -> None:
    path = tmp_path / "image"
    assert write(sample, path)
    inode = path.stat().st_ino
    assert not write(sample, path)
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("change", ["a byte", "a byte more", "other"])
def test_another_file_is_replaced_only_when_asked_to(change: str, sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    assert to_archive(sample, path)
    whole = path.read_bytes()
    other = {"a byte": whole[:-1] + b"x", "a byte more": whole + b"x", "other": b"mine"}[change]
    path.write_bytes(other)
    with pytest.raises(UsageError, match=r"image\.tar is there already") as caught:
        to_archive(sample, path)
    assert caught.value.hint
    assert path.read_bytes() == other
    assert to_archive(sample, path, replace=True)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("change", ["changed", "more", "less"])
def test_another_layout_is_replaced_only_when_asked_to(change: str, sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "image"
    assert to_layout(sample, path)
    if change == "changed":
        (path / "index.json").write_bytes(b"{}")
    elif change == "more":
        (path / "blobs" / "sha256" / "more").write_bytes(b"")
    else:
        next((path / "blobs" / "sha256").iterdir()).unlink()
    with pytest.raises(UsageError, match="with another image"):
        to_layout(sample, path)
    assert to_layout(sample, path, replace=True)
    assert not to_layout(sample, path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_no_layout_is_never_replaced(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="is no OCI layout"):
        to_layout(sample, tmp_path / "home", replace=True)
    with pytest.raises(UsageError, match="is a folder"):
        to_archive(sample, tmp_path / "home", replace=True)
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_filled(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    assert to_layout(sample, tmp_path / "image")
    assert (tmp_path / "image" / "oci-layout").is_file()


@pytest.mark.parametrize("write", [to_archive, to_layout])
def test_a_place_that_is_not_there_is_named(
    write: Callable[[Sample, Path], bool], sample: Sample, tmp_path: Path
) -> None:
    with pytest.raises(OutsideError, match=r"cannot write .*/missing/image: No such file"):
        write(sample, tmp_path / "missing" / "image")


@pytest.mark.parametrize("write", [to_archive, to_layout])
def test_a_damaged_body_is_named_and_leaves_nothing_behind(
    write: Callable[[Sample, Path], bool], tmp_path: Path
) -> None:
    sample = sample_image()
    digest = Digest.of(b"own")
    sample.bodies[digest] = b"owm"
    with pytest.raises(CheckFailedError, match=f"/home/user/own: the blob {digest}"):
        write(sample, tmp_path / "image")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field", ["diff_id", "size"])
def test_a_layer_that_is_not_the_images_is_named(field: str) -> None:
    sample = sample_image()
    image = sample.image
    wrong = sample.layers[image.layers[1].layer_digest]
    if field == "size":
        sample.layers[image.layers[1].layer_digest] = type(wrong)([])
    else:
        changed = [entry._replace(mode=0o777) for entry in wrong.entries]
        sample.layers[image.layers[1].layer_digest] = type(wrong)(changed, wrong.whiteouts)
    with pytest.raises(CheckFailedError, match="the layer of the step 'step 1' is not the one"):
        archive(sample, True)


@pytest.mark.parametrize("tag", ["a:1", "a/b:1.0-0a", "ghcr.io/a/b_c:1", "localhost:5000/a--b:V1_x.y"])
def test_a_name_that_engines_take_is_written(tag: str, sample: Sample) -> None:
    out = io.BytesIO()
    write_archive(sample.image, sample.read_layer, sample.open_blob, out, tag=tag, docker=True)
    assert json.loads(contents(out.getvalue())["manifest.json"])[0]["RepoTags"] == [tag]


@pytest.mark.parametrize("tag", ["", "a", "A/b:1", "a/Liu2019:1", "a/b:", "a/b:1+2", "a/_b:1", "a//b:1"])
def test_a_name_that_engines_do_not_take_is_an_error(tag: str, sample: Sample) -> None:
    with pytest.raises(UsageError, match="container engines take no image of the name"):
        write_archive(sample.image, sample.read_layer, sample.open_blob, io.BytesIO(), tag=tag, docker=False)


def test_names_are_those_that_engines_use() -> None:
    assert full_name("a:1") == "docker.io/library/a:1"
    assert full_name("a/b:1") == "docker.io/a/b:1"
    assert full_name("ghcr.io/a/b:1") == "ghcr.io/a/b:1"
    assert full_name("localhost:5000/a:1") == "localhost:5000/a:1"
    assert full_name("localhost/a:1") == "localhost/a:1"
