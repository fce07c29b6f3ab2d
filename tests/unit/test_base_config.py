from __future__ import annotations

import json
from typing import Any

import pytest

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, RecipeError
from reprobuild.images.base_config import read_base_config
from reprobuild.images.manifest import Index, Manifest, read_manifest
from tests.base_images import BaseImage, index, layer

D = str(Digest.of(b""))


def config(**said: Any) -> bytes:
    value = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [D]}}
    return json.dumps(value | {"config": said}).encode()


def test_what_a_config_is_silent_about_is_left_out() -> None:
    found = read_base_config(config(Env=None, Cmd=[], User="", WorkingDir=""), "x")
    assert (found.platform, found.diff_ids, found.said) == ("linux/amd64", (Digest.of(b""),), {})


@pytest.mark.parametrize(
    ("workdir", "meant"), [("/a/b/", "/a/b"), ("a", "/a"), ("/a/../../b", "/b"), ("//x", "/x"), ("/", "/")]
)
def test_a_work_folder_is_an_absolute_path(workdir: str, meant: str) -> None:
    assert read_base_config(config(WorkingDir=workdir), "x").said["workdir"] == meant


def test_a_variable_without_a_value_is_none() -> None:
    said = read_base_config(config(Env=["A=1=2", "B", "=c", "A=3", "D="]), "x").said
    assert said == {"env": {"A": "3", "D": ""}}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        config(Env="PATH=/bin"),
        config(Env=[1]),
        config(Env=["A=\0"]),
        config(Labels=[1]),
        config(Cmd={"a": 1}) and config(Cmd=3),
        config().replace(b'"layers"', b'"other"'),
        config().replace(b"sha256", b"sha512"),
        b'"' * 10,
    ],
)
def test_a_config_that_makes_no_sense_is_refused(body: bytes) -> None:
    with pytest.raises(CheckFailedError, match="x: its config makes no sense"):
        read_base_config(body, "x")


IMAGE, ARM = BaseImage([layer({"a": b""})]), BaseImage([layer({"b": b""})], architecture="arm64")


def test_an_index_is_told_from_a_manifest_whatever_its_server_says() -> None:
    assert isinstance(read_manifest(index(IMAGE, ARM), "text/plain", "x"), Index)
    assert isinstance(read_manifest(IMAGE.manifest, "text/plain", "x"), Manifest)


@pytest.mark.parametrize(
    ("platform", "variant", "fits"),
    [
        ("linux/arm64", "v8", True),
        ("linux/arm64", "v9", False),
        ("linux/amd64", "v1", True),
        ("linux/amd64", "v3", False),
    ],
)
def test_the_usual_variant_of_a_platform_fits(platform: str, variant: str, fits: bool) -> None:
    system, architecture = platform.split("/")
    value = json.loads(index(IMAGE))
    value["manifests"][0]["platform"] = {"os": system, "architecture": architecture, "variant": variant}
    found = read_manifest(json.dumps(value).encode(), "", "x")
    assert isinstance(found, Index)
    assert (found.choose(platform) is not None) == fits


def test_what_is_no_image_of_an_index_is_not_named() -> None:
    value = json.loads(index(IMAGE))
    value["manifests"].append(
        {**value["manifests"][0], "platform": {"os": "unknown", "architecture": "unknown"}}
    )
    found = read_manifest(json.dumps(value).encode(), "", "x")
    assert isinstance(found, Index)
    assert found.platforms == ["linux/amd64"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"mediaType": "application/vnd.cncf.helm.config.v1+json"}, "is no image: its config is of type"),
        ({"digest": "sha512:00"}, "makes no sense"),
        ({"size": -1}, "makes no sense"),
        ({"size": True}, "makes no sense"),
    ],
)
def test_a_config_that_is_none_is_refused(change: dict[str, Any], problem: str) -> None:
    value = json.loads(IMAGE.manifest)
    value["config"] |= change
    with pytest.raises((RecipeError, CheckFailedError), match=problem):
        read_manifest(json.dumps(value).encode(), "", "x")
