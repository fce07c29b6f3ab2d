"""A machine whose stores, settings and apt sources are a test's own, and archives to ask.

Knows nothing of what is resolved or placed.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from reprobuild.build.place import apt as place_apt
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Apt
from reprobuild.events import ignore
from reprobuild.fetch.apt import downloads
from reprobuild.fetch.apt_sources import current_bases, read_apt_sources
from reprobuild.fetch.download import fetch_all
from reprobuild.lock.apt import resolve
from reprobuild.lock.resolver import Context
from reprobuild.settings import Settings, load
from reprobuild.store.store import Store
from reprobuild.tree import Tree, overlay
from tests.debian import Archive, Content, control_text, served
from tests.require import require


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


def names(pins: tuple[Pin, ...]) -> list[str]:
    return [pin.hashed["package"] for pin in pins]
