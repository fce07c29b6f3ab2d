"""Hosts with git repositories and a store, in which ``git`` steps are resolved and fetched in this process.

Knows nothing of what is in the repositories.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reprobuild import settings
from reprobuild.build.plan import missing_downloads
from reprobuild.build.project import Project
from reprobuild.build.realize import fetch
from reprobuild.derivation.derive import derive_step
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Git
from reprobuild.events import Event, Note
from reprobuild.lock.git import resolve
from reprobuild.lock.resolver import Context
from reprobuild.store.store import Store
from reprobuild.tree import Tree
from tests.require import require
from tests.sites.git import IDENTITY, GitSite
from tests.upstreams import Upstreams, upstreams

FILES = {"README.md": b"# model\n", "src/run.py": b"print(1)\n", "data/big.bin": bytes(range(256)) * 4096}


@dataclass
class Scene:
    """Hosts with repositories, and a store that begins empty."""

    folder: Path
    net: Upstreams
    store: Store
    events: list[Event] = field(default_factory=list)

    def settings(self, **flags: object) -> settings.Settings:
        hosts = tuple(sorted(self.net.sites))
        given = {"connect_to": tuple(self.net.connect_to()), "allow_private": hosts, **flags}
        return settings.load(given, {}, str(self.folder))

    def resolve(self, step: Git) -> Pin:
        context = Context(
            self.store, self.settings(), self.events.append, "linux/amd64", Tree(), self.folder / "recipe"
        )
        (pin,) = resolve(step, context)
        return pin

    def tree(self, pin: Pin) -> dict[str, tuple[str, int, bytes | str]]:
        """Give kind, mode and body or target of every path that a pin lists."""
        found: dict[str, tuple[str, int, bytes | str]] = {}
        for entry in Tree.parse(self.store.blobs.read(pin.sha256)):
            body = self.store.blobs.read(entry.digest) if entry.digest else entry.target
            found[entry.path] = entry.kind, entry.mode, body
        return found

    def bring(self, step: Git, pin: Pin, store: Store, **flags: object) -> int:
        """Fetch what a fresh store lacks of a pinned step; give how many downloads that were."""
        project = Project(self.settings(store=str(store.path), **flags), self.events.append)
        wanted = missing_downloads(project, derive_step(step, [pin]), self.folder / "recipe")
        fetch(project, wanted)
        return len(wanted)

    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]


@contextmanager
def make_scene(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Make one with an empty host, in whose folder repositories are made."""
    require("git")
    (folder / "recipe").mkdir()
    with upstreams(folder) as net:
        net.add("git.test", GitSite(folder / "served"))
        (folder / "served").mkdir()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(net.authority.path))
        monkeypatch.setenv("HOME", str(folder))
        yield Scene(folder, net, Store.open(folder / "store"))


def in_git(at: Path, *arguments: str, input: bytes | None = None) -> str:
    environment = {"PATH": os.environ["PATH"], **IDENTITY, "GIT_ALLOW_PROTOCOL": "file"}
    done = subprocess.run(["git", *arguments], cwd=at, env=environment, input=input, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def made(repository: Path, items: Mapping[str, tuple[str, bytes | str]]) -> str:
    """Commit one flat tree of raw items, name → mode and blob or object name, as no work tree could."""
    if not repository.exists():
        in_git(repository.parent, "init", "--quiet", "--bare", "--initial-branch=main", str(repository))
    lines = b""
    for name, (mode, body) in sorted(items.items()):
        digits = (
            body if isinstance(body, str) else in_git(repository, "hash-object", "-w", "--stdin", input=body)
        )
        lines += f"{mode} {name}".encode(errors="surrogateescape") + b"\0" + bytes.fromhex(digits)
    tree = in_git(repository, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", input=lines)
    commit = in_git(repository, "commit-tree", tree, "-m", "made")
    in_git(repository, "update-ref", "refs/heads/main", commit)
    return commit
