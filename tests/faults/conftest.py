"""What tests that end processes share: the sandboxes of the integration tests."""

from __future__ import annotations

from tests.integration.conftest import all_sandboxes, sandboxes

__all__ = ["all_sandboxes", "sandboxes"]
