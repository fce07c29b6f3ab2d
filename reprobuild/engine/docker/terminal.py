"""The caller's terminal, or what else the standard streams are, for a command in a container.

Knows nothing of how the container came to be.
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
import threading
import tty
from collections.abc import Callable, Iterator

from reprobuild.engine.docker.streams import STANDARD_ERROR
from reprobuild.engine.terminal import lent_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@contextlib.contextmanager
def lent(client: Any, container: str, *, is_tty: bool) -> Iterator[Callable[[], None]]:
    """Pass keys, interrupts and sizes on to a container meanwhile; gives what to call once it has begun."""
    is_main = threading.current_thread() is threading.main_thread()
    from docker.errors import APIError

    def resize(*_: object) -> None:
        with contextlib.suppress(APIError, OSError):
            size = os.get_terminal_size(1)
            client.resize(container, size.lines, size.columns)

    def interrupt(*_: object) -> None:
        with contextlib.suppress(APIError):
            client.kill(container, signal.SIGINT)

    with lent_terminal():
        before = None
        if is_main:
            if is_tty:
                before = signal.signal(signal.SIGWINCH, resize)
            else:
                signal.signal(signal.SIGINT, interrupt)  # lent_terminal puts back what was there
        try:
            if is_tty:
                tty.setraw(0, termios.TCSADRAIN)
            yield resize if is_tty else lambda: None
        finally:
            if is_main and is_tty:
                signal.signal(signal.SIGWINCH, before)


def show(stream: int, data: bytes) -> None:
    """Write what came from a container to where it belongs."""
    descriptor = 2 if stream == STANDARD_ERROR else 1
    while data:
        data = data[os.write(descriptor, data) :]
