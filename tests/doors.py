"""A gateway without a sandbox: its sockets listen on loopback and say that other addresses were wanted.

``with opened(gate) as entry: entry.curl("https://files.test/a")``. What a sandbox's network namespace does
(every address is local) is done here by telling clients where to connect, and by sockets that name the
address that stands for it. Knows nothing of what the gate answers.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprobuild.engine.door import SocketDoor
from reprobuild.gateway.gate import Gate
from tests.require import program

ELSEWHERE = "203.0.113.7"
"""What clients wanted to connect to, unless they say otherwise."""


class Wanted(socket.socket):
    """An accepted connection that says that another address was wanted."""

    address: tuple[str, int]

    def getsockname(self) -> Any:
        return self.address


class Listener(socket.socket):
    """A listening socket; ``address`` is what its connections say was wanted."""

    address: tuple[str, int]

    def accept(self) -> tuple[socket.socket, Any]:
        connection, peer = super().accept()
        found = Wanted(self.family, self.type, self.proto, fileno=connection.detach())
        found.address = self.address
        return found, peer


def listener(port: int) -> Listener:
    """Listen on loopback for what wants to go to a port."""
    made = Listener(socket.AF_INET, socket.SOCK_STREAM)
    made.bind(("127.0.0.1", 0))
    made.listen(64)
    made.address = (ELSEWHERE, port)
    return made


@dataclass
class Entry:
    """Where clients of an open gateway connect."""

    gate: Gate
    folder: Path
    listeners: dict[int, Listener]
    datagram: socket.socket

    def port(self, wanted: int) -> int:
        """Give the real port that stands for one."""
        found = socket.socket.getsockname(self.listeners[wanted])
        assert isinstance(found[1], int)
        return found[1]

    def connect(self, wanted: int = 80) -> socket.socket:
        """Connect as if to a port."""
        made = socket.create_connection(("127.0.0.1", self.port(wanted)))
        made.settimeout(30)
        return made

    def secure(self, host: str, *, trusts: bool = True, name: bool = True) -> ssl.SSLSocket:
        """Connect by TLS as if to a host."""
        context = ssl.create_default_context()
        if trusts:
            context.load_verify_locations(cadata=self.gate.certificate.decode())
        context.check_hostname = name
        return context.wrap_socket(self.connect(443), server_hostname=host if name else None)

    def say(self, data: bytes, wanted: int = 80) -> bytes:
        """Send bytes to a port and give all that comes back until the other side ends."""
        with self.connect(wanted) as connection:
            with suppress(OSError):  # whoever sends nonsense may be cut off in the middle of it
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            return read_all(connection)

    def curl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run curl, which connects to the gateway wherever it wants to."""
        trusted = self.folder / "trusted.pem"
        trusted.write_bytes(self.gate.certificate)
        command = [str(program("curl")), "-sS", "--cacert", str(trusted), "--noproxy", "*"]
        for wanted in self.listeners:
            command += ["--connect-to", f":{wanted}:127.0.0.1:{self.port(wanted)}"]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder)}
        ended = subprocess.run(
            [*command, *arguments], capture_output=True, timeout=120, env=environment, check=False
        )
        assert not check or ended.returncode == 0, ended.stderr
        return ended

    def get(self, *arguments: str) -> bytes:
        """Give the body that curl gets."""
        return self.curl(*arguments).stdout


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side ends, in whatever way."""
    data = b""
    try:
        while more := connection.recv(65536):
            data += more
    except OSError:
        return data
    return data


@contextmanager
def opened(gate: Gate, folder: Path, *, ports: tuple[int, ...] = (53, 80, 443)) -> Iterator[Entry]:
    """Open a gate's door; close it at the end of the block."""
    listeners = {port: listener(port) for port in ports}
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagram.bind(("127.0.0.1", 0))
    address = datagram.getsockname()
    folder.mkdir(exist_ok=True)
    gate.attend(SocketDoor((*listeners.values(), datagram), lambda _: "client of the test"))
    entry = Entry(gate, folder, listeners, datagram)
    try:
        yield entry
    finally:
        gate.close()
        del address
