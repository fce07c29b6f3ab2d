"""Options that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from reprobuild.store.store import Store
from tests import golden
from tests.daemons import _docker_on_both, daemon, docker, docker_over_tcp, docker_over_tls, podman

__all__ = ["_docker_on_both", "daemon", "docker", "docker_over_tcp", "docker_over_tls", "podman"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "store")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="write the golden values that come out now")


def pytest_configure(config: pytest.Config) -> None:
    golden.accept = bool(config.getoption("--accept"))
    # How long an example takes depends on the machine; nothing is written beside the code.
    settings.register_profile("house", deadline=None, database=None)
    settings.load_profile("house")
