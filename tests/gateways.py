"""A gateway for tests of engines: it answers all that arrives with the address that was wanted.

A stream is read up to its first bytes and answered, as HTTP, with ``gateway ADDRESS PORT``; a datagram is
answered with itself from the address that it was sent to.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reprobuild.engine.protocol import Door


@dataclass
class AnsweringGateway:
    """Keeps what arrived: protocol, address, port and program of each."""

    ports: Sequence[int] = ()
    certificate: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    arrived: list[tuple[str, str, int, str]] = field(default_factory=list)
    attended: int = 0
    closed: int = 0
    door: Door | None = None
    _server: threading.Thread | None = None

    def attend(self, door: Door) -> None:
        self.attended += 1
        self.door = door
        self._wake, self._stop = socket.socketpair()
        self._server = threading.Thread(target=self._serve, args=(door,))
        self._server.start()

    def close(self) -> None:
        self.closed += 1
        if self._server is not None:
            self._stop.send(b"x")
            self._server.join()
            self._wake.close()
            self._stop.close()
        for one in (*self.door.listeners, *self.door.datagrams) if self.door else ():
            one.close()

    def _serve(self, door: Door) -> None:
        with selectors.DefaultSelector() as selector:
            sockets = {one.fileno(): one for one in (self._wake, *door.listeners, *door.datagrams)}
            for descriptor in sockets:
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    one = sockets[key.fd]
                    if one is self._wake:
                        return
                    with contextlib.suppress(OSError):
                        if one in door.datagrams:
                            self._answer_datagram(one)
                        else:
                            self._answer_stream(door, one)

    def _answer_stream(self, door: Door, listener: socket.socket) -> None:
        with listener.accept()[0] as stream:
            stream.settimeout(10)
            address, port = stream.getsockname()[:2]
            self.arrived.append(("tcp", address, port, door.program(stream)))
            stream.recv(1 << 16)
            text = f"gateway {address} {port}\n"
            stream.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())

    def _answer_datagram(self, one: socket.socket) -> None:
        data, passed, _, client = one.recvmsg(1 << 16, 256)
        ((_, _, content),) = passed
        address = content[8:12] if one.family == socket.AF_INET else content[:16]
        self.arrived.append(("udp", socket.inet_ntop(one.family, address), 53, ""))
        one.sendmsg([data], passed, 0, client)
