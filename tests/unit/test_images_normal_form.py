"""The normal form of what a command changed: what is kept, dropped, refused."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.digest import Digest
from reprobuild.images.changes import Changed, RawChange, RawKind
from reprobuild.images.normal_form import SPECIAL, NormalForm
from reprobuild.tree import Entry, Tree, TreeError, apply, difference, directory, file, link
from tests.unit.worlds import NOW, World


def test_nothing_changed() -> None:
    world = World(("etc/motd", b"hi"))
    assert world.normal() == NormalForm(world.lower, ())


def test_directories_that_were_only_copied_up_are_no_change() -> None:
    world = World(("usr/lib/a", b"a")).change("usr", "d").change("usr/lib", "d").write("usr/lib/a", b"a")
    assert world.difference() == ([], [])


def test_a_changed_file_comes_with_the_directories_above_it() -> None:
    world = World(("usr/lib/a", b"a")).change("usr", "d").change("usr/lib", "d").write("usr/lib/a", b"b")
    assert world.difference() == (["usr", "usr/lib", "usr/lib/a"], [])


@pytest.mark.parametrize(
    ("kind", "target"),
    [("gone", ""), ("f", ""), ("l", "elsewhere"), ("other", "")],
)
def test_what_takes_the_place_of_a_directory_takes_what_was_in_it(kind: RawKind, target: str) -> None:
    world = World(("a/b/c", b"c"), ("ab", b"ab"))
    if kind == "f":
        world.write("a", b"now a file")
    else:
        world.change("a", kind, target=target)
    assert {entry.path for entry in world.normal().tree} == {"ab"} | ({"a"} if kind in "fl" else set())


def test_an_opaque_directory_hides_what_was_in_it() -> None:
    world = World(("a/b", b"b"), ("a/c/d", b"d"), ("a/e", b"e"))
    world.change("a", "opaque").change("a", "d", 0o700).write("a/e", b"e")
    assert [entry.path for entry in world.normal().tree] == ["a", "a/e"]
    assert world.normal().tree.get("a") == directory("a", 0o700)
    assert world.difference() == (["a"], ["a/b", "a/c"])


def test_a_directory_takes_the_place_of_a_file() -> None:
    world = World(("a", b"file")).change("a", "d").write("a/b", b"b")
    assert world.difference() == (["a", "a/b"], [])


def test_the_root_itself_is_no_entry() -> None:
    assert World(("a", b"a")).change("", "d", 0o700).difference() == ([], [])


def test_owners_are_0_unless_they_count() -> None:
    world = World().change("d", "d", uid=33, gid=33).write("d/f", b"f", uid=33)
    world.change("d/l", "l", target="f", gid=7)
    assert {(entry.uid, entry.gid) for entry in world.normal().tree} == {(0, 0)}
    assert [(entry.uid, entry.gid) for entry in world.normal(owners=True).tree] == [(33, 33), (33, 0), (0, 7)]


def test_what_was_there_keeps_its_owner_where_chown_has_no_effect() -> None:
    world = World(directory("home", uid=1000), directory("srv", uid=5))
    world.change("home", "d", 0o700).write("srv", b"now a file")
    tree = world.normal().tree
    assert [(entry.path, entry.uid) for entry in tree] == [("home", 1000), ("srv", 0)]
    assert [entry.uid for entry in world.normal(owners=True).tree] == [0, 0]


def test_modes_are_kept_with_setuid() -> None:
    world = World().write("su", b"s", mode=0o4755).change("tmp", "d", 0o1777).change("l", "l", 0, target="su")
    assert [entry.mode for entry in world.normal().tree] == [0o777, 0o4755, 0o1777]


CAPABILITY_2 = struct.pack("<IIIII", 0x02000001, 0x2000, 0, 0, 0)
CAPABILITY_3 = struct.pack("<IIIIII", 0x03000001, 0x2000, 0, 0, 0, 100_000)


def test_a_capability_does_not_name_the_namespace_that_it_was_made_in() -> None:
    world = World().write("ping", b"p", capability=CAPABILITY_3).write("pong", b"p", capability=CAPABILITY_2)
    assert {entry.capability for entry in world.normal().tree} == {CAPABILITY_2}


def test_a_capability_that_a_laid_out_tree_could_not_hold_stays() -> None:
    world = World()
    world = World(world.file("ping", b"p")._replace(capability=CAPABILITY_2))
    assert world.write("ping", b"p").difference() == ([], [])
    changed = World(world.file("ping", b"p")._replace(capability=CAPABILITY_2)).write("ping", b"changed")
    assert [entry.capability for entry in changed.normal().tree] == [b""]


def test_special_files_are_dropped_with_a_note() -> None:
    world = World(("run/old", b"")).change("run/old", "other").change("run/new.sock", "other")
    normal = world.normal()
    assert [entry.path for entry in normal.tree] == ["run"]
    assert [tuple(item) for item in normal.dropped] == [("run/new.sock", SPECIAL), ("run/old", SPECIAL)]


# What a command changed, from a tree that has all of these paths.
LISTED = {
    "log": "var/log/dpkg.log",
    "log in a folder": "var/log/apt/term.log",
    "log with a line end": "var/log/a\nb",
    "apt's index": "var/cache/apt/pkgcache.bin",
    "downloaded package": "var/cache/apt/archives/libc6_2.36-9_amd64.deb",
    "partly downloaded package": "var/cache/apt/archives/partial/x.deb",
    "ldconfig's cache": "var/cache/ldconfig/aux-cache",
    "pip's cache": "root/.cache/pip/http/a/b",
}


@pytest.mark.parametrize("path", LISTED.values(), ids=LISTED)
def test_listed_files_are_dropped_or_as_in_the_tree_below(path: str) -> None:
    new = World(directory("var"), directory("root"))
    parents = [path[:index] for index, letter in enumerate(path) if letter == "/"]
    for parent in parents:
        new.change(parent, "d")
    new.write(path, b"new")
    assert path not in new.normal().tree
    assert path in {item.path for item in new.normal().dropped} or "root/.cache/pip" in {
        item.path for item in new.normal().dropped
    }

    changed = World((path, b"old")).write(path, b"new")
    assert changed.normal().tree == changed.lower
    assert [item.path for item in changed.normal().dropped] == [path]

    removed = World((path, b"old")).change(path, "gone")
    assert removed.difference()[1] == [path]
    assert removed.normal().dropped == ()


KEPT = ["tmp/requirements.txt", "var/lib/apt/lists/InRelease", "var/log.txt", "var/cache/apt/archives/lock"]


@pytest.mark.parametrize("path", [*KEPT, "root/.cache/pipx", "home/x/.cache/pip/a", "opt/var/log/x"])
def test_what_is_not_listed_stays(path: str) -> None:
    world = World()
    for index, letter in enumerate(path):
        if letter == "/":
            world.change(path[:index], "d")
    assert path in world.write(path, b"").normal().tree


def test_folders_and_links_among_the_logs_stay() -> None:
    world = World(("var/log/x", b"")).change("var/log/nginx", "d")
    world.change("var/log/nginx/access.log", "l", target="/dev/stdout")
    assert world.difference()[0] == ["var", "var/log", "var/log/nginx", "var/log/nginx/access.log"]


def test_a_log_that_was_made_again_is_as_in_the_tree_below() -> None:
    # The same whether an engine saw the folder replaced or the file changed in place.
    world = World(("var/log/apt/history.log", b"old"))
    world.change("var/log/apt", "opaque").change("var/log/apt", "d").write("var/log/apt/history.log", b"new")
    assert world.normal().tree == world.lower


def test_a_log_without_a_folder_left_is_gone() -> None:
    world = World(("var/log/apt/history.log", b"old")).write("var/log/apt", b"a file now")
    assert world.normal().tree == world.lower
    gone = World(("var/log/apt/history.log", b"old")).change("var/log", "gone")
    assert [entry.path for entry in gone.normal().tree] == ["var"]


def test_mounted_paths_are_always_as_in_the_tree_below() -> None:
    world = World(("etc/hosts", b"base"), ("in/a", b"a"))
    world.write("etc/hosts", b"engine").write("etc/hostname", b"engine").change("etc/mtab", "l", target="x")
    world.change("proc", "d").change("dev", "d").change("dev/null", "other").change("in", "opaque")
    world.change("in", "d").change("out", "d").write("out/x", b"").write(".dockerenv", b"")
    normal = world.normal(mounted=["/in", "/out"])
    assert normal == NormalForm(world.lower, ())
    assert "out/x" in world.normal().tree


def test_a_folder_that_was_only_made_for_mounts_is_no_change() -> None:
    world = World(("a", b"")).change("etc", "d").write("etc/resolv.conf", b"")
    assert world.normal().tree == world.lower
    assert "etc/passwd" in world.write("etc/passwd", b"").normal().tree


@pytest.mark.parametrize(
    ("path", "target", "shown"),
    [
        ("a/\udcff", "", r"/a/\\xff, which is not UTF-8"),
        ("l", "to/\udcfe", r"/l -> to/\\xfe, which is not UTF-8"),
        ("a/.wh.b", "", r"/a/\.wh\.b: names that begin with \.wh\."),
        (".wh.b", "", r"/\.wh\.b: names that begin with \.wh\."),
    ],
)
def test_names_that_no_layer_holds_are_errors(path: str, target: str, shown: str) -> None:
    world = World(directory("a"))
    world = world.change(path, "l", target=target) if target else world.write(path, b"")
    with pytest.raises(TreeError, match=shown):
        world.normal()


def test_names_that_are_dropped_anyway_are_no_errors() -> None:
    world = World(directory("var/log"), directory("run")).write("var/log/\udcff", b"")
    world.change("run/\udcfe", "other")
    assert [item.path for item in world.normal().dropped] == ["run/\\xfe", "var/log/\\xff"]


# Any two trees, the way from one to the other as different engines would tell it.

PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    entries: dict[str, Entry] = {}
    for path in sorted(draw(st.sets(PATHS, max_size=8))):
        parent = path.rpartition("/")[0]
        if parent and (parent not in entries or entries[parent].kind != "d"):
            continue
        kind = draw(st.sampled_from("ddfl"))
        if kind == "d":
            entries[path] = directory(path, draw(st.sampled_from([0o755, 0o1777])))
        elif kind == "f":
            size = draw(st.integers(0, 2))
            entries[path] = file(path, Digest.of(bytes(size)), size, draw(st.sampled_from([0o644, 0o4755])))
        else:
            entries[path] = link(path, draw(st.sampled_from(["a", "../b"])))
    return Tree(entries.values())


def told(lower: Tree, upper: Tree, opaque: Callable[[str], bool], everything: bool) -> list[Changed]:
    """The changes from one tree to another: ``opaque`` says which folders count as made anew,
    ``everything`` reports also what did not change."""
    changes: list[Changed] = []
    anew: list[str] = []
    for path in sorted({entry.path for tree in (lower, upper) for entry in tree}):
        before, now = lower.get(path), upper.get(path)
        is_hidden = path.startswith(tuple(folder + "/" for folder in anew))
        if now is None:
            parent = path.rpartition("/")[0]
            above = upper.get(parent)
            if not is_hidden and (not parent or (above is not None and above.kind == "d")):
                changes.append(Changed(RawChange(path, "gone")))
            continue
        if now.kind == "d" and not is_hidden and before is not None and opaque(path):
            anew.append(path)
            changes.append(Changed(RawChange(path, "opaque")))
            is_hidden = True
        if everything or is_hidden or before != now:
            change = RawChange(
                path, now.kind, now.mode, mtime=NOW, size=now.size, target=now.target, uid=7, gid=7
            )
            changes.append(Changed(change, now.digest))
    return changes


@given(trees(), trees(), st.sets(PATHS), st.booleans())
def test_the_normal_form_is_the_same_however_an_engine_tells_it(
    lower: Tree, upper: Tree, opaque: set[str], everything: bool
) -> None:
    world = World(*lower)
    world.changes = told(lower, upper, opaque.__contains__, everything)
    found = world.normal()
    assert found == NormalForm(upper, ())
    assert apply(lower, difference(lower, upper)) == upper


@given(trees(), trees())
def test_a_normal_form_is_its_own(lower: Tree, upper: Tree) -> None:
    world = World(*lower)
    world.changes = told(lower, upper, lambda path: False, everything=True)
    again = World(*world.normal().tree)
    again.changes = [changed for changed in world.changes if changed.change.kind != "gone"]
    assert again.normal() == NormalForm(again.lower, ())
