"""Which engine is chosen where the settings leave it open, and what is said about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from reprobuild.build.engines import choose
from reprobuild.engine.protocol import Engine, Isolation
from reprobuild.errors import EngineError
from reprobuild.events import Event, Warned
from reprobuild.store.store import Store


@dataclass
class Probed:
    """An engine that can only say whether it works."""

    name: str
    missing: str = ""
    hint: str = ""
    probes: int = 0

    def probe(self) -> Isolation:
        self.probes += 1
        return Isolation(f"{self.name} 1.0", not self.missing, self.missing, self.hint)


def chosen(store: Store, sandbox: Probed, docker: Probed) -> tuple[str, list[Event]]:
    told: list[Event] = []
    engine: Any = choose(store, cast("Engine", sandbox), lambda: cast("Engine", docker), told.append)
    return engine.name, told


def test_the_sandbox_is_chosen_where_it_works_and_is_tried_out_once(store: Store) -> None:
    sandbox, docker = Probed("sandbox"), Probed("docker")
    assert chosen(store, sandbox, docker) == ("sandbox", [])
    assert chosen(store, sandbox, docker) == ("sandbox", [])
    assert (sandbox.probes, docker.probes) == (1, 0)


def test_a_daemon_is_chosen_where_the_sandbox_does_not_work_and_it_is_said_why(store: Store) -> None:
    sandbox, docker = Probed("sandbox", "user namespaces are off", "turn them on"), Probed("docker")
    for _ in range(2):
        name, told = chosen(store, sandbox, docker)
        assert name == "docker"
        [warned] = told
        assert isinstance(warned, Warned)
        assert warned.text.startswith("commands run in docker 1.0, since the sandbox does not work here")
        assert "user namespaces are off" in warned.text
        assert warned.hint == "turn them on"


def test_without_an_engine_both_reasons_are_told(store: Store) -> None:
    sandbox, docker = (
        Probed("sandbox", "no namespaces", "turn them on"),
        Probed("docker", "no daemon", "start it"),
    )
    with pytest.raises(EngineError) as caught:
        chosen(store, sandbox, docker)
    assert "no namespaces" in caught.value.message
    assert "no daemon" in caught.value.message
    assert caught.value.hint == "turn them on; or: start it"
