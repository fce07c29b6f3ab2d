from __future__ import annotations

import os
import py_compile
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprobuild.digest import Digest
from reprobuild.images.bytecode import source_of, without_stale
from reprobuild.images.changes import Changed, RawChange, RawKind
from reprobuild.images.normal_form import SPECIAL, STALE, NormalForm, normal_form
from reprobuild.tree import (
    NORMAL_TIME,
    Entry,
    Tree,
    TreeError,
    apply,
    difference,
    directory,
    file,
    link,
    overlay,
)

NOW = 1_750_000_000


class World:
    """A tree below, bodies by digest, and the changes of a command."""

    def __init__(self, *lower: Entry | tuple[str, bytes]) -> None:
        self.bodies: dict[Digest, bytes] = {}
        entries: dict[str, Entry] = {}
        for item in lower:
            entry = item if isinstance(item, Entry) else self.file(*item)
            path = entry.path
            entries[path] = entry
            while path := path.rpartition("/")[0]:
                entries.setdefault(path, directory(path))
        self.lower = Tree(entries.values())
        self.changes: list[Changed] = []

    def file(self, path: str, body: bytes, mode: int = 0o644) -> Entry:
        return file(path, self.add(body), len(body), mode)

    def add(self, body: bytes) -> Digest:
        digest = Digest.of(body)
        self.bodies[digest] = body
        return digest

    def write(
        self,
        path: str,
        body: bytes,
        mtime: int = NOW,
        *,
        mode: int = 0o644,
        uid: int = 0,
        capability: bytes = b"",
    ) -> World:
        change = RawChange(path, "f", mode, uid, mtime=mtime, size=len(body), capability=capability)
        self.changes.append(Changed(change, self.add(body)))
        return self

    def change(
        self, path: str, kind: RawKind, mode: int = 0o755, *, uid: int = 0, gid: int = 0, target: str = ""
    ) -> World:
        self.changes.append(Changed(RawChange(path, kind, mode, uid, gid, target=target)))
        return self

    def normal(self, owners: bool = False, mounted: Iterable[str] = ()) -> NormalForm:
        return normal_form(
            self.changes,
            self.lower,
            read=self.bodies.__getitem__,
            add=self.add,
            owners=owners,
            mounted=mounted,
        )

    def difference(self) -> tuple[list[str], list[str]]:
        """Entries and whiteouts of the layer that comes of it."""
        layer = difference(self.lower, self.normal().tree)
        return [entry.path for entry in layer.entries], list(layer.whiteouts)


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


# Byte code.

MAGIC = {"2.7": 62211, "3.2": 3180, "3.3": 3230, "3.6": 3379, "3.7": 3394, "3.11": 3495, "3.14": 3627}


def pyc(version: str, time: int, size: int, code: bytes = b"code") -> bytes:
    """A byte code file as that version writes it (importlib._bootstrap_external)."""
    magic = struct.pack("<H", MAGIC[version]) + b"\r\n"
    if version in ("2.7", "3.2"):
        return magic + struct.pack("<I", time) + code
    flags = b"" if version in ("3.3", "3.6") else bytes(4)
    return magic + flags + struct.pack("<II", time, size) + code


def pyc_by_hash(checked: bool) -> bytes:
    return (
        struct.pack("<H", MAGIC["3.11"])
        + b"\r\n"
        + struct.pack("<I", 1 | checked << 1)
        + b"hash1234"
        + b"code"
    )


CACHED = "m/__pycache__/x.cpython-311.pyc"


def body(world: World, path: str) -> bytes | None:
    entry = world.normal().tree.get(path)
    return None if entry is None or entry.digest is None else world.bodies[entry.digest]


@pytest.mark.parametrize("version", MAGIC)
@pytest.mark.parametrize("where", [CACHED, "m/x.pyc", "m/__pycache__/x.cpython-311.opt-1.pyc"])
def test_the_time_in_byte_code_is_rewritten_where_it_is_the_sources(version: str, where: str) -> None:
    world = (
        World(directory("m/__pycache__")).write("m/x.py", b"x = 1", NOW).write(where, pyc(version, NOW, 5))
    )
    assert body(world, where) == pyc(version, NORMAL_TIME, 5)
    assert world.normal().dropped == ()


def test_the_size_of_a_rewritten_file_is_that_of_its_body() -> None:
    world = World(directory("m/__pycache__")).write("m/x.py", b"x = 1").write(CACHED, pyc("3.11", NOW, 5))
    entry = world.normal().tree.get(CACHED)
    assert entry is not None and entry.size == len(pyc("3.11", NOW, 5))


def test_this_python_takes_the_rewritten_byte_code(tmp_path: Path) -> None:
    source = tmp_path / "x.py"
    source.write_text("x = 1")
    os.utime(source, (NOW, NOW))
    mode = py_compile.PycInvalidationMode.TIMESTAMP
    cached = Path(py_compile.compile(str(source), doraise=True, invalidation_mode=mode) or "")
    name = f"m/__pycache__/{cached.name}"
    world = World(directory("m/__pycache__")).write("m/x.py", b"x = 1", NOW).write(name, cached.read_bytes())
    cached.write_bytes(body(world, name) or b"")
    # Another text of the same size tells which of the two Python takes.
    source.write_text("x = 2")
    os.utime(source, (NORMAL_TIME, NORMAL_TIME))
    command = [sys.executable, "-c", "import x; print(x.x)"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"


STALE_CASES = {
    "other time": pyc("3.11", NOW - 1, 5),
    "other size": pyc("3.11", NOW, 6),
    "normal time": pyc("3.11", NORMAL_TIME, 5),
    "unknown flags": pyc("3.11", NOW, 5)[:4] + b"\x08\0\0\0" + pyc("3.11", NOW, 5)[8:],
    "cut off": pyc("3.11", NOW, 5)[:15],
    "empty": b"",
    "no byte code": b"#!/bin/sh\nexit 0\n",
}


@pytest.mark.parametrize("data", STALE_CASES.values(), ids=STALE_CASES)
def test_byte_code_that_is_not_the_sources_is_dropped(data: bytes) -> None:
    world = World(directory("m/__pycache__")).write("m/x.py", b"x = 1", NOW).write(CACHED, data)
    assert CACHED not in world.normal().tree
    assert [tuple(item) for item in world.normal().dropped] == [(CACHED, STALE)]


def test_byte_code_in_a_cache_without_a_source_is_dropped() -> None:
    world = World(directory("m/__pycache__")).write(CACHED, pyc("3.11", NOW, 5))
    assert CACHED not in world.normal().tree


def test_byte_code_of_a_source_of_the_tree_below_fits_the_normal_time() -> None:
    world = World(("m/x.py", b"x = 1"), directory("m/__pycache__"))
    assert body(world.write(CACHED, pyc("3.11", NORMAL_TIME, 5)), CACHED) == pyc("3.11", NORMAL_TIME, 5)
    other = World(("m/x.py", b"x = 1"), directory("m/__pycache__")).write(CACHED, pyc("3.11", NOW, 5))
    assert CACHED not in other.normal().tree


def test_byte_code_of_a_touched_source_becomes_what_it_was() -> None:
    world = World(("m/x.py", b"x = 1"), (CACHED, pyc("3.11", NORMAL_TIME, 5)))
    world.write("m/x.py", b"x = 1", NOW).write(CACHED, pyc("3.11", NOW, 5))
    assert world.difference() == ([], [])


@pytest.mark.parametrize("version", ["2.7", "3.11"])
def test_byte_code_alone_beside_no_source_gets_the_normal_time(version: str) -> None:
    world = World(directory("m")).write("m/x.pyc", pyc(version, NOW, 5))
    assert body(world, "m/x.pyc") == pyc(version, NORMAL_TIME, 5)


def test_a_file_that_only_looks_like_byte_code_by_its_name_stays() -> None:
    world = World(directory("m")).write("m/data.pyc", b"no byte code")
    assert body(world, "m/data.pyc") == b"no byte code"


@pytest.mark.parametrize("checked", [True, False])
def test_byte_code_known_by_hash_stays(checked: bool) -> None:
    data = pyc_by_hash(checked)
    world = World(directory("m/__pycache__")).write("m/x.py", b"x = 1").write(CACHED, data)
    assert body(world, CACHED) == data
    below = World(("m/x.py", b"x = 1"), (CACHED, data)).write("m/x.py", b"x = 2")
    assert body(below, CACHED) == data


def test_byte_code_below_goes_when_its_source_changes() -> None:
    # Size and normal time are those of the old source, so Python would take it.
    world = World(("m/x.py", b"x = 1"), (CACHED, pyc("3.11", NORMAL_TIME, 5)), ("m/y.py", b""))
    assert world.write("m/x.py", b"x = 2").difference() == (
        ["m", "m/__pycache__", "m/x.py"],
        [CACHED],
    )
    assert [tuple(item) for item in world.normal().dropped] == [(CACHED, STALE)]


def test_byte_code_below_goes_when_its_source_goes_or_comes() -> None:
    gone = World(("m/x.py", b"x = 1"), (CACHED, pyc("3.11", NORMAL_TIME, 5))).change("m/x.py", "gone")
    assert gone.difference()[1] == [CACHED, "m/x.py"]
    new = World((CACHED, pyc("3.11", NORMAL_TIME, 5))).write("m/x.py", b"x = 1")
    assert new.difference()[1] == [CACHED]


def test_byte_code_below_stays_when_its_source_only_changes_mode_or_time() -> None:
    world = World(("m/x.py", b"x = 1"), (CACHED, pyc("3.11", NORMAL_TIME, 5)))
    assert world.write("m/x.py", b"x = 1", mode=0o755).difference() == (["m", "m/x.py"], [])


def test_byte_code_below_beside_its_source_becomes_the_program_when_that_goes() -> None:
    world = World(("m/x.py", b"x = 1"), ("m/x.pyc", pyc("3.11", NORMAL_TIME, 5))).change("m/x.py", "gone")
    assert world.difference() == (["m"], ["m/x.py"])


def test_a_source_behind_a_link_counts() -> None:
    world = World(("real/x.py", b"x = 1"), directory("m/__pycache__"), link("m/x.py", "../real/x.py"))
    world.write(CACHED, pyc("3.11", NORMAL_TIME, 5))
    assert CACHED in world.normal().tree
    below = World(
        ("real/x.py", b"x = 1"), link("m/x.py", "../real/x.py"), (CACHED, pyc("3.11", NORMAL_TIME, 5))
    )
    assert below.write("real/x.py", b"x = 2").difference()[1] == [CACHED]
    loop = World(directory("m/__pycache__"), link("m/x.py", "x.py")).write(CACHED, pyc("3.11", NOW, 5))
    assert CACHED not in loop.normal().tree


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


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a/__pycache__/b.cpython-311.pyc", "a/b.py"),
        ("a/__pycache__/b.cpython-311.opt-2.pyc", "a/b.py"),
        ("__pycache__/b.pypy39.pyc", "b.py"),
        ("a/__pycache__/b.c.cpython-34.pyo", "a/b.c.py"),
        ("a/b.pyc", "a/b.py"),
        ("b.pyo", "b.py"),
        ("a/__pycache__/b.pyc", None),
        ("a/b.py", None),
        ("a/.pyc", None),
    ],
)
def test_whose_byte_code_a_name_says(path: str, source: str | None) -> None:
    assert source_of(path) == source


def test_byte_code_of_a_source_that_something_else_was_placed_over_goes() -> None:
    names = ("m/x.pyc", "m/__pycache__/x.cpython-311.opt-1.pyc", "m/__pycache__/xx.cpython-311.pyc")
    world = World(("m/x.py", b"x = 1"), (CACHED, b"pyc"), *((name, b"pyc") for name in names))
    placed = overlay(world.lower, [world.file("m/x.py", b"x = 2"), world.file("m/new.py", b"")])
    layer = difference(world.lower, without_stale(world.lower, placed))
    assert list(layer.whiteouts) == [names[1], CACHED, "m/x.pyc"]


def test_byte_code_stays_where_it_comes_with_its_source_or_the_source_stays() -> None:
    world = World(("m/x.py", b"x = 1"), (CACHED, b"pyc"))
    both = overlay(world.lower, [world.file("m/x.py", b"x = 2"), world.file(CACHED, b"new")])
    assert without_stale(world.lower, both) is both
    mode = overlay(world.lower, [world.file("m/x.py", b"x = 1", 0o755)])
    assert without_stale(world.lower, mode) is mode
