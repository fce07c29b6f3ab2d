"""Gates without a sandbox (``tests/doors.py``), between real clients and stand-in upstreams.

Knows nothing of what is asked and answered.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reprobuild import settings
from reprobuild.derivation.pins import Pin
from reprobuild.events import ignore
from reprobuild.gateway.gate import Gate, recording, replaying
from reprobuild.store.store import Store
from tests.doors import opened
from tests.upstreams import Upstreams, upstreams

U = "https://files.test"
BODY = os.urandom(1_500_000)


@dataclass
class Scene:
    """A store, stand-in upstreams, and gates."""

    folder: Path
    net: Upstreams
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store.open(self.folder / "store")

    def recording(self, *, answers: tuple[Pin, ...] = (), reset: bool = False) -> Gate:
        chosen = settings.load({}, self.net.environment(), str(self.folder))
        return recording(self.store, chosen, tell=ignore, answers=answers, reset=reset)

    @property
    def clients(self) -> Path:
        return self.folder / "clients"


@contextmanager
def make_scene(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Make one with an empty store and no upstream."""
    with upstreams(folder) as net:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(net.authority.path))
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.delenv("NETRC", raising=False)
        yield Scene(folder, net)


def recorded(scene: Scene, *clients: Sequence[str]) -> tuple[Gate, list[bytes]]:
    """Record what curl does when called with some arguments each; give what it printed."""
    gate = scene.recording()
    with opened(gate, scene.clients) as entry:
        said = [entry.get(*arguments) for arguments in clients]
    return gate, said


def replayed(scene: Scene, pins: Sequence[Pin], *clients: Sequence[str]) -> tuple[Gate, list[bytes]]:
    """The same from the record, upstream being gone."""
    scene.net.stop()
    gate = replaying(scene.store, pins)
    with opened(gate, scene.clients) as entry:
        said = [entry.get(*arguments) for arguments in clients]
    return gate, said
