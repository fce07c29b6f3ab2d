"""Closures with sources of every kind, written and read without any engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprobuild.build.project import Project
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, UsageError
from reprobuild.images.artifact import BODIES_TYPE, EMPTY, SOURCES_TYPE, artifact_manifest
from reprobuild.images.manifest import Descriptor
from reprobuild.images.tar import END, member_header
from reprobuild.publish.about import About
from reprobuild.publish.bundle import Bundle, Manifest, bundled
from reprobuild.publish.closure import Closure, closure_of, import_closure, write_bundle
from reprobuild.publish.content import held
from reprobuild.settings import load
from reprobuild.store.gc import carry_out, plan
from reprobuild.store.realisations import bodies_of_listing
from reprobuild.store.store import Store
from tests.publishing import PLATFORM, Scene, make_scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path / "scene")


def written(scene: Scene, path: Path) -> Path:
    config = scene.store.blobs.read(scene.realised.image_id)
    with bundled(scene.project, scene.derived, scene.realised, About(), with_sources=True) as bundle:
        assert write_bundle(bundle, config, path)
    return path


def opened(path: Path) -> Closure:
    closure = closure_of(path)
    assert closure is not None
    return closure


def elsewhere(folder: Path, platform: str = PLATFORM) -> Project:
    folder.mkdir()
    settings = load({"store": str(folder / "store"), "engine": "sandbox"}, {"HOME": str(folder)}, str(folder))
    return Project(settings, platform=platform)


def pinned(scene: Scene) -> set[Digest]:
    """Give all that the lock pins, and the files of trees."""
    trees = {pin.sha256 for one in scene.derived.steps if one.step.pins_trees for pin in one.pins}
    listed = [digits for tree in trees for digits in bodies_of_listing(scene.store.blobs.read(tree))]
    return {pin.sha256 for pin in scene.derived.pins} | set(map(Digest, listed))


def has_all(store: Store, digests: set[Digest]) -> bool:
    return all(store.blobs.has(digest) and store.blobs.read(digest) for digest in digests)


def test_sources_of_every_kind_come_along_and_stay(scene: Scene, tmp_path: Path) -> None:
    there = elsewhere(tmp_path / "there")
    received, predictions = import_closure(there, opened(written(scene, tmp_path / "x.tar")))
    assert predictions == 0
    assert received.realised.image_id == scene.realised.image_id
    assert [layer.step for layer in received.realised.layers] == [
        layer.step for layer in scene.realised.layers
    ]
    assert has_all(there.store, pinned(scene))
    carry_out(there.store, plan(there.store, grace=-1))
    files = {pin.sha256 for pin in scene.derived.pins}
    assert has_all(there.store, files | {layer.listing for layer in received.realised.layers})


def test_importing_again_brings_nothing(scene: Scene, tmp_path: Path) -> None:
    path, there = written(scene, tmp_path / "x.tar"), elsewhere(tmp_path / "there")
    import_closure(there, opened(path))
    before = sorted(there.store.blobs)
    received, _ = import_closure(there, opened(path))
    assert sorted(there.store.blobs) == before
    assert (received.realised.fetched_bytes, received.realised.is_reused) == (0, True)


def test_a_closure_for_another_platform_is_refused(scene: Scene, tmp_path: Path) -> None:
    there = elsewhere(tmp_path / "there", "linux/arm64")
    with pytest.raises(UsageError, match="is for linux/amd64, and this is linux/arm64"):
        import_closure(there, opened(written(scene, tmp_path / "x.tar")))


def test_a_body_under_another_name_is_refused(scene: Scene, tmp_path: Path) -> None:
    """A tree's files travel in one archive, whose digest says nothing of the names in it."""
    evil = held(member_header("0" * 64, 4) + b"evil" + bytes(508) + END, "evil")
    config = scene.store.blobs.read(scene.realised.image_id)
    with bundled(scene.project, scene.derived, scene.realised, About()) as bundle:
        image = bundle.manifest
        subject = Descriptor(image.media_type, image.digest, len(image.body))
        content = Descriptor(BODIES_TYPE, evil.digest, evil.size)
        body = artifact_manifest(SOURCES_TYPE, subject, [content], {})
        sources = Manifest(body, (held(EMPTY, "config"), evil), SOURCES_TYPE)
        write_bundle(Bundle(bundle.tag, image, (sources,)), config, tmp_path / "x.tar")
    with pytest.raises(CheckFailedError, match=f"under the name '{'0' * 64}'"):
        import_closure(elsewhere(tmp_path / "there"), opened(tmp_path / "x.tar"))
