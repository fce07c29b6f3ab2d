"""The link of a door over a container's own streams: frames of the daemon's API, taken apart without waiting.

Knows nothing of what the container says.
"""

from __future__ import annotations

import ssl

from reprobuild.engine.docker.streams import STANDARD_ERROR, Connection, Frames

MOST_SAID = 4096
"""Bytes of its standard error that are kept, the last ones."""


class ContainerLink:
    """What a container's standard input and output carry (``door.Link``)."""

    def __init__(self, connection: Connection) -> None:
        self._socket = connection.socket
        self._socket.setblocking(False)
        self._frames = Frames()
        self.said = b""
        """What came on its standard error last."""

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def has_more(self) -> bool:
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def receive(self, size: int) -> bytes:
        while True:
            try:
                data = self._socket.recv(size)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                raise BlockingIOError from error
            if not data:
                return b""
            pieces = []
            for stream, piece in self._frames.feed(data):
                if stream == STANDARD_ERROR:
                    self.said = (self.said + piece)[-MOST_SAID:]
                else:
                    pieces.append(piece)
            if pieces:
                return b"".join(pieces)

    def send(self, data: memoryview) -> int:
        try:
            return self._socket.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error
