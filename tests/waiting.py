"""Waiting for what will come, in a generous time."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 60.0


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for what will come; it fails the test if it does not."""
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
