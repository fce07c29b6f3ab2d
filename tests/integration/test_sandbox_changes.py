"""What a command changed: what is captured of it, and that nothing else is left."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from reprobuild.engine.protocol import RawChange
from reprobuild.errors import ReprobuildError
from tests.roots import give_to
from tests.sandboxes import Sandboxes

CHANGES = {
    "nothing": ("true", []),
    "a file": ("echo x > /var/new", [("var", "d"), ("var/new", "f")]),
    "a link": ("ln -s /nowhere /var/link", [("var", "d"), ("var/link", "l")]),
    "removed": ("rm /etc/passwd", [("etc", "d"), ("etc/passwd", "gone")]),
    "a folder removed": ("rmdir /usr/bin", [("usr", "d"), ("usr/bin", "gone")]),
    "a folder replaced": (
        "rm -r /usr; mkdir /usr; touch /usr/new",
        [("usr", "opaque"), ("usr", "d"), ("usr/new", "f")],
    ),
    "a folder in place of a file": (
        "rm /etc/passwd; mkdir /etc/passwd",
        [("etc", "d"), ("etc/passwd", "opaque"), ("etc/passwd", "d")],
    ),
    "made and removed": ("touch /made; rm /made", []),
    "mode": ("chmod 700 /var", [("var", "d")]),
    "a fifo": ("mkfifo /var/pipe", [("var", "d"), ("var/pipe", "other")]),
    "mounts leave nothing": ("touch /dev/shm/x; ls /proc /sys > /dev/null", []),
    "a fixed file": ("echo 192.0.2.1 a > /etc/hosts", [("etc", "d"), ("etc/hosts", "f")]),
    "a file with the old size and time": (
        "sed -i s/guest/gwest/ /etc/passwd; touch -d @315619200 /etc/passwd",
        [("etc", "d"), ("etc/passwd", "f")],
    ),
    "temporary": ("touch /tmp/x", [("tmp", "d"), ("tmp/x", "f")]),
    "no permissions": (
        "mkdir /var/closed; echo x > /var/closed/file; chmod 0 /var/closed/file /var/closed",
        [("var", "d"), ("var/closed", "d"), ("var/closed/file", "f")],
    ),
    "order": (
        "mkdir /z /y; touch /z/b /z/a /y.x",
        [("y", "d"), ("y.x", "f"), ("z", "d"), ("z/a", "f"), ("z/b", "f")],
    ),
}


WITHOUT_OPAQUE = {
    CHANGES["a folder replaced"][0]: [("usr", "d"), ("usr/bin", "gone"), ("usr/new", "f")],
    CHANGES["a folder in place of a file"][0]: [("etc", "d"), ("etc/passwd", "d")],
}
"""An overlay says that nothing is left of what was in a folder, a daemon's archive by what it lacks."""


@pytest.mark.parametrize(("text", "changes"), CHANGES.values(), ids=CHANGES)
def test_changes_are_captured(worlds: Sandboxes, text: str, changes: list[tuple[str, str]]) -> None:
    outcome = worlds.shell(text, capture=True)
    assert outcome.result.tail == ()
    found = outcome.capture.summary()
    if worlds.daemon is not None:  # which tells what went last, and of each path what came of it
        changes = sorted(WITHOUT_OPAQUE.get(text, changes))
        found.sort()
    assert found == changes


def test_a_change_tells_all_of_a_file(worlds: Sandboxes) -> None:
    outcome = worlds.shell(
        "echo text > /f; chmod 6751 /f; touch -d @1000000000 /f; ln -s ../a /l; mkdir -m 0 /d", capture=True
    )
    assert outcome.capture["f"] == RawChange("f", "f", 0o6751, 0, 0, 1_000_000_000, 5)
    assert outcome.capture.bodies == {"f": b"text\n"}
    assert outcome.capture["l"].target == "../a"
    assert outcome.capture["d"].mode == 0


def test_names_that_are_no_utf8_are_kept(worlds: Sandboxes) -> None:
    outcome = worlds.shell("touch \"/$(printf 'a\\377')\"", capture=True)
    assert outcome.capture.summary() == [("a\udcff", "f")]


def test_a_renamed_folder_is_captured_whole(worlds: Sandboxes) -> None:
    outcome = worlds.shell("mv /usr /usr.old; mkdir -p /var/a/b; mv /var/a /var/c", capture=True)
    found = [change for change in outcome.capture.summary() if change[1] != "opaque"]
    assert sorted(found) == [
        ("usr", "gone"),
        ("usr.old", "d"),
        ("usr.old/bin", "d"),
        ("var", "d"),
        ("var/c", "d"),
        ("var/c/b", "d"),
    ]


def test_the_tree_itself_never_changes(worlds: Sandboxes) -> None:
    before = sorted(path.relative_to(worlds.lowers[0]) for path in worlds.lowers[0].rglob("*"))
    worlds.shell("rm -rf /etc /bin/busybox; echo x > /bin/sh")
    assert before == sorted(path.relative_to(worlds.lowers[0]) for path in worlds.lowers[0].rglob("*"))


def test_a_tree_that_is_not_writable_says_so(worlds: Sandboxes) -> None:
    outcome = worlds.shell("touch /x; echo $?", writable=False)
    assert outcome.result.tail[-1] == "1"
    assert "Read-only" in outcome.text


def test_later_folders_of_a_stack_lie_below(worlds: Sandboxes) -> None:
    top = worlds.home / "top"
    (top / "etc").mkdir(parents=True)
    (top / "etc/passwd").write_text("on top\n")
    if os.geteuid() == 0:
        give_to(top, worlds.uid)
    stacked = replace(worlds, lowers=(top, *worlds.lowers))
    assert stacked.shell("cat /etc/passwd; ls /etc/group").text == "on top\n/etc/group\n"


def test_nothing_is_left_behind(worlds: Sandboxes) -> None:
    worlds.shell(
        "mkdir -p /a; chmod 0 /a; i=0; while [ $i -lt 300 ]; do mkdir d && cd d; i=$((i+1)); done",
        inputs={"/in/x": worlds.lowers[0] / "etc/passwd"},
    )
    assert worlds.leftovers() == []


TRAPS = {
    "deep": ("i=0; while [ $i -lt 300 ]; do mkdir d && cd d; i=$((i+1)); done", "200 deep"),
    "large": ("dd if=/dev/zero of=large bs=1 count=1 seek=1000000000000 2>/dev/null", "too large"),
}


@pytest.mark.parametrize(("text", "message"), TRAPS.values(), ids=TRAPS)
def test_what_nobody_honest_leaves_is_an_error(worlds: Sandboxes, text: str, message: str) -> None:
    with pytest.raises(ReprobuildError, match=message):
        worlds.shell(f"cd /var; {text}", capture=True)
    with pytest.raises(ReprobuildError, match=message):
        worlds.shell(f"cd /out; {text}", outputs={"/out": worlds.home / "trapped"})
    assert worlds.leftovers() == []
