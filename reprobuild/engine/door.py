"""A door made of sockets that listen in a sandbox's network namespace: what comes in is handed over.

Knows nothing of how they got there, nor of what is answered.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from reprobuild.engine.listening import ANCILLARY, LONGEST_DATAGRAM, return_address
from reprobuild.engine.peers import Ends
from reprobuild.engine.protocol import Arrival

LAST_SECONDS = 0.25
"""How long what waits may take to be handed over when the door is closed."""


class SocketDoor:
    """Hands over what arrives at sockets (``protocol.Door``)."""

    def __init__(self, sockets: Sequence[socket.socket], program: Callable[[Ends], str]) -> None:
        """``sockets``: listening streams, and datagrams. ``program`` tells who holds the other end."""
        self._sockets = sockets
        self._program = program
        self._thread: threading.Thread | None = None
        self._wake, self._woken = socket.socketpair()

    def open(self, take: Callable[[Arrival], None], answer: Callable[[bytes], bytes | None]) -> None:
        self._thread = threading.Thread(target=self._hand_over, args=(take, answer), name="door", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._wake.send(b"x")
        if self._thread is not None:
            self._thread.join()
        for one in (self._wake, self._woken, *self._sockets):
            one.close()

    def _hand_over(self, take: Callable[[Arrival], None], answer: Callable[[bytes], bytes | None]) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for one in self._sockets:
                one.setblocking(False)
                is_stream = one.type == socket.SOCK_STREAM
                work = partial(self._accept, take) if is_stream else partial(_answer_datagram, answer)
                selector.register(one, selectors.EVENT_READ, work)
            deadline: float | None = None
            while ready := selector.select(None if deadline is None else 0):
                if deadline is not None and time.monotonic() > deadline:
                    break
                for key, _ in ready:
                    if key.data is None:  # it is closed: what waits already is all that still comes
                        selector.unregister(self._woken)
                        deadline = time.monotonic() + LAST_SECONDS
                        continue
                    assert isinstance(key.fileobj, socket.socket)
                    with suppress(OSError):
                        key.data(key.fileobj)

    def _accept(self, take: Callable[[Arrival], None], listener: socket.socket) -> None:
        connection, peer = listener.accept()
        here = connection.getsockname()
        ends = Ends(connection.family, here[:2], peer[:2])
        take(Arrival(connection, here[0], here[1], lambda: self._program(ends), reset))


def reset(connection: socket.socket) -> None:
    """Cut a TCP connection off."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with suppress(OSError):
        connection.close()


def _answer_datagram(answer: Callable[[bytes], bytes | None], datagram: socket.socket) -> None:
    data, ancillary, _, sender = datagram.recvmsg(LONGEST_DATAGRAM, ANCILLARY)
    reply = answer(data)
    if reply is not None:
        datagram.sendmsg([reply], return_address(ancillary), 0, sender)
