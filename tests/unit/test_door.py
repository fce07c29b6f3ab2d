"""A door made of sockets: what arrives is handed over, and what waits when it is closed is too."""

from __future__ import annotations

import socket
import ssl
import threading

from reprobuild.engine.door import SocketDoor
from reprobuild.engine.peers import Ends
from reprobuild.engine.protocol import Arrival
from reprobuild.gateway.hello import server_name


def test_what_waits_when_it_is_closed_is_handed_over() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    clients = [socket.create_connection(address) for _ in range(5)]
    wanted = [(Ends(socket.AF_INET, address, one.getsockname())) for one in clients]
    for one in clients:
        one.close()
    taken: list[Arrival] = []
    told: list[Ends] = []

    def program(ends: Ends) -> str:
        told.append(ends)
        return "client"

    door = SocketDoor([listener], program)
    door.open(taken.append, lambda asked: asked)
    door.close()
    assert [(one.address, one.port, one.program()) for one in taken] == [(*address, "client")] * 5
    assert told == wanted
    for arrival in taken:
        arrival.connection.close()


def test_a_greeting_that_comes_in_pieces_is_waited_for() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(incoming, outgoing, server_hostname="files.test")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        greeting = outgoing.read()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(greeting[:100])
        later = threading.Timer(0.2, theirs.sendall, [greeting[100:]])
        later.start()
        assert server_name(ours) == "files.test"
        later.join()
        assert ours.recv(len(greeting)) == greeting
        theirs.sendall(greeting[:100])
        theirs.close()
        assert server_name(ours) == ""
