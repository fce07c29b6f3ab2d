"""Waits until descriptors can be read, whatever their numbers (``select`` takes those below 1024 alone)."""

from __future__ import annotations

import select


def ready(*descriptors: int, seconds: float | None = None) -> set[int]:
    """Give those that can be read, or are at their end: at least one, unless the time is up before."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000)}
