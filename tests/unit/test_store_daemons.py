"""What container daemons keep of a store: written down, kept by images, given up by gc's rules."""

from __future__ import annotations

import os
import time
from pathlib import Path

from reprobuild.digest import Digest
from reprobuild.store.daemons import KeptTree
from reprobuild.store.gc import GRACE, plan
from reprobuild.store.store import Store
from tests.unit.stores import image_of, layer_of

HOST = "unix:///run/docker.sock"
TREE = Digest.of(b"tree")
OTHER = Digest.of(b"other")


def idle(store: Store, *, after: float = GRACE + 10, everything: bool = False) -> set[Digest]:
    planned = plan(store, now=time.time() + after, all_checkouts=everything)
    return {one.tree for one in planned.idle_trees}


def test_what_is_used_is_known_and_what_is_forgotten_is_not(store: Store) -> None:
    assert list(store.daemons) == []
    store.daemons.use(HOST, TREE, [OTHER])
    store.daemons.use(HOST, TREE, [OTHER])
    store.daemons.use("tcp://far:2376", TREE, [OTHER])
    assert sorted(one.host for one in store.daemons) == ["tcp://far:2376", HOST]
    assert KeptTree(host=HOST, tree=TREE, layers=(OTHER,)) in list(store.daemons)
    store.daemons.forget(HOST, TREE)
    store.daemons.forget(HOST, TREE)
    assert [one.host for one in store.daemons] == ["tcp://far:2376"]


def test_use_makes_a_tree_young(store: Store) -> None:
    store.daemons.use(HOST, TREE, [])
    before = os.stat(store.daemons.locate(HOST, TREE)).st_ctime_ns
    time.sleep(0.02)
    store.daemons.use(HOST, TREE, [])
    assert os.stat(store.daemons.locate(HOST, TREE)).st_ctime_ns > before


def test_a_tree_goes_after_some_time_unless_it_is_a_kept_images(store: Store) -> None:
    layers = layer_of(store, {"a": b"1"}), layer_of(store, {"b": b"2"})
    store.daemons.use(HOST, TREE, [layer.digest for layer in layers])
    store.daemons.use(HOST, OTHER, [layers[0].digest])
    store.roots.set("image", [image_of(store, "image", *layers)], "realized")
    assert idle(store, after=0.0) == set()
    assert idle(store) == {OTHER}
    assert idle(store, everything=True) == {TREE, OTHER}
    store.roots.remove("image")
    assert idle(store) == {TREE, OTHER}


def test_files_that_make_no_sense_are_passed_over(store: Store) -> None:
    store.daemons.use(HOST, TREE, [])
    for number, text in enumerate(("", "[]", '{"host": 1}', '{"host": "h", "tree": "x", "layers": []}')):
        Path(store.daemons.folder, f"{number}.json").write_text(text)
    assert [one.tree for one in store.daemons] == [TREE]
