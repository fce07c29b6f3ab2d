"""Keeps forks of this process, by whoever uses it as a library, out of the moments when a command is started.

Then pipes are open here whose other ends tell when the command has ended: a process that was forked off would
hold them open for as long as it lives. Starting programs (``subprocess``) is no such fork.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

_changed = threading.Condition()
_count = 0
"""How many commands are being started."""


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Let forks wait for the end of a ``with`` block; several threads may be in one at once."""
    global _count
    with _changed:
        _count += 1
    try:
        yield
    finally:
        with _changed:
            _count -= 1
            _changed.notify_all()


def _before() -> None:
    _changed.acquire()
    while _count:
        _changed.wait()


os.register_at_fork(before=_before, after_in_parent=_changed.release, after_in_child=_changed.release)
