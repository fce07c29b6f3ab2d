"""The name in a TLS greeting that has not been answered yet: looked at, left for whoever answers.

Knows nothing of certificates. OpenSSL reads the greeting; only how many bytes belong to it is ours
(RFC 8446, 5.1: a type, two bytes of version, two of length).
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from contextlib import suppress

HEADER = 5
LARGEST = 16384
SECONDS = 10.0
PAUSE = 0.01


def server_name(connection: socket.socket) -> str:
    """Give the name that a client asks for (SNI), ``""`` for none. Its greeting stays to be read."""
    header = _peek(connection, HEADER)
    size = min(int.from_bytes(header[3:5]), LARGEST) if len(header) == HEADER else 0
    return _name(_peek(connection, HEADER + size))


def _peek(connection: socket.socket, size: int) -> bytes:
    """Look at the next bytes, when so many are there, or no more come."""
    deadline = time.monotonic() + SECONDS
    poll = select.poll()
    poll.register(connection, select.POLLIN | select.POLLRDHUP)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
    try:
        while True:
            events = poll.poll(max(deadline - time.monotonic(), 0) * 1000)
            found = connection.recv(size, socket.MSG_PEEK)
            is_last = not events or events[0][1] & (select.POLLRDHUP | select.POLLHUP | select.POLLERR)
            if len(found) == size or is_last:
                return found
            time.sleep(PAUSE)  # only sockets of TCP wait for that many
    finally:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def _name(greeting: bytes) -> str:
    found: list[str] = []

    def hear(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> int:
        found.append((name or "").lower().rstrip("."))
        return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = hear
    incoming = ssl.MemoryBIO()
    incoming.write(greeting)
    with suppress(ssl.SSLError):
        context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    return found[0] if found else ""
