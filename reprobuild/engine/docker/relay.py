"""The program of a gateway's container: it listens on a command's network, and carries all over its streams.

It shares a network namespace with the command's container and nothing else. What arrives there goes out on
standard output, and what is answered comes in on standard input (``mux``; ``door`` is the other end). It ends
with its standard input. Runs there by its text, with nothing but the C parts of Python's library.

Knows nothing of what is answered.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import select
import sys

from reprobuild.engine.docker.mux import NUMBER, Mux, attempt, cut_off
from reprobuild.engine.listening import ANCILLARY, LONGEST_DATAGRAM, listen_everywhere, return_address

READY, FAILED, OPENED, ASKED, ANSWERED, SYNC = 16, 17, 18, 19, 20, 21
"""That it listens; why it can't; that a connection was opened, and to which port and address; a datagram, and
what is answered to it, both by a number; a question whether all that had arrived is told, and its answer."""

MOST_CONNECTIONS = 900
"""At a time; who comes then is cut off. The system allows for 1024 descriptors."""
MOST_QUESTIONS = 512
"""Datagrams that wait for an answer; the oldest are given up first."""
PIPE_SIZE = 1 << 20

_F_SETPIPE_SZ = 1031  # linux/fcntl.h


def main() -> None:
    """Listen at the ports that the words of the command line name, until standard input ends."""
    relay = _Relay()
    try:
        sockets = listen_everywhere([int(word) for word in sys.argv[1:]])
    except OSError as error:
        relay.mux.say(FAILED, error.errno or 0, f"{error.strerror or error}".encode())
        os.set_blocking(1, True)
        relay.mux.flush()
        os._exit(1)
    relay.serve(sockets)
    os._exit(0)  # nothing is to be put in order


class _Relay:
    """What listens, and the link."""

    def __init__(self) -> None:
        for descriptor in (0, 1):
            os.set_blocking(descriptor, False)
            _widen(descriptor)
        self.mux = Mux(lambda size: os.read(0, size), lambda data: os.write(1, data), self._hear)
        self._sockets: dict[int, _socket.socket] = {}
        self._number = 0
        self._questions: dict[int, tuple[_socket.socket, list[tuple[int, int, bytes]], object]] = {}
        self._is_asked = False

    def serve(self, sockets: list[_socket.socket]) -> None:
        for one in sockets:
            one.setblocking(False)
            self._sockets[one.fileno()] = one
            self.mux.watched.register(one.fileno(), select.EPOLLIN)
        self.mux.say(READY, 0)
        watched = self.mux.watched.fileno()
        poll = select.poll()
        poll.register(0, select.POLLIN)
        while self.mux.is_open:
            self.mux.flush()
            poll.register(1, select.POLLOUT if self.mux.has_unsent else 0)
            poll.register(watched, 0 if self.mux.is_congested else select.POLLIN)
            may_be_done = self._is_asked and not self.mux.is_congested
            for descriptor, events in poll.poll(0 if may_be_done else None):
                if descriptor == 0:
                    self.mux.read_link()
                elif descriptor == watched:
                    may_be_done = self._serve_watched() == 0 and may_be_done
                elif events & (select.POLLHUP | select.POLLERR):
                    return
            if may_be_done:
                self._is_asked = False
                self.mux.say(SYNC, 0)

    def _serve_watched(self) -> int:
        """Take in what has arrived; give at how many places something had."""
        happened = self.mux.watched.poll(0)
        for descriptor, events in happened:
            if self.mux.serve(descriptor, events):
                continue
            one = self._sockets.get(descriptor)
            if one is None:  # a connection that was dropped a moment ago
                continue
            attempt(self._take_datagram if one.type == _socket.SOCK_DGRAM else self._accept, one)
        return len(happened)

    def _accept(self, listener: _socket.socket) -> None:
        descriptor, _ = listener._accept()  # type: ignore[attr-defined]  # what ``socket`` accepts by
        connection = _socket.socket(fileno=descriptor)
        if len(self.mux.streams) >= MOST_CONNECTIONS:
            cut_off(connection)
            return
        connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        address, port = connection.getsockname()[:2]
        self._number += 1
        self.mux.say(OPENED, self._number, NUMBER.pack(port) + address.encode())
        self.mux.add(self._number, connection)

    def _take_datagram(self, one: _socket.socket) -> None:
        data, ancillary, _, sender = one.recvmsg(LONGEST_DATAGRAM, ANCILLARY)
        if len(self._questions) >= MOST_QUESTIONS:
            del self._questions[next(iter(self._questions))]
        self._number += 1
        self._questions[self._number] = one, return_address(ancillary), sender
        self.mux.say(ASKED, self._number, data)

    def _hear(self, kind: int, number: int, content: bytes) -> None:
        if kind == SYNC:
            self._is_asked = True
        elif kind == ANSWERED and number in self._questions:
            one, ancillary, sender = self._questions.pop(number)
            attempt(one.sendmsg, [content], ancillary, 0, sender)


def _widen(descriptor: int) -> None:
    """Let a pipe hold more, where that is allowed: it saves changes from one process to another."""
    attempt(fcntl.fcntl, descriptor, _F_SETPIPE_SZ, PIPE_SIZE)
