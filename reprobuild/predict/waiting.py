"""Waiting for another thread so that a signal is heard."""

from __future__ import annotations

import threading


def wait(end: threading.Event) -> None:
    """Wait, looking up now and then: a signal that comes just before a wait does not end it."""
    while not end.wait(0.2):
        pass
