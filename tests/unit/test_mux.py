"""Connections carried over one link arrive whole, in order, and end as they ended at the other side."""

from __future__ import annotations

import random
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from reprobuild.engine.docker.mux import CREDIT, DATA, HEADER, LONGEST, WINDOW, LinkError, Mux


class End:
    """One end of a link, served by a thread of its own."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        link.setblocking(False)
        self.heard: list[tuple[int, int, bytes]] = []
        self.most = 0
        """The most bytes of one connection that were held here."""
        self.mux = Mux(link.recv, link.send, lambda *frame: self.heard.append(frame))
        self.tasks: list[Callable[[], object]] = []
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def do(self, task: Callable[[], object]) -> None:
        """Have something done in the thread."""
        self.tasks.append(task)
        self._wake.send(b"x")

    def add(self, number: int) -> socket.socket:
        """Add a connection; give its other end."""
        ours, theirs = socket.socketpair()
        theirs.settimeout(30)
        self.do(lambda: self.mux.add(number, ours))
        done = threading.Event()
        self.do(done.set)
        assert done.wait(30)
        return theirs

    def close(self) -> None:
        self.do(self.link.close)
        self._thread.join()
        self.link.close()
        self._wake.close()
        self._woken.close()

    def _serve(self) -> None:
        mux, poll = self.mux, select.poll()
        poll.register(self._woken, select.POLLIN)
        while mux.is_open and self.link.fileno() >= 0:
            mux.flush()
            poll.register(self.link, select.POLLIN | (select.POLLOUT if mux.has_unsent else 0))
            poll.register(mux.watched.fileno(), 0 if mux.is_congested else select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self.link.fileno() in ready:
                mux.read_link()
            for descriptor, events in mux.watched.poll(0):
                mux.serve(descriptor, events)
            self.most = max([self.most, *(stream.held for stream in mux.streams.values())])
            if self._woken.fileno() in ready:
                self._woken.recv(100)
                while self.tasks:
                    self.tasks.pop(0)()
        mux.close()


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    with ExitStack() as stack:
        one, other = socket.socketpair()
        yield stack.enter_context(closing(End(one))), stack.enter_context(closing(End(other)))


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def send_all(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def test_much_goes_both_ways_at_once_over_many_connections(ends: tuple[End, End]) -> None:
    one, other = ends
    bodies = [random.Random(number).randbytes(3 * WINDOW + number) for number in range(6)]
    pairs = [(one.add(number), other.add(number)) for number in range(len(bodies))]
    got: dict[tuple[int, int], bytes] = {}

    def talk(number: int, side: int) -> None:
        connection = pairs[number][side]
        sender = threading.Thread(target=send_all, args=(connection, bodies[number - side]))
        sender.start()
        got[number, side] = read_all(connection)
        sender.join()

    threads = [threading.Thread(target=talk, args=(n, side)) for n in range(len(bodies)) for side in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(got[n, 1] == bodies[n] and got[n, 0] == bodies[n - 1] for n in range(len(bodies)))
    assert max(one.most, other.most) <= WINDOW
    for pair in pairs:
        for connection in pair:
            connection.close()


def test_a_reader_that_waits_holds_up_its_own_connection_alone(ends: tuple[End, End]) -> None:
    one, other = ends
    slow, unread = one.add(1), other.add(1)
    slow.settimeout(0.5)
    with pytest.raises(TimeoutError):
        slow.sendall(bytes(8 * WINDOW))
    quick, read = one.add(2), other.add(2)
    quick.sendall(b"still")
    assert read.recv(100) == b"still"
    assert other.most <= WINDOW
    slow.close()
    unread.close()
    quick.close()
    read.close()


def test_an_end_of_one_direction_leaves_the_other(ends: tuple[End, End]) -> None:
    asks, answers = ends[0].add(1), ends[1].add(1)
    with asks, answers:
        asks.sendall(b"question")
        asks.shutdown(socket.SHUT_WR)
        assert read_all(answers) == b"question"
        answers.sendall(b"answer")
        answers.close()
        assert read_all(asks) == b"answer"


def test_what_is_cut_off_is_cut_off_at_both_ends(ends: tuple[End, End]) -> None:
    cut, told = ends[0].add(1), ends[1].add(1)
    with cut, told:
        ends[0].do(lambda: ends[0].mux.cut(1))
        assert cut.recv(10) == b""
        assert told.recv(10) == b""
        with pytest.raises(BrokenPipeError):
            told.sendall(b"x")


def test_who_closes_before_all_is_said_is_told_no_more(ends: tuple[End, End]) -> None:
    """The other end learns of it as a client of TCP does: by what it sends next."""
    closed, goes_on = ends[0].add(1), ends[1].add(1)
    with goes_on:
        closed.close()
        assert goes_on.recv(10) == b""
        with pytest.raises(OSError):
            for _ in range(1000):
                goes_on.sendall(bytes(1000))


@pytest.mark.parametrize(
    "frames",
    [
        HEADER.pack(DATA, 1, LONGEST + 1),
        b"".join(HEADER.pack(DATA, 1, LONGEST) + bytes(LONGEST) for _ in range(2 * WINDOW // LONGEST)),
        HEADER.pack(CREDIT, 1, 4) + struct.pack(">L", 1),
        HEADER.pack(CREDIT, 1, 3) + bytes(3),
    ],
    ids=["longer than any", "more than asked for", "more asked for than sent", "no number"],
)
def test_a_link_that_makes_no_sense_is_an_error(frames: bytes) -> None:
    ours, theirs = socket.socketpair()
    pieces = [frames[at : at + 100_000] for at in range(0, len(frames), 100_000)]
    mux = Mux(lambda _: pieces.pop(0), lambda data: len(data), lambda *_: None)
    mux.add(1, ours)
    # Nobody reads, and the system takes only so much.
    with theirs, pytest.raises(LinkError):
        while pieces:
            mux.read_link()
    mux.close()
