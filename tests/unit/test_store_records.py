"""Blobs, realisations and roots, as they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, MissingBlobError
from reprobuild.store.realisations import needed_blobs, needed_listings, needed_records
from reprobuild.store.roots import Root
from reprobuild.store.store import Store

ONE, TWO, THREE = (Digest.of(text) for text in (b"1", b"2", b"3"))


def test_a_missing_blob_is_named(store: Store) -> None:
    assert not store.blobs.has(ONE)
    for ask in (store.blobs.open, store.blobs.read, store.blobs.size):
        with pytest.raises(MissingBlobError, match=str(ONE)) as caught:
            ask(ONE)
        assert "reprobuild" in caught.value.hint


def test_a_damaged_blob_is_not_read(store: Store) -> None:
    with store.transaction() as group:
        digest = group.add_bytes(b"abc")
    store.blobs.path(digest).write_bytes(b"abd")
    with pytest.raises(CheckFailedError, match=str(digest)):
        store.blobs.read(digest)


def test_blobs_can_be_listed_and_opened(store: Store) -> None:
    with store.transaction() as group:
        digest = group.add_bytes(b"abc")
    assert list(store.blobs) == [digest]
    with store.blobs.open(digest) as file:
        assert file.read() == b"abc"


def test_a_realisation_is_replaced_whole(store: Store) -> None:
    assert store.realisations.get(ONE) is None
    store.realisations.put(ONE, {"kind": "evaluation", "blobs": [], "a": [1, 2.5, "ü", None]})
    store.realisations.put(ONE, {"kind": "evaluation", "blobs": []})
    assert store.realisations.get(ONE) == {"kind": "evaluation", "blobs": []}
    store.realisations.remove(ONE)
    store.realisations.remove(ONE)
    assert list(store.realisations) == []


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff"], ids=["empty", "cut", "list", "not UTF-8"])
def test_a_record_that_makes_no_sense_counts_as_absent(store: Store, data: bytes) -> None:
    Path(store.realisations.locate(ONE)).write_bytes(data)
    assert store.realisations.get(ONE) is None


NEEDS: dict[str, tuple[dict[str, object], set[Digest], set[Digest]]] = {
    "nothing": ({"kind": "evaluation"}, set(), set()),
    "blobs": ({"kind": "run", "blobs": [str(ONE)], "layer": str(TWO)}, {ONE, TWO}, {TWO}),
    "placement": ({"kind": "placement", "listing": str(ONE)}, {ONE}, {ONE}),
    "image": (
        {"kind": "image", "config": str(ONE), "tree": str(TWO), "layers": [{"layer": str(THREE)}]},
        {ONE, TWO, THREE},
        {TWO, THREE},
    ),
    "a diff says only": ({"kind": "diff", "layer": str(ONE), "blobs": []}, set(), set()),
    "nonsense": ({"kind": "run", "blobs": [1, "x", None], "layers": ["y"], "layer": 5}, set(), set()),
}


@pytest.mark.parametrize(("record", "blobs", "listings"), NEEDS.values(), ids=NEEDS)
def test_what_a_record_needs(record: dict[str, object], blobs: set[Digest], listings: set[Digest]) -> None:
    assert needed_blobs(record) == blobs
    assert needed_listings(record) == listings
    assert needed_records({**record, "records": [str(ONE)]}) == {ONE}


def test_roots_come_back_by_name(store: Store) -> None:
    store.roots.set("b/c:1", [ONE, TWO], "realized")
    store.roots.set("a", [], "pulled")
    assert list(store.roots) == [Root("a", (), "pulled"), Root("b/c:1", (ONE, TWO), "realized")]
    assert store.roots.get("b/c:1") == Root("b/c:1", (ONE, TWO), "realized")
    assert store.roots.get("b") is None
    assert store.roots.remove("a")
    assert not store.roots.remove("a")
    assert [root.name for root in store.roots] == ["b/c:1"]


def test_an_equal_root_is_not_written_again(store: Store) -> None:
    store.roots.set("a", [ONE], "realized")
    before = Path(store.roots.locate("a")).stat()
    store.roots.set("a", [ONE], "realized")
    after = Path(store.roots.locate("a")).stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
    store.roots.set("a", [TWO], "realized")
    assert store.roots.get("a") == Root("a", (TWO,), "realized")


def test_a_root_that_makes_no_sense_is_named(store: Store) -> None:
    path = Path(store.roots.locate("a"))
    path.write_bytes(b"{}")
    assert store.roots.get("a") is None
    assert store.roots.unreadable() == [str(path)]
