from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from reprobuild.build.place import apt as place_apt
from reprobuild.build.place.placement import Placement
from reprobuild.canonical import canonical
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.words import apt
from reprobuild.errors import BuildFailedError
from reprobuild.images.archive import ArchiveError
from reprobuild.store.store import Store
from reprobuild.tree import Tree, TreeError, directory, link, overlay
from tests.archives import member
from tests.debian import PACKERS, Content, ar, control_text, deb, pin

STEP = apt("bookworm", "tool")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("store"))


def placed(store: Store, debs: Mapping[str, bytes], below: Tree | None = None) -> tuple[Tree, Placement]:
    """Place packages, name → bytes, in the order given; give the tree and what was placed."""
    below = below or Tree()
    with store.transaction() as group:
        pins = []
        for name, data in debs.items():
            group.add_bytes(data)
            pins.append(pin(name, data))
    return _place(store, pins, below)


def _place(store: Store, pins: Sequence[Pin], below: Tree) -> tuple[Tree, Placement]:
    facts = place_apt.facts(STEP, below, store)
    canonical(facts)
    with store.transaction() as group:
        placement = place_apt.place(STEP, pins, facts, store, group)
    for entry in placement.entries:
        assert entry.digest is None or store.blobs.size(entry.digest) == entry.size
    return overlay(below, placement.entries), placement


def read(store: Store, tree: Tree, path: str) -> str:
    entry = tree.get(tree.resolve(path))
    assert entry is not None, f"there is no {path}"
    assert entry.digest is not None, f"{path} is no file"
    return store.blobs.read(entry.digest).decode()


@pytest.mark.parametrize("packing", PACKERS, ids=lambda packing: packing or "plain")
def test_a_package_is_placed_whatever_packs_it(store: Store, packing: str) -> None:
    content = Content(
        files={"usr/bin/tool": b"#!/bin/sh\n" * 50_000, "usr/share/doc/tool/copyright": b"free"},
        links={"usr/bin/tool2": "tool", "usr/share/tool": "/usr/lib/tool"},
        folders={"var/lib/tool": 0o700},
        modes={"usr/bin/tool": 0o755},
    )
    tree, placement = placed(store, {"tool": deb(control_text("tool"), content, packing=packing)})
    tool = tree.get("usr/bin/tool")
    folder = tree.get("var/lib/tool")
    assert tool is not None
    assert folder is not None
    assert (tool.mode, tool.size, folder.mode) == (0o755, 500_000, 0o700)
    assert tree.get("usr/bin/tool2") == link("usr/bin/tool2", "tool")
    assert read(store, tree, "usr/share/doc/tool/copyright") == "free"
    assert placement.notes == ()


def test_the_first_step_merges_usr(store: Store) -> None:
    content = Content(
        files={"bin/sh": b"sh", "lib64/ld.so": b"ld", "lib/x/a.so": b"a", "usr/lib/x/b.so": b"b"}
    )
    tree, _ = placed(store, {"tool": deb(control_text("tool"), content)})
    assert [tree.get(name) for name in ("bin", "lib", "lib64", "sbin")] == [
        link(name, f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin")
    ]
    assert {entry.path for entry in tree if entry.kind == "f"} >= {
        "usr/bin/sh",
        "usr/lib64/ld.so",
        "usr/lib/x/a.so",
        "usr/lib/x/b.so",
    }


def test_a_later_step_follows_the_links_of_the_tree(store: Store) -> None:
    below = Tree([directory("usr"), directory("usr/bin"), link("bin", "usr/bin"), directory("lib")])
    content = Content(files={"bin/tool": b"t", "lib/a.so": b"a"})
    tree, placement = placed(store, {"tool": deb(control_text("tool"), content)}, below)
    assert tree.get("bin") == link("bin", "usr/bin")
    assert {"usr/bin/tool", "lib/a.so"} <= {entry.path for entry in tree if entry.kind == "f"}
    assert not [entry for entry in placement.entries if entry.path == "bin"]


def test_hard_links_become_files_of_their_own(store: Store) -> None:
    hard = member("./usr/bin/twin", tarfile.LNKTYPE, "./usr/bin/tool", 0o755)
    content = Content({"usr/bin/tool": b"tool"}, members=[hard], modes={"usr/bin/tool": 0o755})
    tree, _ = placed(store, {"tool": deb(control_text("tool"), content)})
    one, other = tree.get("usr/bin/tool"), tree.get("usr/bin/twin")
    assert one is not None
    assert other == one._replace(path="usr/bin/twin")


def test_modes_that_lend_the_rights_of_others_are_taken_off(store: Store) -> None:
    infos = []
    for name, mode, uid, gid in (("su", 0o4755, 0, 0), ("chage", 0o2755, 0, 42), ("at", 0o6755, 1, 1)):
        info = member(f"./usr/bin/{name}", mode=mode)
        info.uid, info.gid = uid, gid
        infos.append(info)
    tree, _ = placed(store, {"tool": deb(control_text("tool"), Content({"usr/bin/x": b""}, members=infos))})
    found = {entry.path: (entry.mode, entry.uid, entry.gid) for entry in tree if entry.kind == "f"}
    assert found["usr/bin/su"] == (0o4755, 0, 0)
    assert found["usr/bin/chage"] == found["usr/bin/at"] == (0o755, 0, 0)


def test_a_folder_that_many_have_keeps_its_unusual_mode_in_any_order(store: Store) -> None:
    debs = {
        "base": deb(control_text("base"), Content(folders={"tmp": 0o1777})),
        "tool": deb(control_text("tool"), Content(folders={"tmp": 0o755, "tmp/x": 0o755})),
    }
    for order in (debs, dict(reversed(debs.items()))):
        tree, _ = placed(store, order)
        entry = tree.get("tmp")
        assert entry is not None
        assert entry.mode == 0o1777


def test_a_folder_goes_through_another_packages_link_in_any_order(store: Store) -> None:
    debs = {
        "a": deb(control_text("a"), Content(files={"usr/share/doc/b/file": b"f"})),
        "b": deb(
            control_text("b"), Content(links={"usr/share/doc/b": "a"}, folders={"usr/share/doc/a": 0o755})
        ),
    }
    trees = [placed(store, order)[0] for order in (debs, dict(reversed(debs.items())))]
    assert trees[0] == trees[1]
    assert read(store, trees[0], "usr/share/doc/a/file") == "f"


def test_two_packages_with_one_file_are_an_error_naming_both(store: Store) -> None:
    debs = {name: deb(control_text(name), Content(files={"bin/x": name.encode()})) for name in ("one", "two")}
    with pytest.raises(BuildFailedError, match=r"/usr/bin/x is in two 1 and, as something else, in one 1"):
        placed(store, debs)


def test_two_packages_with_equal_files_are_none(store: Store) -> None:
    debs = {name: deb(control_text(name), Content(files={"bin/x": b"same"})) for name in ("one", "two")}
    tree, _ = placed(store, debs)
    assert read(store, tree, "bin/x") == "same"


@pytest.mark.parametrize("order", [("new", "old"), ("old", "new")], ids=" ".join)
def test_a_package_may_replace_anothers_file(store: Store, order: tuple[str, str]) -> None:
    debs = {
        "old": deb(control_text("old"), Content(files={"usr/bin/x": b"old"})),
        "new": deb(control_text("new", replaces="old (<< 2)"), Content(files={"bin/x": b"new"})),
    }
    tree, _ = placed(store, {name: debs[name] for name in order})
    assert read(store, tree, "bin/x") == "new"


def test_replacing_counts_for_the_versions_named_alone(store: Store) -> None:
    debs = {
        "old": deb(control_text("old"), Content(files={"usr/bin/x": b"old"})),
        "new": deb(control_text("new", replaces="old (<< 1)"), Content(files={"usr/bin/x": b"new"})),
    }
    with pytest.raises(BuildFailedError):
        placed(store, debs)


PERL_DOC = """\
if [ "$1" = install ]; then
    dpkg-divert --add --package perl-doc --rename \\
\t--divert /usr/bin/perldoc.stub /usr/bin/perldoc
fi
"""


@pytest.mark.parametrize("order", [("perl", "perl-doc"), ("perl-doc", "perl")], ids=" ".join)
def test_a_package_may_divert_anothers_file(store: Store, order: tuple[str, str]) -> None:
    debs = {
        "perl": deb(control_text("perl"), Content(files={"bin/perldoc": b"stub"})),
        "perl-doc": deb(
            control_text("perl-doc"), Content(files={"usr/bin/perldoc": b"real"}), {"preinst": PERL_DOC}
        ),
    }
    tree, placement = placed(store, {name: debs[name] for name in order})
    assert read(store, tree, "usr/bin/perldoc") == "real"
    assert read(store, tree, "usr/bin/perldoc.stub") == "stub"
    assert placement.notes == ()


@pytest.mark.parametrize(
    "call",
    [
        "dpkg-divert --remove --package two --divert /usr/bin/y /usr/bin/x",
        "dpkg-divert --add --package other --divert /usr/bin/y /usr/bin/x",
        "dpkg-divert --add --package two --divert /usr/bin/$y /usr/bin/x",
        "dpkg-divert --add --package two --divert /usr/../y /usr/bin/x",
        "# dpkg-divert --add --package two --divert /usr/bin/y /usr/bin/x",
        "dpkg-divert --listpackage /usr/bin/x",
        "dpkg-divert",
    ],
    ids=["removal", "for another", "variable", "upwards", "comment", "question", "nothing"],
)
def test_what_is_no_diversion_of_its_own_changes_nothing(store: Store, call: str) -> None:
    debs = {
        "one": deb(control_text("one"), Content(files={"usr/bin/x": b"1"})),
        "two": deb(control_text("two"), Content(files={"usr/bin/x": b"2"}), {"preinst": call + "\n"}),
    }
    with pytest.raises(BuildFailedError, match="/usr/bin/x is in two"):
        placed(store, debs)


def test_each_package_is_said_to_be_there(store: Store) -> None:
    sums = "0123  usr/bin/tool\n"
    data = deb(
        control_text("tool", depends="libc6"), Content(files={"usr/bin/tool": b"t"}), {"md5sums": sums}
    )
    tree, _ = placed(store, {"tool": data})
    assert read(store, tree, "var/lib/dpkg/status.d/tool") == (
        "Package: tool\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\nDepends: libc6\n"
    )
    assert read(store, tree, "var/lib/dpkg/status.d/tool.md5sums") == sums


def test_what_is_placed_does_not_depend_on_the_order_of_pins(store: Store) -> None:
    debs = {
        name: deb(control_text(name), Content(files={f"usr/share/{name}/f": name.encode()}))
        for name in ("b", "a", "c")
    }
    assert placed(store, debs)[1] == placed(store, dict(sorted(debs.items())))[1]


BROKEN: Mapping[str, tuple[bytes, str]] = {
    "no archive": (b"<html>not found</html>", "no Debian package"),
    "empty": (b"", "no Debian package"),
    "no data": (ar({"debian-binary": b"2.0\n"}), "no data or no control data"),
    "a length that is none": (b"!<arch>\n" + b"x" * 60, "no Debian package, or it is cut off"),
    "cut off": (deb(control_text("tool"), Content(files={"f": b"x" * 9999}))[:-60], "cut off|damaged"),
    "damaged": (deb(control_text("tool"), data=b"\xfd7zXZ\0" + b"garbage" * 9), "damaged"),
    "no tar": (deb(control_text("tool"), data=b"x" * 2000), "no tar archive"),
    "another package": (deb(control_text("other")), "it is other 1, not tool 1"),
    "another version": (deb(control_text("tool", "2")), "it is tool 2, not tool 1"),
    "a path upwards": (
        deb(control_text("tool"), Content({"f": b""}, members=[member("../../etc/passwd")])),
        "outside",
    ),
    "an absolute path": (
        deb(control_text("tool"), Content({"f": b""}, members=[member("/etc/passwd")])),
        "absolute",
    ),
    "a device": (
        deb(control_text("tool"), Content({"f": b""}, members=[member("./dev/mem", tarfile.CHRTYPE)])),
        "device",
    ),
    "a hard link to nothing": (
        deb(control_text("tool"), Content({"f": b""}, members=[member("./x", tarfile.LNKTYPE, "./gone")])),
        "hard link",
    ),
    "control data that is none": (deb("no control data\n"), "not a field"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_package_is_refused_by_name(store: Store, data: bytes, message: str) -> None:
    with pytest.raises(ArchiveError, match=message) as caught:
        placed(store, {"tool": data})
    assert "tool_1_amd64.deb" in caught.value.message


def test_a_file_does_not_get_out_through_a_link_of_its_package(store: Store) -> None:
    content = Content({"f": b""}, {"etc": "../../../../outside"}, members=[member("./etc/passwd")])
    tree, _ = placed(store, {"tool": deb(control_text("tool"), content)})
    assert tree.get("outside/passwd") is not None


def test_a_loop_of_links_is_an_error(store: Store) -> None:
    content = Content(links={"a": "b", "b": "a"}, members=[member("./a/file")])
    with pytest.raises(TreeError, match="loop of symbolic links"):
        placed(store, {"tool": deb(control_text("tool"), content)})


def test_facts_are_those_that_placing_depends_on(store: Store, tmp_path: Path) -> None:
    tree, _ = placed(store, {"tool": deb(control_text("tool"), Content(files={"usr/bin/tool": b""}))})
    more = overlay(tree, [directory("srv"), link("usr/bin/other", "tool")])
    assert place_apt.facts(STEP, tree, store) == place_apt.facts(STEP, more, store)
    assert place_apt.facts(STEP, Tree(), store) != place_apt.facts(STEP, tree, store)
