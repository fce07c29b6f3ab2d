"""Options that all tests share."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests import golden
from tests.daemons import _docker_on_both, daemon, docker, docker_over_tcp, docker_over_tls, podman

__all__ = ["_docker_on_both", "daemon", "docker", "docker_over_tcp", "docker_over_tls", "podman"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="write the golden values that come out now")


def pytest_configure(config: pytest.Config) -> None:
    golden.accept = bool(config.getoption("--accept"))
    # How long an example takes depends on the machine; nothing is written beside the code.
    settings.register_profile("house", deadline=None, database=None)
    settings.load_profile("house")
