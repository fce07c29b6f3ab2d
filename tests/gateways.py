"""A gateway for tests of engines: it answers all that arrives with the address that was wanted.

A stream is read up to its first bytes and answered, as HTTP, with ``gateway ADDRESS PORT``; a datagram is
answered with itself.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reprobuild.engine.protocol import Arrival, Door


@dataclass
class AnsweringGateway:
    """Keeps what arrived: protocol, address, port and program of each."""

    ports: Sequence[int] = ()
    certificate: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    arrived: list[tuple[str, str, int, str]] = field(default_factory=list)
    has_answers: bool = True
    attended: int = 0
    closed: int = 0
    _door: Door | None = None
    _threads: list[threading.Thread] = field(default_factory=list)

    def attend(self, door: Door) -> None:
        self.attended += 1
        self._door = door
        door.open(self._take, self._answer_datagram)

    def close(self) -> None:
        self.closed += 1
        if self._door is not None:
            self._door.close()
        for thread in self._threads:
            thread.join()

    def _take(self, arrival: Arrival) -> None:
        self._threads.append(threading.Thread(target=self._answer_stream, args=(arrival,)))
        self._threads[-1].start()

    def _answer_stream(self, arrival: Arrival) -> None:
        with arrival.connection as stream, contextlib.suppress(OSError):
            stream.settimeout(10)
            self.arrived.append(("tcp", arrival.address, arrival.port, arrival.program()))
            stream.recv(1 << 16)
            text = f"gateway {arrival.address} {arrival.port}\n"
            stream.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())

    def _answer_datagram(self, asked: bytes) -> bytes:
        self.arrived.append(("udp", "", 53, ""))
        return asked
