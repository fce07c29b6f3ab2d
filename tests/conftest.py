"""Options that all tests share."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from reprobuild.store.store import Store
from tests import golden
from tests.daemons import _docker_on_both, daemon, docker, docker_over_tcp, docker_over_tls, podman
from tests.require import wanted

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let no test be skipped that is run once only, where all are asked for: it would be run nowhere."""
    report = yield
    is_left_to_us = item.get_closest_marker("once") and not item.get_closest_marker("twice")
    if report.skipped and is_left_to_us and "all" in wanted():
        report.outcome = "failed"
        report.longrepr = f"marked `once`, so it is run nowhere if not here: {report.longrepr}"
    return report
