"""What goes into a container and comes out of it while it runs: the connections of ``attach``.

Without a terminal both streams come in frames (Docker's API, "Attach to a container", "Stream format"):
which one, three zeros, the length in four bytes, the bytes. Knows nothing of what is said.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

from reprobuild.engine.ready import ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


DETACH = ",".join(["ctrl-@"] * 8)
"""What ends a connection when it is typed: nothing that anybody types, in place of ctrl-p ctrl-q."""

_HEADER = struct.Struct(">BxxxL")
STANDARD_ERROR = 2
_PIECE = 1 << 16


class Connection:
    """A connection to a container's streams; a context manager."""

    def __init__(self, client: Any, container: str, **streams: Any) -> None:
        """``streams``: which, as the API names them (``stdin``, ``stdout``, ``stderr``)."""
        asked = {"stream": 1, **streams}
        self._held: Any = client.attach_socket(container, params=asked)
        # The SDK gives a file-like wrapper around the socket, except with TLS.
        self.socket: socket.socket = getattr(self._held, "_sock", self._held)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it for good, whoever else holds on to it."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        # The SDK's wrapper and its answer share the socket, and neither likes to find it closed.
        held: list[Any] = [getattr(self._held, "_response", None), self._held, self.socket]
        for one in filter(None, held):
            with contextlib.suppress(OSError, ValueError):
                one.close()

    def pieces(self, deadline: float | None = None) -> Iterator[bytes]:
        """Give bytes as they come. Raises TimeoutError after the deadline, a time of ``time.monotonic``."""
        while True:
            if deadline is not None:
                self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self.socket.recv(_PIECE)
            except ConnectionResetError:
                return
            if not data:
                return
            yield data


class Frames:
    """Takes frames apart that come in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""
        self._stream = 0
        self._left = 0
        """Bytes of the frame that has begun, still to come."""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Give what is whole of the streams: the number of each, and its bytes."""
        data = self._rest + data
        position = 0
        while position < len(data):
            if not self._left:
                if len(data) - position < _HEADER.size:
                    break
                self._stream, self._left = _HEADER.unpack_from(data, position)
                position += _HEADER.size
                continue
            piece = data[position : position + self._left]
            position += len(piece)
            self._left -= len(piece)
            yield self._stream, piece
        self._rest = data[position:]


class Feeder:
    """Sends a file to a container's standard input, beside whatever else is done, and closes that."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._thread: threading.Thread | None = None
        self._wake, self._stop = os.pipe()

    def start(self, connection: Connection) -> None:
        """Begin, once the container runs."""
        self._thread = threading.Thread(target=self._feed, args=(connection.socket,), daemon=True)
        self._thread.start()

    def _feed(self, to: socket.socket) -> None:
        # A command that has ended takes no more; the container tells how it ended.
        with contextlib.suppress(OSError, ValueError):
            while data := self._next():
                to.sendall(data)
        with contextlib.suppress(OSError):
            to.shutdown(socket.SHUT_WR)

    def _next(self) -> bytes:
        """Give what comes next; nothing at the end, or when all is over while a person thinks."""
        try:
            descriptor = self._file.fileno()
        except OSError:
            return self._file.read(_PIECE)
        if self._wake in ready(descriptor, self._wake):
            return b""
        return os.read(descriptor, _PIECE)

    def close(self) -> None:
        """Stop: what is not sent yet is not wanted any more. The connection is closed after this."""
        os.close(self._stop)
        if self._thread is not None:
            self._thread.join(timeout=5)
        os.close(self._wake)


class Watcher:
    """Does something once a descriptor can be read; a context manager, after which it does so no more."""

    def __init__(self, descriptor: int, act: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._act = act
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        if self._wake not in ready(self._descriptor, self._wake):
            self._act()

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stop)
        self._thread.join()
        os.close(self._wake)


def is_terminal() -> bool:
    """Tell whether a person is at both ends of our own streams."""
    return os.isatty(0) and os.isatty(1)
