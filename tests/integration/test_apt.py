"""``apt`` from end to end: an archive made by the test, served over HTTP; Debian's own where there is one."""

from __future__ import annotations

import json
import lzma
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pysequoia import Tsk

from reprobuild.build.place import apt as place_apt
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Apt
from reprobuild.derivation.words import apt
from reprobuild.digest import Digest
from reprobuild.engine.protocol import Command
from reprobuild.engine.sandbox import SandboxEngine
from reprobuild.errors import CheckFailedError, DigestMismatchError, OfflineError, OutsideError, RecipeError
from reprobuild.events import ignore
from reprobuild.fetch.apt import downloads
from reprobuild.fetch.apt_sources import current_bases, read_apt_sources
from reprobuild.fetch.download import fetch_all
from reprobuild.lock.apt import resolve
from reprobuild.lock.debian_resolution import UnresolvableError
from reprobuild.lock.resolver import Context
from reprobuild.settings import Settings, load
from reprobuild.store.store import Store
from reprobuild.tree import Tree, difference, overlay
from tests.debian import Archive, Content, control_text, served
from tests.projects import Project, require_sandbox
from tests.require import program, require


@dataclass
class Machine:
    """A store, settings and apt sources, all of the test's own."""

    folder: Path
    store: Store
    mirrors: list[str] = field(default_factory=list)
    keyring: bytes | None = None
    offline: bool = False
    tree: Tree = field(default_factory=Tree)

    @property
    def apt_folder(self) -> Path:
        return self.folder / "apt"

    @property
    def settings(self) -> Settings:
        allowed = ["127.0.0.1"]  # a mirror that a step names is a stranger's word
        flags = {"debian_mirrors": self.mirrors, "offline": self.offline, "allow_private": allowed}
        return load(flags, {"HOME": str(self.folder)}, str(self.folder))

    def lock(self, step: Apt) -> tuple[Pin, ...]:
        """Resolve a step on the tree so far."""
        context = Context(self.store, self.settings, ignore, "linux/amd64", self.tree, self.folder)
        return resolve(step, context, apt_folder=self.apt_folder, keyring=self.keyring)

    def fetch(self, step: Apt, pins: tuple[Pin, ...]) -> None:
        wanted = downloads(step, pins, self.settings, apt_folder=self.apt_folder)
        fetch_all(self.store, wanted, tell=ignore, offline=self.offline)

    def place(self, step: Apt, pins: tuple[Pin, ...]) -> Tree:
        """Place a step on the tree so far; give and keep the tree."""
        facts = place_apt.facts(step, self.tree, self.store)
        with self.store.transaction() as group:
            placement = place_apt.place(step, pins, facts, self.store, group)
        self.tree = overlay(self.tree, placement.entries)
        return self.tree


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, Store.open(tmp_path / "store"))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An archive with a shell, a tool that needs a library, and two that provide one name."""
    (tmp_path / "mirror").mkdir()
    archive = Archive(tmp_path / "mirror")
    archive.add(control_text("shell", essential="yes", depends="libx"), Content({"bin/sh": b"shell"}))
    archive.add(control_text("libx", "1.2-1"), Content({"lib/libx.so": b"library"}))
    archive.add(control_text("tool", depends="libx (>= 1), editor"), Content({"usr/bin/tool": b"tool"}))
    archive.add(control_text("vi", provides="editor"), Content({"usr/bin/vi": b"vi"}))
    archive.add(control_text("emacs", provides="editor"), Content({"usr/bin/emacs": b"emacs"}))
    archive.add(control_text("broken", depends="gone"))
    archive.publish()
    return archive


@pytest.fixture
def mirror(machine: Machine, archive: Archive) -> Iterator[list[str]]:
    """Serve the archive, and let the machine know; gives the paths that are asked for."""
    with served(archive.folder) as (url, asked):
        machine.mirrors = [url]
        machine.keyring = archive.keyring
        yield asked


def names(pins: tuple[Pin, ...]) -> list[str]:
    return [pin.hashed["package"] for pin in pins]


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


# What cannot be verified is refused.


def test_an_index_by_a_stranger_is_refused(machine: Machine, mirror: list[str], archive: Archive) -> None:
    archive.key = Tsk.generate("Somebody <else@example.org>")
    archive.publish()
    with pytest.raises(CheckFailedError, match=r"InRelease is refused: no key") as caught:
        machine.lock(apt("bookworm", "tool"))
    assert caught.value.exit_code == 4


def test_an_index_that_debian_did_not_sign_is_refused(machine: Machine, mirror: list[str]) -> None:
    machine.keyring = None
    with pytest.raises(CheckFailedError, match="no key of the Debian archive"):
        machine.lock(apt("bookworm", "tool"))


def test_an_index_that_has_run_out_is_refused(machine: Machine, mirror: list[str], archive: Archive) -> None:
    archive.valid_for = timedelta(days=-1)
    archive.publish()
    with pytest.raises(CheckFailedError, match="valid until"):
        machine.lock(apt("bookworm", "tool"))


def test_another_suite_under_the_name_is_refused(
    machine: Machine, mirror: list[str], archive: Archive
) -> None:
    archive.codename = "trixie"
    archive.suite = "trixie"
    path = archive.publish()
    path.rename(archive.folder / "dists" / "bookworm" / "InRelease")
    with pytest.raises(CheckFailedError, match="the release trixie, not bookworm"):
        machine.lock(apt("bookworm", "tool"))


@pytest.mark.parametrize("by_hash", [True, False], ids=["by hash", "by name"])
def test_a_tampered_list_of_packages_is_refused(
    machine: Machine, mirror: list[str], archive: Archive, by_hash: bool
) -> None:
    archive.by_hash = by_hash
    archive.publish()
    for path in archive.folder.rglob("*"):
        if path.is_file() and "dists" in path.parts and path.name != "InRelease":
            evil = b"\n".join(archive.stanzas[0].encode().replace(b"shell", b"evil!") for _ in range(9))
            path.write_bytes(lzma.compress(evil))
    with pytest.raises(DigestMismatchError) as caught:
        machine.lock(apt("bookworm", "tool"))
    assert caught.value.exit_code == 4


def test_a_list_that_unpacks_to_more_than_was_signed_is_refused(
    machine: Machine, mirror: list[str], archive: Archive
) -> None:
    bomb = lzma.compress(bytes(50_000_000))
    plain = Digest.of(b"small")
    folder = archive.folder / "dists" / "bookworm"
    packed = Digest.of(bomb)
    (folder / "main/binary-amd64/by-hash/SHA256" / packed.hex).write_bytes(bomb)
    lines = [
        f" {packed.hex} {len(bomb)} main/binary-amd64/Packages.xz",
        f" {plain.hex} 5 main/binary-amd64/Packages",
    ]
    (folder / "InRelease").write_bytes(archive.sign(archive.release_text(lines)))
    with pytest.raises(CheckFailedError, match="unpacks to more than 5 bytes"):
        machine.lock(apt("bookworm", "tool"))


def test_a_package_that_is_not_the_pinned_one_is_refused(
    machine: Machine, mirror: list[str], archive: Archive
) -> None:
    step = apt("bookworm", "libx")
    pins = tuple(_undated(pin) for pin in machine.lock(step))
    (archive.folder / pins[0].found["path"]).write_bytes(b"something else")
    with pytest.raises(DigestMismatchError):
        machine.fetch(step, pins)


def _undated(pin: Pin) -> Pin:
    """Give a pin that the snapshot archive is not asked for."""
    return replace(pin, found={"path": pin.found["path"]})


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


# Debian's own archive, as this machine knows it.


@pytest.fixture
def debian(machine: Machine) -> Machine:
    """A machine with the apt sources of this one; skipped where they do not answer."""
    sources = current_bases("bookworm", (), read_apt_sources())
    reason = "" if sources else "this machine has no apt source that may have bookworm"
    if sources:
        address = urlsplit(sources[0])
        try:
            socket.create_connection((address.hostname or "", address.port or 80), timeout=10).close()
        except OSError:
            reason = "the mirror of this machine's apt sources does not answer"
    require("debian-mirror", reason)
    machine.apt_folder.symlink_to("/etc/apt")
    return machine


def test_python_of_debian_is_placed_as_dpkg_unpacks_it(debian: Machine) -> None:
    dpkg = program("dpkg-deb")
    step = apt("bookworm", "python3")
    pins = debian.lock(step)
    assert {"libc6", "dash", "python3.11-minimal", "usr-is-merged"} <= set(names(pins))
    assert "usrmerge" not in names(pins)
    debian.fetch(step, pins)
    tree = debian.place(step, pins)
    compared = 0
    for pin in pins:
        folder = debian.folder / f"unpacked-{pin.name}"
        subprocess.run(
            [str(dpkg), "--extract", str(debian.store.blobs.path(pin.sha256)), str(folder)],
            check=True,
            timeout=120,
        )
        compared += _compare(folder, tree)
    assert compared > 4000
    for path in ("bin/sh", "usr/bin/awk", "etc/passwd", "etc/nsswitch.conf", "usr/bin/python3"):
        assert tree.resolve(path) in tree, path


def test_what_is_placed_runs_in_the_sandbox(debian: Machine) -> None:
    step = apt("bookworm", "python3", "ca-certificates", "gawk")
    pins = debian.lock(step)
    debian.fetch(step, pins)
    tree = debian.place(step, pins)
    engine = SandboxEngine(Path(debian.store.tmp), debian.store.owner)
    isolation = engine.probe()
    require("sandbox", "" if isolation.available else isolation.missing)
    script = (
        "set -e; python3 -c 'import ctypes, json, lzma, sqlite3, ssl; "
        'print(ssl.create_default_context().cert_store_stats()["x509"] > 100)\'; '
        "readlink -f /usr/bin/awk; awk 'BEGIN { print 6 * 7 }'; perl -e 'print \"perl\\n\"'; "
        "update-alternatives --query awk | grep ^Best; ldconfig; openssl version | cut -c1-9"
    )
    lines: list[bytes] = []
    with debian.store.checkouts.lay_out([difference(Tree(), tree)]) as checkout:
        command = Command(("/bin/sh", "-c", script), timeout=120)
        result = engine.run(checkout, command, output=lines.append)
    assert b"".join(lines).decode().split("\n") == [
        "True",
        "/usr/bin/gawk",
        "42",
        "perl",
        "Best: /usr/bin/gawk",
        "OpenSSL 3",
        "",
    ]
    assert result.exit_code == 0


CONFIGURED = """\
from reprobuild import apt, image, recipe, run

@recipe(version="1.0")
def configured():
    return image(
        {first}
        apt("bookworm", "ssl-cert", configure=True),
        run("dpkg-query -W ssl-cert && getent group ssl-cert && test ! -e /.reprobuild-packages"),
        run("test -z $(ls -A /etc/ssl/private) && test $(readlink -e /usr/bin/awk) = /usr/bin/mawk"),
    )
"""


@pytest.mark.parametrize("first", ["", 'apt("bookworm", "openssl"),'], ids=["from-nothing", "after-placing"])
def test_packages_are_configured_by_dpkg(debian: Machine, first: str) -> None:
    require_sandbox(debian.folder / "trial")
    folder = debian.folder / "project"
    recipe = folder / "recipes" / "configured"
    recipe.mkdir(parents=True)
    (folder / "reprobuild.toml").write_text("")
    (recipe / "recipe.py").write_text(CONFIGURED.format(first=first))
    project = Project(folder, folder / "store")
    locked = project.call("lock", "configured")
    assert "Setting up ssl-cert" in locked.err
    assert "files list file" not in locked.err
    elsewhere = Project(folder, debian.folder / "elsewhere", {"TZ": "Asia/Tokyo"})
    assert elsewhere.call("realize", "configured", "--json").json["image_id"] == locked_image(recipe)


def locked_image(recipe: Path) -> str:
    """Give the image ID that a recipe's lock promises."""
    [output] = json.loads((recipe / "recipe.lock").read_text())["outputs"]["linux/amd64"]
    return str(output["image"])


def _compare(folder: Path, tree: Tree) -> int:
    """Compare what dpkg unpacked with a tree, entry by entry; give how many there were."""
    count = 0
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            found = path.lstat()
            relative = str(path.relative_to(folder))
            entry = tree.get(tree.resolve(relative, follow_last=stat.S_ISDIR(found.st_mode)))
            assert entry is not None, relative
            mode = stat.S_IMODE(found.st_mode)
            if os.geteuid() == 0 and found.st_gid:
                mode &= ~0o2000
            if stat.S_ISLNK(found.st_mode):
                assert entry.target == os.readlink(path), relative
            else:
                assert entry.mode == mode or os.geteuid(), relative
            if stat.S_ISREG(found.st_mode):
                assert entry.digest == Digest.of(path.read_bytes()), relative
            count += 1
    return count
