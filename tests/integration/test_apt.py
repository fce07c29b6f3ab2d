"""``apt`` from end to end: an archive made by the test, served over HTTP."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reprobuild.derivation.steps import Apt
from reprobuild.derivation.words import apt
from reprobuild.errors import OfflineError, OutsideError, RecipeError
from reprobuild.lock.debian_resolution import UnresolvableError
from tests.apt_machine import Machine, names
from tests.debian import Archive, served


def test_a_step_is_resolved_fetched_and_placed(machine: Machine, mirror: list[str]) -> None:
    step = apt("bookworm", "tool")
    pins = machine.lock(step)
    assert names(pins) == ["emacs", "libx", "shell", "tool"]
    libx = pins[1]
    assert (libx.name, dict(libx.hashed)) == (
        "libx_1.2-1_amd64.deb",
        {"package": "libx", "version": "1.2-1", "arch": "amd64"},
    )
    assert dict(libx.found) == {"path": "pool/main/l/libx/libx_1.2-1_amd64.deb", "date": "20260102T030405Z"}
    assert any("/by-hash/SHA256/" in path for path in mirror)

    machine.fetch(step, pins)
    tree = machine.place(step, pins)
    assert {"usr/bin/sh", "usr/lib/libx.so", "usr/bin/tool", "usr/bin/emacs"} <= {
        entry.path for entry in tree
    }
    assert machine.lock(step) == ()


def test_nothing_of_the_mirror_gets_into_pins(machine: Machine, mirror: list[str]) -> None:
    (url,) = machine.mirrors
    host = urlsplit(url).netloc
    assert host not in repr(machine.lock(apt("bookworm", "tool")))


def test_two_locks_of_one_index_are_equal(machine: Machine, mirror: list[str]) -> None:
    step = apt("bookworm", "tool", "vi")
    assert machine.lock(step) == machine.lock(step)
    assert "emacs" not in names(machine.lock(step))


def test_a_later_step_takes_what_is_there_as_given(machine: Machine, mirror: list[str]) -> None:
    first = apt("bookworm", "vi")
    pins = machine.lock(first)
    machine.fetch(first, pins)
    machine.place(first, pins)
    assert names(machine.lock(apt("bookworm", "tool"))) == ["tool"]


def test_two_steps_come_to_one_tree(machine: Machine, mirror: list[str]) -> None:
    first, second = apt("bookworm", "vi"), apt("bookworm", "tool")
    pins = []
    for step in (first, second):
        pins.append(machine.lock(step))
        machine.fetch(step, pins[-1])
        machine.place(step, pins[-1])
    tree = machine.tree
    listed = {entry.path.rpartition("/")[2] for entry in tree.below("var/lib/dpkg/status.d")}
    assert {"vi", "libx", "shell", "tool"} <= listed
    assert {"usr/bin/vi", "usr/bin/tool", "usr/lib/libx.so"} <= {entry.path for entry in tree}
    assert machine.place(first, pins[0]) == tree, "the same step once more changes nothing"


def test_the_machines_own_sources_are_asked(machine: Machine, mirror: list[str]) -> None:
    machine.apt_folder.mkdir()
    (machine.apt_folder / "sources.list").write_text(f"deb {machine.mirrors[0]} bookworm main\n")
    machine.mirrors = []
    assert "tool" in names(machine.lock(apt("bookworm", "tool")))


def test_a_mirror_without_the_suite_is_passed_over(
    machine: Machine, mirror: list[str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with served(tmp_path / "empty") as (url, asked):
        machine.mirrors.insert(0, url)
        machine.lock(apt("bookworm", "tool"))
    assert asked == ["/dists/bookworm/InRelease"]


def test_a_file_that_left_a_mirror_comes_from_the_next(
    machine: Machine, mirror: list[str], archive: Archive, tmp_path: Path
) -> None:
    step = apt("bookworm", "libx")
    pins = machine.lock(step)
    (tmp_path / "empty").mkdir()
    with served(tmp_path / "empty") as (url, asked):
        machine.mirrors.insert(0, url)
        machine.fetch(step, pins)
    assert "/pool/main/l/libx/libx_1.2-1_amd64.deb" in asked
    assert machine.store.blobs.has(pins[0].sha256)


def test_a_mirror_of_the_step_is_asked_first(machine: Machine, mirror: list[str]) -> None:
    (url,) = machine.mirrors
    machine.mirrors = []
    step = apt("bookworm", "libx", mirrors=[url])
    pins = machine.lock(step)
    machine.fetch(step, pins)
    assert "/pool/main/l/libx/libx_1.2-1_amd64.deb" in mirror


def test_the_past_comes_from_a_mirror_that_holds_dates(
    machine: Machine, archive: Archive, tmp_path: Path
) -> None:
    archive.valid_for = timedelta(days=-1)
    archive.publish()
    (tmp_path / "snapshot").mkdir()
    archive.folder.rename(tmp_path / "snapshot" / "20240131T235959Z")
    with served(tmp_path / "snapshot") as (url, _):
        machine.mirrors = [url + "/{date}"]
        machine.keyring = archive.keyring
        assert "tool" in names(machine.lock(apt("bookworm", "tool", as_of="2024-01-31")))


def test_a_suite_that_nobody_has_is_an_error_from_outside(machine: Machine, mirror: list[str]) -> None:
    with pytest.raises(OutsideError, match="nobody gives the index of trixie") as caught:
        machine.lock(apt("trixie", "tool"))
    assert caught.value.exit_code == 5
    assert mirror == ["/dists/trixie/InRelease"]


def test_offline_says_what_was_needed(machine: Machine, mirror: list[str]) -> None:
    machine.offline = True
    with pytest.raises(OfflineError, match="dists/bookworm/InRelease"):
        machine.lock(apt("bookworm", "tool"))
    assert mirror == []


# What a recipe may get wrong.


@pytest.mark.parametrize(
    ("step", "message", "hint"),
    [
        (apt("bookworm", "tol"), "bookworm has no package 'tol' for amd64", "did you mean tool?"),
        (apt("bookworm", "editor"), "editor is a name for several packages", "take one of emacs, vi"),
        (apt("bookworm", "libx=9"), "bookworm has no libx 9", "there is 1.2-1"),
        (apt("bookworm", "tool:arm64"), "packages of arm64 do not fit", ""),
        (apt("bookworm", "tool", components="contrib"), "has no component 'contrib'", "components: main"),
        (
            apt("bookworm", "tool", arch="arm64"),
            "has no component 'main' for arm64",
            "architectures: all, amd64",
        ),
    ],
    ids=["unknown", "virtual", "version", "architecture", "component", "arch"],
)
def test_a_wish_that_makes_no_sense_is_explained(
    machine: Machine, mirror: list[str], step: Apt, message: str, hint: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        machine.lock(step)
    assert message in caught.value.message
    assert str(step.where) in caught.value.message
    assert hint in caught.value.hint


def test_a_wish_that_cannot_be_met_is_explained(machine: Machine, mirror: list[str]) -> None:
    with pytest.raises(UnresolvableError, match="broken 1 needs gone, which nothing here fulfils"):
        machine.lock(apt("bookworm", "broken"))


def test_a_wished_version_is_taken(machine: Machine, mirror: list[str]) -> None:
    assert "libx" in names(machine.lock(apt("bookworm", "libx=1.2-1")))
