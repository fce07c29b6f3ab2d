"""Lends the caller's terminal to a command and gets it back as it was.

Knows nothing of sandboxes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def lent_terminal() -> Iterator[None]:
    """Leave interrupts to the command meanwhile; afterwards the terminal is ours again, in its old modes."""
    is_main = threading.current_thread() is threading.main_thread()
    modes = termios.tcgetattr(0) if os.isatty(0) else None
    # A handler, not SIG_IGN: that would be inherited.
    before = signal.signal(signal.SIGINT, lambda *_: None) if is_main else None
    try:
        yield
    finally:
        if modes is not None:
            _take_back(modes)
        if is_main:
            signal.signal(signal.SIGINT, before)


def _take_back(modes: list[object]) -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        with contextlib.suppress(OSError, termios.error):
            os.tcsetpgrp(0, os.getpgrp())
            termios.tcsetattr(0, termios.TCSADRAIN, modes)  # type: ignore[arg-type]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
