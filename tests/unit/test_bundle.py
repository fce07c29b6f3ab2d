"""What goes out with an image: its manifest, and the artifacts that refer to it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from reprobuild import url
from reprobuild.digest import Digest
from reprobuild.images import artifact
from reprobuild.images.manifest import Manifest as Read
from reprobuild.images.manifest import read_manifest
from reprobuild.publish import sources
from reprobuild.publish.about import About
from reprobuild.publish.bundle import Bundle, Manifest, bundled
from reprobuild.publish.materials import materials
from reprobuild.publish.provenance import BUILDER
from reprobuild.store.realisations import bodies_of_listing
from tests.publishing import COMMIT, Scene, make_scene

ABOUT = About("https://example.org/recipes", "https://example.org/builder")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def bundle(scene: Scene) -> Iterator[Bundle]:
    with bundled(scene.project, scene.derived, scene.realised, ABOUT, with_sources=True) as made:
        yield made


def the(bundle: Bundle, artifact_type: str) -> Manifest:
    (found,) = (one for one in bundle.referrers if one.artifact_type == artifact_type)
    return found


def bodies(manifest: Manifest) -> list[bytes]:
    """Give what a manifest names beside its config."""
    return [b"".join(blob.chunks(0)) for blob in manifest.blobs[1:]]


def document(bundle: Bundle, artifact_type: str) -> Any:
    return json.loads(bodies(the(bundle, artifact_type))[0])


def test_the_manifest_is_an_image_with_the_image_id_of_the_realisation(scene: Scene, bundle: Bundle) -> None:
    read = read_manifest(bundle.manifest.body, bundle.manifest.media_type, "it")
    assert isinstance(read, Read)
    assert read.config.digest == scene.realised.image_id
    assert [layer.media_type for layer in read.layers] == [artifact.LAYER_GZIP_TYPE] * 2
    named = [(one.digest, one.size) for one in (read.config, *read.layers)]
    assert named == [(blob.digest, blob.size) for blob in bundle.manifest.blobs]


def test_annotations_say_what_it_is_and_are_in_no_identity(scene: Scene, bundle: Bundle) -> None:
    said = json.loads(bundle.manifest.body)["annotations"]
    assert said == {
        "org.opencontainers.image.created": "1980-01-02T00:00:00Z",
        "org.opencontainers.image.licenses": "(MIT OR Apache-2.0) AND CC-BY-4.0 AND PSF-2.0",
        "org.opencontainers.image.source": ABOUT.source,
        "org.opencontainers.image.title": "model",
        "org.opencontainers.image.version": "1.0",
        "org.reprobuild.input-hash": str(scene.realised.input_hash),
    }
    with bundled(scene.project, scene.derived, scene.realised, About()) as other:
        assert other.manifest.digest != bundle.manifest.digest
        assert other.manifest.blobs[0].digest == bundle.manifest.blobs[0].digest


def test_every_artifact_refers_to_the_image_and_has_what_it_names(bundle: Bundle) -> None:
    types = [one.artifact_type for one in bundle.referrers]
    assert types == [
        artifact.PROVENANCE_TYPE,
        artifact.SBOM_TYPE,
        artifact.LOCK_TYPE,
        artifact.SOURCES_TYPE,
    ]
    for one in bundle.referrers:
        value = json.loads(one.body)
        assert value["artifactType"] == one.artifact_type
        assert value["subject"] == {
            "mediaType": bundle.manifest.media_type,
            "digest": str(bundle.manifest.digest),
            "size": len(bundle.manifest.body),
        }
        named = [(entry["digest"], entry["size"]) for entry in (value["config"], *value["layers"])]
        assert named == [(str(blob.digest), blob.size) for blob in one.blobs]
        assert [Digest.of(body) for body in bodies(one)] == [blob.digest for blob in one.blobs[1:]]


def test_it_is_the_same_each_time(scene: Scene, bundle: Bundle, tmp_path: Path) -> None:
    other = make_scene(tmp_path)
    with bundled(other.project, other.derived, other.realised, ABOUT, with_sources=True) as again:
        assert again.manifest.digest == bundle.manifest.digest
        assert [one.digest for one in again.referrers] == [one.digest for one in bundle.referrers]


def test_the_lock_travels_as_it_is_with_the_derivation_of_the_input_hash(
    scene: Scene, bundle: Bundle
) -> None:
    lock, derivation = bodies(the(bundle, artifact.LOCK_TYPE))
    assert lock == (scene.derived.folder / "recipe.lock").read_bytes()
    assert Digest.of(derivation) == scene.realised.input_hash
    said = json.loads(the(bundle, artifact.LOCK_TYPE).body)
    assert said["annotations"]["org.reprobuild.recipe"] == "model"
    assert [one["annotations"][artifact.TITLE] for one in said["layers"]] == [
        "recipe.lock",
        "derivation.json",
    ]


# Provenance


def test_the_provenance_names_the_image_the_input_hash_and_every_pin(scene: Scene, bundle: Bundle) -> None:
    statement = document(bundle, artifact.PROVENANCE_TYPE)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = [one["digest"]["sha256"] for one in statement["subject"]]
    assert subjects == [bundle.manifest.digest.hex, scene.realised.image_id.hex]
    build = statement["predicate"]["buildDefinition"]
    assert build["externalParameters"] == {
        "recipe": "model",
        "version": "1.0",
        "options": {},
        "platform": "linux/amd64",
    }
    assert build["internalParameters"] == {
        "assembler": 2,
        "engine": "sandbox",
        "isolation": "sandbox (tested)",
    }
    derivation, *others = build["resolvedDependencies"]
    assert derivation["digest"]["sha256"] == scene.realised.input_hash.hex
    named = [(one["name"], one["digest"]["sha256"], one["annotations"]["size"]) for one in others]
    assert named == [(pin.name, pin.sha256.hex, pin.size) for pin in scene.derived.pins]
    assert all(one["uri"] for one in others)
    run = statement["predicate"]["runDetails"]
    assert run["builder"]["id"] == ABOUT.builder
    assert run["metadata"]["invocationId"] == str(scene.realised.input_hash)
    assert [one["digest"]["sha256"] for one in run["byproducts"]] == [
        layer.diff_id.hex for layer in scene.realised.layers
    ]


def test_provenance_is_no_image_layer_and_says_what_is_stated(bundle: Bundle) -> None:
    (entry,) = json.loads(the(bundle, artifact.PROVENANCE_TYPE).body)["layers"]
    assert entry["mediaType"] == "application/vnd.in-toto+json"
    assert entry["annotations"]["in-toto.io/predicate-type"] == "https://slsa.dev/provenance/v1"


def test_a_builder_without_a_name_is_said_to_have_none(scene: Scene) -> None:
    with bundled(scene.project, scene.derived, scene.realised, About()) as made:
        run = document(made, artifact.PROVENANCE_TYPE)["predicate"]["runDetails"]
    assert run["builder"]["id"] == BUILDER


# Addresses


def test_every_kind_of_source_has_the_address_that_the_world_knows(scene: Scene) -> None:
    manifest = next(pin for pin in scene.derived.pins if pin.name == "manifest").sha256
    base = f"pkg:oci/python@{manifest}?repository_url=docker.io/library/python&tag=3.7-slim"
    found = {one.pin.name: one.uri for one in materials(scene.derived) if one.kind != "gdrive"}
    assert found == {
        "manifest": f"{base}#manifest",
        "config": f"{base}#config",
        "layer 1": f"{base}#layer%201",
        "libexample++6_1%3a2.0+b1_amd64.deb": (
            "pkg:deb/debian/libexample%2B%2B6@1:2.0%2Bb1?arch=amd64&distro=bookworm"
        ),
        "Example_Lib-1.0.tar.gz": "pkg:pypi/example-lib@1.0?file_name=Example_Lib-1.0.tar.gz",
        "tool-1.0-py3-none-any.whl": "pkg:pypi/tool@1.0?file_name=tool-1.0-py3-none-any.whl",
        "dep-1.0-py3-none-any.whl": "pkg:pypi/dep@1.0?file_name=dep-1.0-py3-none-any.whl",
        "weights.bin": "https://files.example/weights.bin",
        "config.json": f"https://huggingface.co/google/example/resolve/{COMMIT}/config.json",
        "sub/model.bin": f"https://huggingface.co/google/example/resolve/{COMMIT}/sub/model.bin",
        "tree": f"git+https://github.com/Someone/Example.git@{COMMIT}",
        "GET https://index.example/other/": "https://index.example/other/",
        "GET https://f.example/other-1.0-py3-none-any.whl": "https://f.example/other-1.0-py3-none-any.whl",
    }
    (drive,) = (one.uri for one in materials(scene.derived) if one.kind == "gdrive")
    assert drive == "https://drive.google.com/uc?id=1vVhRgLtsQDAOmxYhY5PMPnxxHUyCOdQU"


# Bill of materials


def test_the_bill_fits_the_schema_of_cyclonedx(bundle: Bundle) -> None:
    (data,) = bodies(the(bundle, artifact.SBOM_TYPE))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None


def test_the_bill_has_every_pin_with_its_hash(scene: Scene, bundle: Bundle) -> None:
    bill = document(bundle, artifact.SBOM_TYPE)
    hashes = {
        one["content"]
        for component in bill["components"]
        for item in (component, *component.get("components", ()))
        for one in item.get("hashes", ())
    }
    trees = {
        one["value"].removeprefix("sha256:")
        for component in bill["components"]
        for one in component["properties"]
        if one["name"] == "reprobuild:tree"
    }
    assert hashes | trees == {pin.sha256.hex for pin in scene.derived.pins}


def test_the_bill_has_a_package_url_for_every_package(bundle: Bundle) -> None:
    bill = document(bundle, artifact.SBOM_TYPE)
    found = {one["purl"]: one for one in bill["components"] if "purl" in one}
    kinds = sorted(purl.partition("/")[0] for purl in found)
    assert kinds == ["pkg:deb", "pkg:github", "pkg:huggingface", "pkg:oci", *["pkg:pypi"] * 4]
    assert f"pkg:huggingface/google/example@{COMMIT}" in found
    files = found[f"pkg:huggingface/google/example@{COMMIT}"]["components"]
    assert [one["name"] for one in files] == ["config.json", "sub/model.bin"]
    # What a build alone needs is not in the image.
    (tool,) = (one for purl, one in found.items() if purl.startswith("pkg:pypi/tool"))
    assert tool["scope"] == "excluded"


def test_the_bill_says_licences_of_recipes_and_of_wheels(bundle: Bundle) -> None:
    said = {one["name"]: one.get("licenses") for one in document(bundle, artifact.SBOM_TYPE)["components"]}
    assert said["dep"] == [{"license": {"id": "MIT"}}]
    assert said["python"] == [{"license": {"id": "PSF-2.0"}}]
    assert said["tool"] is None  # no zip archive at all: nothing is said


def test_the_bill_has_the_normal_time_and_a_number_of_the_input_hash(bundle: Bundle, tmp_path: Path) -> None:
    bill = document(bundle, artifact.SBOM_TYPE)
    assert bill["metadata"]["timestamp"].startswith("1980-01-02T00:00:00")
    other = make_scene(tmp_path, steps=[url("https://x.example/f", to="/f")])
    with bundled(other.project, other.derived, other.realised, ABOUT) as made:
        assert document(made, artifact.SBOM_TYPE)["serialNumber"] != bill["serialNumber"]


# Sources


def test_sources_are_every_pinned_file_once_and_what_git_trees_need(scene: Scene, bundle: Bundle) -> None:
    held = bodies(the(bundle, artifact.SOURCES_TYPE))
    entries = json.loads(the(bundle, artifact.SOURCES_TYPE).body)["layers"]
    pins = {pin.sha256 for pin in scene.derived.pins}
    files = {
        Digest.of(body)
        for body, entry in zip(held, entries, strict=True)
        if entry["mediaType"] == artifact.SOURCE_TYPE
    }
    assert files == pins and len(entries) == len(pins) + 1
    ((archive, entry),) = (
        (body, entry)
        for body, entry in zip(held, entries, strict=True)
        if entry["mediaType"] == artifact.BODIES_TYPE
    )
    (tree,) = (pin for pin in scene.derived.pins if pin.name == "tree")
    wanted = bodies_of_listing(scene.store.blobs.read(tree.sha256))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    assert {name: len(body) for name, body in found.items()} == wanted
    assert all(Digest.of(body).hex == name for name, body in found.items())
    assert entry["annotations"][artifact.TITLE] == f"{tree.sha256.hex}.tar"


def test_sources_say_which_pins_they_are(scene: Scene, bundle: Bundle) -> None:
    entries = json.loads(the(bundle, artifact.SOURCES_TYPE).body)["layers"]
    named = {entry["annotations"][sources.PIN]: entry["annotations"][sources.SOURCE] for entry in entries}
    assert named["libexample++6_1%3a2.0+b1_amd64.deb"] == "apt bookworm libexample++6 on linux/amd64"
    assert {pin.name for pin in scene.derived.pins} == set(named)


def test_many_sources_are_several_artifacts(scene: Scene) -> None:
    listed = list(materials(scene.derived))
    groups = sources.source_groups(scene.project, scene.derived, listed, most=4)
    (whole,) = sources.source_groups(scene.project, scene.derived, listed)
    assert [len(group) for group in groups] == [4, 4, 4, 2]
    assert [one.descriptor for group in groups for one in group] == [one.descriptor for one in whole]


def test_a_source_with_no_end_of_a_name_fits(scene: Scene) -> None:
    step = scene.derived.steps[3]
    long = replace(step.pins[0], name="n" * 5000)
    derived = replace(scene.derived, steps=(replace(step, pins=(long,)),))
    with bundled(scene.project, derived, scene.realised, ABOUT, with_sources=True) as made:
        (entry,) = json.loads(the(made, artifact.SOURCES_TYPE).body)["layers"]
    assert entry["annotations"][sources.PIN] == "n" * sources.LONGEST
