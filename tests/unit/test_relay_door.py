"""A door whose sockets are elsewhere: what comes over its link is handed over, and what is wrong is told."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from reprobuild.engine.docker.door import RelayDoor
from reprobuild.engine.docker.mux import DATA, END, HEADER, LONGEST, RESET
from reprobuild.engine.docker.relay import ANSWERED, ASKED, FAILED, OPENED, READY, SYNC
from reprobuild.engine.protocol import Arrival, Door
from reprobuild.errors import EngineError, OutsideError

WAIT = 30


class SocketLink:
    """A link that is a socket."""

    has_more = False

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.setblocking(False)

    def fileno(self) -> int:
        return self._connection.fileno()

    def receive(self, size: int) -> bytes:
        return self._connection.recv(size)

    def send(self, data: memoryview) -> int:
        return self._connection.send(data)


@dataclass
class Scene:
    """A door, and the other end of its link in the hands of the test."""

    far: socket.socket
    link: SocketLink
    taken: list[Arrival] = field(default_factory=list)
    attended: int = 0
    trouble: Exception | None = None
    came: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.door = RelayDoor(self.link, self.attend)
        self.door.begin()

    def attend(self, door: Door) -> None:
        self.attended += 1
        if self.trouble is not None:
            raise self.trouble
        door.open(self.take, lambda asked: asked[::-1] if asked != b"nothing" else None)

    def take(self, arrival: Arrival) -> None:
        self.taken.append(arrival)
        self.came.release()

    def say(self, kind: int, number: int = 0, content: bytes = b"") -> None:
        self.far.sendall(HEADER.pack(kind, number, len(content)) + content)

    def opened(self, number: int, address: str = "1.2.3.4", port: int = 80) -> Arrival:
        self.say(OPENED, number, struct.pack(">L", port) + address.encode())
        assert self.came.acquire(timeout=WAIT)
        return self.taken[-1]

    def hear(self) -> tuple[int, int, bytes]:
        kind, number, size = HEADER.unpack(self._exactly(HEADER.size))
        return kind, number, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.far.recv(size - len(data))
            assert more, "the link has ended"
            data += more
        return data


@pytest.fixture
def scene() -> Iterator[Scene]:
    far, near = socket.socketpair()
    far.settimeout(WAIT)
    with far, near:
        made = Scene(far, SocketLink(near))
        yield made
        made.door.stop()
        for arrival in made.taken:
            arrival.connection.close()


def test_it_is_attended_when_something_arrives_and_not_before(scene: Scene) -> None:
    scene.say(READY)
    scene.door.wait()
    assert scene.attended == 0
    arrival = scene.opened(1, "2001:db8::7", 443)
    assert (arrival.address, arrival.port, arrival.program()) == ("2001:db8::7", 443, "")
    scene.say(DATA, 1, b"question")
    assert arrival.connection.recv(100) == b"question"
    arrival.connection.sendall(b"answer")
    assert scene.hear() == (DATA, 1, b"answer")
    arrival.connection.close()
    assert scene.hear() == (END, 1, b"")
    scene.opened(2)
    assert scene.attended == 1


def test_datagrams_are_answered_or_not(scene: Scene) -> None:
    scene.say(ASKED, 7, b"nothing")
    scene.say(ASKED, 8, b"abc")
    assert scene.hear() == (ANSWERED, 8, b"cba")


def test_a_connection_is_cut_off_in_whatever_form_it_is(scene: Scene) -> None:
    arrival = scene.opened(1)
    with socket.socket(fileno=arrival.connection.detach()) as changed:
        arrival.reset(changed)
        assert scene.hear() == (RESET, 1, b"")
        assert changed.fileno() == -1


def test_what_arrived_before_the_end_is_handed_over_and_nothing_after(scene: Scene) -> None:
    scene.say(READY)
    scene.door.wait()
    settled = threading.Thread(target=scene.door.settle)
    settled.start()
    assert scene.hear() == (SYNC, 0, b"")
    late = scene.opened(1)
    scene.say(SYNC)
    settled.join()
    scene.say(OPENED, 2, struct.pack(">L", 80) + b"1.2.3.4")
    assert scene.hear() == (RESET, 2, b"")
    assert scene.taken == [late]


def test_nobody_is_attended_after_the_end(scene: Scene) -> None:
    scene.door.close()
    scene.say(OPENED, 1, struct.pack(">L", 80) + b"1.2.3.4")
    scene.say(ASKED, 2, b"abc")
    assert scene.hear() == (RESET, 1, b"")
    assert scene.attended == 0


def test_it_is_told_why_the_other_end_does_not_listen(scene: Scene) -> None:
    scene.say(FAILED, 1, b"a route to every address: Operation not permitted")
    with pytest.raises(EngineError, match="a route to every address: Operation not permitted"):
        scene.door.wait()


def test_a_link_that_ends_early_is_an_error_and_cuts_off_what_was_open(scene: Scene) -> None:
    scene.say(READY)
    scene.door.wait()
    arrival = scene.opened(1)
    scene.far.shutdown(socket.SHUT_WR)
    assert arrival.connection.recv(10) == b""
    with pytest.raises(EngineError, match="has ended before the command"):
        scene.door.settle()


def test_what_serving_raises_is_raised_when_the_command_has_ended(scene: Scene) -> None:
    scene.trouble = OutsideError("the disk is full")
    scene.say(OPENED, 1, struct.pack(">L", 80) + b"1.2.3.4")
    with pytest.raises(OutsideError, match="the disk is full"):
        scene.door.settle()


NONSENSE = {
    "a kind that there is not": HEADER.pack(99, 0, 0),
    "longer than any": HEADER.pack(ASKED, 0, LONGEST + 1),
    "no address": HEADER.pack(OPENED, 1, 4) + bytes(4),
    "open already": 2 * (HEADER.pack(OPENED, 1, 11) + struct.pack(">L", 80) + b"1.2.3.4"),
    "no frame at all": b"HTTP/1.1 101 UPGRADED\r\n",
}


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_an_error(scene: Scene, said: bytes) -> None:
    scene.far.sendall(said)
    with pytest.raises(EngineError, match="makes no sense"):
        scene.door.settle()


def test_where_no_more_sockets_can_be_had_a_connection_is_cut_off(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.opened(1)

    def none(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", none)
    scene.say(OPENED, 2, struct.pack(">L", 80) + b"1.2.3.4")
    assert scene.hear() == (RESET, 2, b"")


def test_stopping_twice_or_before_it_has_begun_is_harmless() -> None:
    one, other = socket.socketpair()
    with one, other, closing(other):
        door = RelayDoor(SocketLink(one), lambda _: None)
        door.stop()
        door.stop()
