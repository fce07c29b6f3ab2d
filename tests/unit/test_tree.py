"""Trees and layers as values: what holds for all of them, and the traps by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.digest import Digest
from reprobuild.tree import (
    Entry,
    Layer,
    Tree,
    TreeError,
    apply,
    difference,
    directory,
    file,
    link,
    overlay,
)

ONE, TWO = Digest.of(b"one"), Digest.of(b"two")

names = st.sampled_from(["a", "b", "c", "a b", "ä", "a%", "a\n", "\x7f", "-", ".a", "\U0001f40d"])
owners = st.sampled_from([0, 1, 65534])
modes = st.sampled_from([0o644, 0o755, 0o4755, 0, 0o7777])


def an_entry(draw: st.DrawFn, path: str) -> Entry:
    kind = draw(st.sampled_from("dfl"))
    uid, gid, mode = draw(owners), draw(owners), draw(modes)
    if kind == "d":
        return Entry(path, "d", mode, uid, gid)
    if kind == "l":
        return link(path, draw(st.sampled_from(["a", "/a/b", "../c", "a\tb", "%41", "ü"])), uid, gid)
    capability = draw(st.sampled_from([b"", b"\x01\x00\xff"]))
    digest, size = draw(st.sampled_from([(ONE, 3), (TWO, 3), (Digest.of(b""), 0)]))
    return Entry(path, "f", mode, uid, gid, size, digest, "", capability)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    entries: dict[str, Entry] = {}
    folders = [""]
    for _ in range(draw(st.integers(0, 12))):
        folder = draw(st.sampled_from(folders))
        path = f"{folder}/{draw(names)}" if folder else draw(names)
        if path in entries:
            continue
        entries[path] = an_entry(draw, path)
        if entries[path].kind == "d":
            folders.append(path)
    return Tree(draw(st.permutations(list(entries.values()))))


@given(trees(), trees())
def test_a_difference_makes_upper_of_lower(lower: Tree, upper: Tree) -> None:
    assert apply(lower, difference(lower, upper)) == upper


@given(trees(), trees())
def test_a_difference_is_least(lower: Tree, upper: Tree) -> None:
    layer = difference(lower, upper)
    in_layer = {entry.path for entry in layer.entries}
    touched = {entry.path for entry in layer.entries if lower.get(entry.path) != entry} | set(layer.whiteouts)
    for entry in layer.entries:
        holds = any(path.startswith(entry.path + "/") for path in touched)
        assert entry.path in touched or (entry.kind == "d" and holds)
    for path in touched:  # the directories that contain a change are in it
        while path := path.rpartition("/")[0]:
            assert path in in_layer
    for path in layer.whiteouts:
        assert path in lower
        assert path not in upper
        assert not any(path.startswith(other + "/") for other in layer.whiteouts)


@given(trees())
def test_no_change_is_no_layer(tree: Tree) -> None:
    assert not difference(tree, tree)


@given(trees())
def test_the_listing_of_a_tree_comes_back(tree: Tree) -> None:
    again = Tree.parse(tree.listing)
    assert again == tree
    assert Tree(again).listing == tree.listing
    assert Digest.of(tree.listing) == tree.digest


@given(trees(), trees())
def test_the_listing_of_a_layer_comes_back(lower: Tree, upper: Tree) -> None:
    layer = difference(lower, upper)
    again = Layer.parse(layer.listing)
    assert again == layer
    assert Layer(again.entries, again.whiteouts).listing == layer.listing


@given(trees(), trees())
def test_equal_means_equal_listings(one: Tree, two: Tree) -> None:
    assert (one == two) is (one.listing == two.listing)


@given(trees())
def test_a_tree_without_links_is_overlaid_as_it_is(tree: Tree) -> None:
    kept = [entry for entry in tree if entry.kind != "l"]
    assert overlay(Tree(), kept) == Tree(kept)


BELOW = Tree(
    [
        directory("usr"),
        directory("usr/bin"),
        directory("usr/lib", 0o711, 5, 6),
        link("bin", "usr/bin"),
        link("lib", "/usr/lib"),
        link("hop", "bin/../../lib"),
        link("dangling", "srv/data"),
        link("root", "/"),
        link("loop", "loop"),
        file("etc", ONE, 3),
    ]
)

OVERLAYS: dict[str, tuple[Entry, list[str]]] = {
    "through a link": (file("bin/sh", ONE, 3), ["usr/bin/sh"]),
    "through an absolute link": (file("lib/libc.so", ONE, 3), ["usr/lib/libc.so"]),
    "through links with dots": (file("hop/libm.so", ONE, 3), ["usr/lib/libm.so"]),
    "through a link to the root": (file("root/new", ONE, 3), ["new"]),
    "through a dangling link": (file("dangling/x", ONE, 3), ["srv", "srv/data", "srv/data/x"]),
    "a directory onto a link to one": (directory("bin", 0o700), []),
    "a directory onto a link to the root": (directory("root"), []),
    "a directory onto a dangling link": (directory("dangling", 0o700), ["srv", "srv/data"]),
    "a directory that is there keeps its record": (directory("usr/lib", 0o755), []),
    "missing parents are made": (file("opt/a/b", ONE, 3), ["opt", "opt/a", "opt/a/b"]),
    "a file replaces a file": (file("etc", TWO, 3), ["etc"]),
    "a file replaces a link": (file("bin", TWO, 3), ["bin"]),
    "a link replaces a link": (link("lib", "elsewhere"), ["lib"]),
}


@pytest.mark.parametrize(("entry", "paths"), OVERLAYS.values(), ids=OVERLAYS)
def test_overlay_follows_links_of_the_tree_below(entry: Entry, paths: list[str]) -> None:
    placed = overlay(BELOW, [entry])
    changed = [found.path for found in placed if BELOW.get(found.path) != found]
    assert changed == paths
    assert Tree(placed) == placed
    if paths:
        assert placed.get(paths[-1]) == entry._replace(path=paths[-1])


def test_later_entries_see_earlier_ones() -> None:
    placed = overlay(
        Tree(), [directory("new"), link("old", "new"), file("old/x", ONE, 3), file("old", TWO, 3)]
    )
    assert [(entry.path, entry.kind) for entry in placed] == [("new", "d"), ("new/x", "f"), ("old", "f")]


OVERLAY_ERRORS: dict[str, tuple[Entry, str]] = {
    "a directory onto a file": (directory("etc"), "/etc would replace a file"),
    "a file onto a directory": (file("usr", ONE, 3), "/usr would replace a directory"),
    "below a file": (file("etc/passwd", ONE, 3), "/etc is no directory"),
    "through a loop": (file("loop/x", ONE, 3), "/loop/x leads into a loop"),
}


@pytest.mark.parametrize(("entry", "message"), OVERLAY_ERRORS.values(), ids=OVERLAY_ERRORS)
def test_overlay_refuses(entry: Entry, message: str) -> None:
    with pytest.raises(TreeError, match=message):
        overlay(BELOW, [entry])


RESOLUTIONS = {
    "plain": ("usr/bin/sh", "usr/bin/sh"),
    "link": ("bin/sh", "usr/bin/sh"),
    "absolute link": ("lib/x", "usr/lib/x"),
    "dots never leave the root": ("../../bin/../../../etc", "etc"),
    "last": ("bin", "usr/bin"),
    "the root": ("root", ""),
}


@pytest.mark.parametrize(("path", "leads_to"), RESOLUTIONS.values(), ids=RESOLUTIONS)
def test_resolve(path: str, leads_to: str) -> None:
    assert BELOW.resolve(path) == leads_to


def test_resolve_can_leave_the_last_link() -> None:
    assert BELOW.resolve("root/bin", follow_last=False) == "bin"


BAD_ENTRIES: dict[str, tuple[Entry, str]] = {
    "empty path": (directory(""), "not a path"),
    "absolute path": (directory("/a"), "not a path"),
    "trailing slash": (directory("a/"), "not a path"),
    "empty part": (directory("a//b"), "not a path"),
    "dot": (directory("a/./b"), "not a path"),
    "only a dot": (directory("."), "not a path"),
    "dots": (directory("a/.."), "not a path"),
    "NUL": (directory("a\0"), "not a path"),
    "whiteout name": (directory("a/.wh.b"), r"begin with \.wh\."),
    "opaque name": (directory(".wh..wh..opq"), r"begin with \.wh\."),
    "not UTF-8": (directory("a\udcff"), "not UTF-8"),
    "target not UTF-8": (link("a", "\udcff"), "points to"),
    "NUL in a target": (link("a", "b\0"), "points to"),
    "mode": (directory("a", 0o10000), "impossible mode"),
    "owner": (directory("a", uid=-1), "owner"),
    "file without digest": (Entry("a", "f", 0o644), "not a whole entry"),
    "directory with digest": (Entry("a", "d", 0o755, digest=ONE), "not a whole entry"),
    "link without target": (Entry("a", "l", 0o777), "not a whole entry"),
    "link with a mode": (Entry("a", "l", 0o755, target="b"), "not a whole entry"),
    "directory with capability": (Entry("a", "d", 0o755, capability=b"1"), "not a whole entry"),
    "file with target": (Entry("a", "f", 0o644, 0, 0, 3, ONE, "b"), "not a whole entry"),
}


@pytest.mark.parametrize(("entry", "message"), BAD_ENTRIES.values(), ids=BAD_ENTRIES)
@pytest.mark.parametrize(
    "make",
    [lambda entry: Tree([entry]), lambda entry: Layer([entry]), lambda entry: overlay(Tree(), [entry])],
    ids=["tree", "layer", "overlay"],
)
def test_impossible_entries_are_refused(make: Callable[[Entry], object], entry: Entry, message: str) -> None:
    with pytest.raises(TreeError, match=message):
        make(entry)


GOOD_NAMES = [".hidden", "..a", "a..", "a/.b", "...", "a\nb", "a\tb", "-", "a wh.", "x.wh.y"]


@pytest.mark.parametrize("path", GOOD_NAMES)
def test_unusual_names_are_fine(path: str) -> None:
    folders = [directory(path.rpartition("/")[0])] if "/" in path else []
    tree = Tree([*folders, directory(path)])
    assert Tree.parse(tree.listing) == tree


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([directory("a"), directory("a")], "/a is in the tree twice"),
        ([directory("a/b")], "/a/b has no parent"),
        ([file("a", ONE, 3), directory("a/b")], "/a/b lies below /a"),
    ],
    ids=["twice", "no parent", "below a file"],
)
def test_what_is_no_tree_is_refused(entries: list[Entry], message: str) -> None:
    with pytest.raises(TreeError, match=message):
        Tree(entries)


@pytest.mark.parametrize(
    ("entries", "whiteouts"),
    [
        ([directory("a")], ["a"]),
        ([directory("a"), directory("a", 0o700)], []),
        ([], ["a", "a"]),
        ([], ["../a"]),
    ],
    ids=["both", "entry twice", "whiteout twice", "whiteout outside"],
)
def test_what_is_no_layer_is_refused(entries: list[Entry], whiteouts: list[str]) -> None:
    with pytest.raises(TreeError):
        Layer(entries, whiteouts)


def test_a_removed_path_is_one_whiteout() -> None:
    lower = Tree([directory("a"), directory("a/b"), file("a/b/c", ONE, 3), file("a/d", ONE, 3)])
    layer = difference(lower, Tree([directory("a"), file("a/d", ONE, 3)]))
    assert (layer.entries, layer.whiteouts) == ((directory("a"),), ("a/b",))


def test_a_file_in_place_of_a_directory_needs_no_whiteout() -> None:
    lower = Tree([directory("a"), file("a/b", ONE, 3)])
    layer = difference(lower, Tree([file("a", ONE, 3)]))
    assert (layer.entries, layer.whiteouts) == ((file("a", ONE, 3),), ())


def test_a_whiteout_of_nothing_is_refused() -> None:
    with pytest.raises(TreeError, match="/a, which the tree below does not have"):
        apply(Tree(), Layer([], ["a"]))


def test_below_gives_what_is_strictly_below() -> None:
    tree = Tree([directory("a"), directory("a-b"), directory("a/c"), directory("a/c/d"), directory("ab")])
    assert [entry.path for entry in tree.below("a")] == ["a/c", "a/c/d"]
    assert [entry.path for entry in tree.below("")] == [entry.path for entry in tree]


def test_the_listing_is_what_the_specification_shows() -> None:
    tree = Tree(
        [
            directory("usr"),
            link("bin", "usr/bin"),
            Entry("usr/ping", "f", 0o4755, 0, 5, 3, ONE, "", b"\x01\x02"),
            file("usr/100%\n", TWO, 3),
        ]
    )
    assert tree.listing.decode() == (
        "tree 1\n"
        "l\t777\t0:0\tusr/bin\tbin\n"
        "d\t755\t0:0\tusr\n"
        f"f\t644\t0:0\t3\t{TWO.hex}\t-\tusr/100%25%0A\n"
        f"f\t4755\t0:5\t3\t{ONE.hex}\t0102\tusr/ping\n"
    )


HEX = ONE.hex
BAD_LISTINGS = {
    "empty": b"",
    "no header": b"d\t755\t0:0\ta\n",
    "another version": b"tree 2\n",
    "cut off": b"tree 1\nd\t755\t0:0\ta",
    "not UTF-8": b"tree 1\nd\t755\t0:0\t\xff\n",
    "unknown kind": b"tree 1\nx\t755\t0:0\ta\n",
    "too few fields": b"tree 1\nd\t755\t0:0\n",
    "too many fields": b"tree 1\nd\t755\t0:0\ta\tb\n",
    "mode with a zero before": b"tree 1\nd\t0755\t0:0\ta\n",
    "mode not octal": b"tree 1\nd\t799\t0:0\ta\n",
    "mode too large": b"tree 1\nd\t17777\t0:0\ta\n",
    "owner with a sign": b"tree 1\nd\t755\t+0:0\ta\n",
    "size with an underscore": f"tree 1\nf\t644\t0:0\t1_0\t{HEX}\t-\ta\n".encode(),
    "size with a zero before": f"tree 1\nf\t644\t0:0\t01\t{HEX}\t-\ta\n".encode(),
    "size in other digits": f"tree 1\nf\t644\t0:0\t٣\t{HEX}\t-\ta\n".encode(),
    "digest in capitals": f"tree 1\nf\t644\t0:0\t1\t{HEX.upper()}\t-\ta\n".encode(),
    "digest too short": f"tree 1\nf\t644\t0:0\t1\t{HEX[1:]}\t-\ta\n".encode(),
    "capability of half a byte": f"tree 1\nf\t644\t0:0\t1\t{HEX}\t012\ta\n".encode(),
    "needless escape": b"tree 1\nd\t755\t0:0\t%41\n",
    "escape in small letters": b"tree 1\nd\t755\t0:0\t%0a\n",
    "bare per cent": b"tree 1\nd\t755\t0:0\t100%\n",
    "control character": b"tree 1\nd\t755\t0:0\ta\x01\n",
    "out of order": b"tree 1\nd\t755\t0:0\tb\nd\t755\t0:0\ta\n",
    "twice": b"tree 1\nd\t755\t0:0\ta\nd\t755\t0:0\ta\n",
    "no parent": b"tree 1\nd\t755\t0:0\ta/b\n",
    "outside": b"tree 1\nd\t755\t0:0\t../a\n",
    "whiteout in a tree": b"tree 1\nw\ta\n",
    "empty line": b"tree 1\n\n",
}


@pytest.mark.parametrize("listing", BAD_LISTINGS.values(), ids=BAD_LISTINGS)
def test_what_no_tree_writes_is_not_read(listing: bytes) -> None:
    with pytest.raises(TreeError):
        Tree.parse(listing)


@pytest.mark.parametrize(
    "listing",
    [
        b"tree 1\n",
        b"layer 1\nw\ta\nd\t755\t0:0\tb\n",
        b"layer 1\nw\tb\nw\ta\n",
        b"layer 1\nd\t755\t0:0\ta\nw\ta\n",
        b"layer 1\nw\t../a\n",
    ],
    ids=["a tree", "entry after whiteout", "out of order", "both", "outside"],
)
def test_what_no_layer_writes_is_not_read(listing: bytes) -> None:
    with pytest.raises(TreeError):
        Layer.parse(listing)
