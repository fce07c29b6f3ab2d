"""The gateway against real clients and stand-in upstreams, without a sandbox (``tests/doors.py``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reprobuild import settings
from reprobuild.derivation.pins import Pin
from reprobuild.events import ignore
from reprobuild.gateway.gate import Gate, recording, refusing, replaying
from reprobuild.store.store import Store
from tests.doors import opened
from tests.sites.files import FileSite, Page
from tests.upstreams import Upstreams, upstreams

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


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with upstreams(tmp_path) as net:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(net.authority.path))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("NETRC", raising=False)
        yield Scene(tmp_path, net)


def test_what_was_recorded_is_replayed_without_upstream(scene: Scene) -> None:
    scene.net.add("files.test", FileSite({"/a": Page(BODY), "/old": Page(moved_to="/a")}))
    gate = scene.recording()
    with opened(gate, scene.clients) as entry:
        assert entry.get("-L", "https://files.test/old") == BODY
        assert entry.get("http://files.test/a") == BODY
    names = [pin.name for pin in gate.pins]
    assert names == ["GET http://files.test/a", "GET https://files.test/a", "GET https://files.test/old"]
    scene.net.stop()
    again = replaying(scene.store, gate.pins)
    with opened(again, scene.clients) as entry:
        assert entry.get("-L", "https://files.test/old") == BODY
        refused = entry.get("-w", "%{http_code}", "https://files.test/other")
    assert b"refuses GET https://files.test/other" in refused and refused.endswith(b"403")
    assert [one.url for one in again.refused] == ["https://files.test/other"]
    assert [pin.name for pin in again.unused] == ["GET http://files.test/a"]


def test_a_command_without_a_record_is_refused_by_name(scene: Scene) -> None:
    gate = refusing(scene.store)
    with opened(gate, scene.clients) as entry:
        for _ in range(2):
            said = entry.get("-w", "%{http_code}", "-d", "x" * 100_000, "https://files.test/a?b")
    assert said.endswith(b"403")
    (refused,) = gate.refused
    assert (refused.method, refused.url, refused.count) == ("POST", "https://files.test/a?b", 2)
    assert refused.program == "client of the test"
