"""What gc takes and what it leaves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.store.audit import audit
from reprobuild.store.checkouts import LINKS, Checkouts
from reprobuild.store.gc import GRACE, PARTIAL_GRACE, TICK, GcPlan, carry_out, plan
from reprobuild.store.store import Store
from tests.unit.stores import LARGE, image_of, layer_of

KEY = Digest.of(b"a key")


def later(store: Store, **options: bool) -> GcPlan:
    """Plan as if everything here were old."""
    return plan(store, now=time.time() + GRACE + 10, **options)


def add(store: Store, body: bytes) -> Digest:
    with store.transaction() as group:
        return group.add_bytes(body)


def record(store: Store, kind: str, name: bytes = b"a key", **fields: object) -> Digest:
    store.realisations.put(Digest.of(name), {"kind": kind, "blobs": [], **fields})
    return Digest.of(name)


def test_what_nothing_needs_goes(store: Store) -> None:
    digest = add(store, b"abc")
    image = image_of(store, "unrooted", layer_of(store, {"a": b"1"}))
    planned = later(store)
    assert {victim.name for victim in planned.of_kind("realisation")} == {image.hex}
    assert digest.hex in {victim.name for victim in planned.of_kind("blob")}
    assert store.blobs.has(digest)  # a plan does nothing
    done = carry_out(store, planned)
    assert done.victims == planned.victims
    assert list(store.blobs) == []
    assert list(store.realisations) == []
    assert os.listdir(store.tmp) == []


def test_a_root_keeps_all_that_its_image_needs(store: Store) -> None:
    layer = layer_of(store, {"a": b"1", "large": LARGE})
    placed = record(store, "placement", b"placed", listing=str(layer.digest))
    evaluated = record(store, "evaluation", b"evaluated")
    image = image_of(store, "image", layer, records=(placed, evaluated))
    store.roots.set("image", [image], "realized")
    garbage = add(store, b"garbage")
    carry_out(store, later(store))
    assert sorted(store.realisations) == sorted([placed, evaluated, image])
    assert not store.blobs.has(garbage)
    assert list(audit(store)) == []
    store.roots.remove("image")
    carry_out(store, later(store))
    assert list(store.blobs) == list(store.realisations) == []


def test_what_is_new_stays(store: Store) -> None:
    add(store, b"abc")
    image_of(store, "image", layer_of(store, {"a": b"1"}))
    assert plan(store).victims == ()
    assert plan(store).kept > 0


def test_the_grace_can_be_none(store: Store) -> None:
    digest = add(store, b"abc")
    time.sleep(2 * TICK)
    assert [victim.name for victim in plan(store, grace=0).victims] == [digest.hex]


def test_what_an_open_group_found_or_wrote_stays(store: Store) -> None:
    old = add(store, b"old")
    unused = add(store, b"unused")
    time.sleep(2 * TICK)
    with Store.open(store.root).transaction() as group:
        assert group.has(old)
        carry_out(store, plan(store, grace=0))
        assert store.blobs.has(old)
        assert not store.blobs.has(unused)
        group.record(KEY, {"kind": "run", "blobs": [str(old)]})
    assert store.blobs.read(old) == b"old"


def _rooted(store: Store, digest: Digest) -> None:
    store.realisations.put(KEY, {"kind": "image", "blobs": [str(digest)]})
    store.roots.set("new", [KEY], "realized")


def _reused(store: Store, digest: Digest) -> None:
    with store.transaction() as group:
        assert group.has(digest)


@pytest.mark.parametrize("use", [_rooted, _reused])
def test_what_became_needed_after_the_plan_stays(store: Store, use: Callable[[Store, Digest], None]) -> None:
    wanted, other = add(store, b"wanted"), add(store, b"other")
    time.sleep(2 * TICK)
    planned = plan(store, grace=0)
    assert len(planned.of_kind("blob")) == 2
    use(store, wanted)
    done = carry_out(store, planned)
    assert [victim.name for victim in done.victims] == [other.hex]
    assert store.blobs.has(wanted)


def test_records_that_cost_nothing_stay(store: Store) -> None:
    """What is remembered of steps saves work later; it stays while its bytes are kept for an image."""
    layer, other = layer_of(store, {"a": b"1"}), layer_of(store, {"b": b"2"})
    store.roots.set("image", [image_of(store, "image", layer)], "realized")
    free = [
        record(store, "run", b"run", layer=str(layer.digest)),
        record(store, "placement", b"placement", listing=str(layer.digest)),
        record(store, "diff", b"diff", layer=str(layer.digest), size=1),
    ]
    costly = [
        record(store, "run", b"run 2", layer=str(other.digest)),
        record(store, "diff", b"diff 2", layer=str(other.digest), size=1),
        record(store, "evaluation", b"evaluation 2"),
    ]
    gone = {victim.name for victim in later(store).of_kind("realisation")}
    assert gone == {key.hex for key in costly}
    assert not gone & {key.hex for key in free}


def test_checkouts_of_kept_images_stay(store: Store) -> None:
    kept, other = layer_of(store, {"a": b"1", "large": LARGE}), layer_of(store, {"b": b"2"})
    store.roots.set("image", [image_of(store, "image", kept)], "realized")
    with store.checkouts.lay_out([kept]) as checkout:
        kept_name = checkout.lowers[0].name
    with store.checkouts.lay_out([other]) as checkout:
        other_name = checkout.lowers[0].name
    planned = later(store)
    assert [(victim.name, victim.size) for victim in planned.of_kind("checkout")] == [(other_name, 1)]
    carry_out(store, planned)
    assert store.checkouts.names() == [kept_name]
    assert list(audit(store)) == []
    planned = later(store, all_checkouts=True)
    assert [(victim.name, victim.size) for victim in planned.of_kind("checkout")] == [(kept_name, 1)]
    carry_out(store, planned)
    assert sorted(os.listdir(store.checkouts.folder)) == ["stacks"]
    assert os.listdir(store.checkouts.folder + "/stacks") == []


def test_checkouts_in_use_stay(store: Store) -> None:
    layer = layer_of(store, {"b": b"2"})
    with store.checkouts.lay_out([layer]) as checkout:
        assert later(store).of_kind("checkout") == ()
    planned = later(store)
    with store.checkouts.lay_out([layer]) as checkout:
        carry_out(store, planned)
        assert (checkout.lowers[0] / "b").read_bytes() == b"2"
    carry_out(store, later(store))
    assert store.checkouts.names() == []


class Overtaken(Checkouts):
    """Checkouts where something happens at a certain call: what another process does just then."""

    def __init__(self, store: Store, call: str, happens: Callable[[], object]) -> None:
        super().__init__(store)
        self._call = call
        self._happens = happens

    def links(self, name: str) -> list[tuple[str, int, str]]:
        if self._call == "links":
            self._happens()
        return super().links(name)

    def discard(self, name: str) -> None:
        if self._call == "discard":
            self._happens()
        super().discard(name)


def test_a_folder_stays_while_another_gc_plans_to_take_it(store: Store) -> None:
    with store.checkouts.lay_out([layer_of(store, {"a": b"12345", "large": LARGE})]) as checkout:
        name = checkout.lowers[0].name
    other = Store.open(store.root)
    theirs = later(other)
    store.checkouts = Overtaken(store, "links", lambda: carry_out(other, theirs))
    (victim,) = later(store).of_kind("checkout")
    assert (victim.name, victim.size) == (name, 5)


@pytest.mark.parametrize("links", [None, b"no number\tno digest\tpath\n"], ids=["missing", "garbled"])
def test_a_folder_whose_links_are_not_known_goes(store: Store, links: bytes | None) -> None:
    with store.checkouts.lay_out([layer_of(store, {"a": b"12345", "large": LARGE})]) as checkout:
        file = Path(f"{checkout.lowers[0]}{LINKS}")
    if links is None:
        file.unlink()
    else:
        file.write_bytes(links)
    planned = later(store)
    assert [victim.size for victim in planned.of_kind("checkout")] == [0]
    carry_out(store, planned)
    assert store.checkouts.names() == []


def test_what_a_gc_is_moving_is_no_leftover_for_another(store: Store) -> None:
    with store.checkouts.lay_out([layer_of(store, {"a": b"1"})]):
        pass
    other = Store.open(store.root)

    def clear_up() -> None:
        found = plan(other)
        carry_out(other, GcPlan(found.of_kind("leftover"), found.cutoff))

    planned = later(store)
    store.checkouts = Overtaken(store, "discard", clear_up)
    assert carry_out(store, planned).victims == (*planned.of_kind("checkout"), *planned.of_kind("blob"))
    assert list(store.blobs) == os.listdir(store.tmp) == []


def test_leftovers_go(store: Store) -> None:
    store.partial("old").write_bytes(b"12345")
    (Path(store.tmp) / "trash").mkdir()
    (Path(store.tmp) / "trash" / "x").write_bytes(b"")
    assert {victim.name for victim in plan(store).of_kind("leftover")} == {"tmp/trash/x"}
    planned = plan(store, now=time.time() + PARTIAL_GRACE + 10)
    assert ("tmp/partial/old", 5) in {(victim.name, victim.size) for victim in planned.of_kind("leftover")}
    carry_out(store, planned)
    assert os.listdir(store.tmp + "/partial") == os.listdir(store.tmp + "/trash") == []


def test_locks_of_nobody_go(store: Store) -> None:
    with store.lock("done"):
        pass
    with store.lock("held"):
        carry_out(store, plan(store))
        assert os.listdir(store.root / "locks") == ["held"]


def test_an_unreadable_root_stops_it(store: Store) -> None:
    add(store, b"abc")
    Path(store.roots.locate("a")).write_bytes(b"")
    with pytest.raises(CheckFailedError, match="cannot be read"):
        later(store)


def test_a_root_that_is_removed_meanwhile_stops_nothing(store: Store) -> None:
    # What is listed and then not found: a link to nowhere is that at any moment.
    Path(store.roots.locate("a")).symlink_to("nowhere")
    assert store.roots.unreadable() == []
    assert list(store.roots) == []
    assert store.roots.get("a") is None


def test_a_plan_adds_up(store: Store) -> None:
    add(store, b"12345")
    add(store, b"123")
    planned = later(store)
    assert (planned.size, planned.kept) == (8, 0)
