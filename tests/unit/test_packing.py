"""Layers as they travel: packed once, known from then on, the same when made again."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.events import Event, PackProgressed
from reprobuild.images.tar import write_layer
from reprobuild.publish.bundle import references
from reprobuild.publish.packing import Packing, packed
from reprobuild.store.gc import carry_out, plan
from reprobuild.tree import Layer
from tests.publishing import Scene, make_scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def test_a_packed_layer_is_the_gzip_of_its_tar_stream(scene: Scene) -> None:
    with Packing(scene.store) as packing:
        blobs = packing.pack(references(scene.realised))
        bodies = [b"".join(blob.chunks(0)) for blob in blobs]
    for blob, body, layer in zip(blobs, bodies, scene.realised.layers, strict=True):
        assert (Digest.of(body), len(body)) == (blob.digest, blob.size)
        assert Digest.of(gzip.decompress(body)) == layer.diff_id
        assert layer.step in blob.name


def test_a_second_packing_compresses_nothing_and_gives_the_same(scene: Scene) -> None:
    told: list[Event] = []
    assert packed(scene.store, scene.realised.layers[0].diff_id) is None
    with Packing(scene.store, told.append) as packing:
        first = packing.pack(references(scene.realised))
    assert isinstance(told[-1], PackProgressed) and told[-1].done == told[-1].size > 0
    told.clear()
    with Packing(scene.store, told.append) as packing:
        again = packing.pack(references(scene.realised))
        assert [(blob.digest, blob.size) for blob in again] == [(blob.digest, blob.size) for blob in first]
        assert not told
        for blob in again:
            whole = b"".join(blob.chunks(0))
            assert Digest.of(whole) == blob.digest
            for offset in (1, len(whole) // 2, len(whole) - 1, len(whole)):
                assert b"".join(blob.chunks(offset)) == whole[offset:]
    assert packed(scene.store, scene.realised.layers[0].diff_id) == (first[0].digest, first[0].size)


def test_from_the_middle_of_one_that_was_just_packed(scene: Scene) -> None:
    with Packing(scene.store) as packing:
        blob = packing.pack(references(scene.realised))[0]
        assert b"".join(blob.chunks(1000)) == b"".join(blob.chunks(0))[1000:]


def test_a_layer_that_is_there_twice_is_packed_once(scene: Scene) -> None:
    one, other = references(scene.realised)
    with Packing(scene.store) as packing:
        blobs = packing.pack([one, other, one])
    assert blobs[0] is blobs[2] and blobs[0].digest != blobs[1].digest


def test_nothing_is_left_in_the_store_but_what_is_remembered(scene: Scene) -> None:
    with Packing(scene.store) as packing:
        packing.pack(references(scene.realised))
    assert not list(Path(scene.store.tmp).glob("*packed*"))


def test_gc_keeps_what_is_remembered_of_layers_that_it_keeps(scene: Scene) -> None:
    with Packing(scene.store) as packing:
        packing.pack(references(scene.realised))
    scene.store.roots.set("model", [scene.realised.input_hash], "tested")
    carry_out(scene.store, plan(scene.store, grace=0, now=time.time() + 10))
    assert packed(scene.store, scene.realised.layers[0].diff_id)
    scene.store.roots.remove("model")
    carry_out(scene.store, plan(scene.store, grace=0, now=time.time() + 10))
    assert packed(scene.store, scene.realised.layers[0].diff_id) is None


@pytest.mark.parametrize("is_known", [True, False])
def test_a_damaged_layer_is_not_packed(scene: Scene, is_known: bool) -> None:
    with Packing(scene.store) as packing:
        if is_known:
            packing.pack(references(scene.realised))
    layer = Layer.parse(scene.store.blobs.read(scene.realised.layers[0].listing))
    body = next(entry.digest for entry in layer.entries if entry.digest is not None)
    path = scene.store.blobs.path(body)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with Packing(scene.store) as packing, pytest.raises(CheckFailedError):
        for blob in packing.pack(references(scene.realised)):
            list(blob.chunks(0))


def test_another_outcome_than_was_remembered_is_noticed_and_forgotten(scene: Scene) -> None:
    with Packing(scene.store) as packing:
        packing.pack(references(scene.realised))
    diff_id = scene.realised.layers[0].diff_id
    (key,) = (
        key
        for key in scene.store.realisations
        if (record := scene.store.realisations.get(key) or {}).get("kind") == "packed"
        and record["diff_id"] == str(diff_id)
    )
    record = scene.store.realisations.get(key) or {}
    scene.store.realisations.put(key, {**record, "digest": str(Digest.of(b"other"))})
    with Packing(scene.store) as packing:
        blob = packing.pack(references(scene.realised))[0]
        with pytest.raises(CheckFailedError, match="other bytes than before"):
            list(blob.chunks(0))
    assert packed(scene.store, diff_id) is None


def test_the_sizes_are_those_of_the_streams(scene: Scene) -> None:
    layer = Layer.parse(scene.store.blobs.read(scene.realised.layers[0].listing))
    assert write_layer(layer, scene.store.blobs.open) == (
        scene.realised.layers[0].diff_id,
        scene.realised.layers[0].size,
    )
