"""Many connections over one: frames, and for each connection a window, so that no memory grows.

The same at both ends of a gateway's link, in a container and in this process (``relay``, ``door``). A frame
is its kind, the number of a connection and the length of what follows, in network order: ``>BLL``. Each end
sends at most ``WINDOW`` bytes of a connection that the other has not passed on yet. What is here runs in a
container too, with nothing but the C parts of Python's library.

Knows nothing of who connects, nor of what carries the link.
"""

from __future__ import annotations

import _socket
import _struct
import errno
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HEADER = _struct.Struct(">BLL")
NUMBER = _struct.Struct(">L")
LONGEST = 1 << 16
"""Bytes that follow a header at most."""
WINDOW = 1 << 19
"""Bytes of a connection, in one direction, that may be on their way."""
CONGESTED = 1 << 18
"""Bytes waiting to be sent from which on no connection is read."""
READ_AT_ONCE = 1 << 18

DATA, END, RESET, CREDIT = 1, 2, 3, 4
"""Bytes of a connection; that no more come; that it is cut off; how many bytes were passed on."""

UNWATCHED = -1
_GONE = select.EPOLLHUP | select.EPOLLERR
_FULL = (errno.EAGAIN, errno.EINTR)
_AT_ONCE = _struct.pack("ii", 1, 0)


class LinkError(Exception):
    """What comes over the link makes no sense."""


class Queue:
    """Bytes that wait to be sent, in order."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes that are waiting."""
        self._parts: list[bytes] = []
        self._head = b""
        self._sent = 0
        """Bytes of the head that are sent."""

    def add(self, data: bytes) -> None:
        """Put bytes at the end."""
        self._parts.append(data)
        self.size += len(data)

    def send(self, send: Callable[[memoryview], int]) -> int:
        """Have some sent; give how many bytes. Raises what ``send`` does."""
        if self._sent == len(self._head):
            self._head, self._sent = b"".join(self._parts), 0
            self._parts.clear()
        count = send(memoryview(self._head)[self._sent :])
        self._sent += count
        self.size -= count
        return count


class Stream:
    """One connection at this end."""

    def __init__(self, number: int, connection: _socket.socket) -> None:
        self.number = number
        self.connection = connection
        self.waiting = Queue()
        """What came over the link and is not passed on yet."""
        self.held = 0
        """Bytes that were taken from the link and not told of as passed on."""
        self.passed = 0
        """Of these, bytes that were passed on meanwhile."""
        self.credit = WINDOW
        """Bytes that may be sent."""
        self.has_ended_here = False
        self.has_ended_there = False
        self.events = UNWATCHED
        """What it is watched for; whether it has gone is told too wherever it is watched at all."""


class Mux:
    """One end of a link; for one thread."""

    def __init__(
        self,
        receive: Callable[[int], bytes],
        send: Callable[[memoryview], int],
        heard: Callable[[int, int, bytes], None],
    ) -> None:
        """``receive`` and ``send`` never wait: BlockingIOError; ``b""``: the link has ended.

        ``heard`` gets frames of other kinds than those of this file.
        """
        self._receive = receive
        self._send = send
        self._heard = heard
        self._in = bytearray()
        self._out = Queue()
        self.streams: dict[int, Stream] = {}
        self.watched = select.epoll()
        """The connections, by their descriptors, and whatever else is watched when there is room."""
        self.is_open = True
        self._by_descriptor: dict[int, Stream] = {}
        self._gone: set[int] = set()
        """Connections that nobody here would hear more of, and that have not ended there."""

    @property
    def has_unsent(self) -> bool:
        """Whether something waits until the link takes it."""
        return self._out.size > 0

    @property
    def is_congested(self) -> bool:
        """Whether so much waits that nothing more is to be read."""
        return self._out.size >= CONGESTED

    def add(self, number: int, connection: _socket.socket) -> None:
        """Take a connection, which is closed here when it has ended."""
        connection.setblocking(False)
        stream = Stream(number, connection)
        self.streams[number] = stream
        self._by_descriptor[connection.fileno()] = stream
        self._watch(stream)

    def say(self, kind: int, number: int, content: bytes = b"") -> None:
        """Put a frame on its way."""
        self._out.add(HEADER.pack(kind, number, len(content)))
        self._out.add(content)

    def flush(self) -> None:
        """Send what the link takes now."""
        try:
            while self._out.size:
                self._out.send(self._send)
        except BlockingIOError:
            return
        except OSError:
            self.is_open = False

    def read_link(self) -> None:
        """Take in what has come over the link. Raises LinkError."""
        try:
            data = self._receive(READ_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.is_open = False
            return
        self._in += data
        self._take_frames()

    def serve(self, descriptor: int, events: int) -> bool:
        """Read from a connection and pass on to it, as ``watched`` told; False: it is none of ours."""
        stream = self._by_descriptor.get(descriptor)
        if stream is None:
            return False
        if stream.waiting.size and events & (select.EPOLLOUT | _GONE):
            self._pass_on(stream)
        elif not stream.has_ended_here:
            self._read(stream, is_hung_up=bool(events & select.EPOLLHUP))
        elif events & _GONE:
            self._forget(stream)
        return True

    def cut(self, number: int) -> None:
        """Cut a connection off at both ends."""
        stream = self.streams.get(number)
        if stream is not None:
            self.say(RESET, number)
            self._drop(stream, is_cut=True)

    def close(self) -> None:
        """Cut off what is still open here; say nothing of it."""
        for stream in list(self.streams.values()):
            self._drop(stream, is_cut=True)
        self.watched.close()

    def _take_frames(self) -> None:
        at, data = 0, self._in
        while len(data) - at >= HEADER.size:
            kind, number, size = HEADER.unpack_from(data, at)
            if size > LONGEST:
                raise LinkError("a frame is longer than any")
            if len(data) - at < HEADER.size + size:
                break
            at += HEADER.size
            content = bytes(memoryview(data)[at : at + size])
            at += size
            self._take(kind, number, content)
        del data[:at]

    def _take(self, kind: int, number: int, content: bytes) -> None:
        if kind > CREDIT:
            self._heard(kind, number, content)
            return
        stream = self.streams.get(number)
        if stream is None:  # it was dropped here while this came
            if number in self._gone:
                self._gone.discard(number)
                if kind == DATA:
                    self.say(RESET, number)
        elif kind == DATA:
            stream.held += len(content)
            if stream.held > WINDOW or stream.has_ended_there:
                raise LinkError("more of a connection comes than was asked for")
            stream.waiting.add(content)
            self._pass_on(stream)
        elif kind == CREDIT:
            if len(content) != NUMBER.size:
                raise LinkError("a number is of another size")
            stream.credit += NUMBER.unpack(content)[0]
            if stream.credit > WINDOW:
                raise LinkError("more of a connection is asked for than was sent")
            self._watch(stream)
        elif kind == END:
            stream.has_ended_there = True
            self._pass_on(stream)
        else:
            self._drop(stream, is_cut=True)

    def _pass_on(self, stream: Stream) -> None:
        try:
            while stream.waiting.size:
                stream.passed += stream.waiting.send(stream.connection.send)
        except OSError as error:
            if error.errno not in _FULL:
                self.cut(stream.number)
                return
        if stream.passed >= WINDOW // 4:
            self.say(CREDIT, stream.number, NUMBER.pack(stream.passed))
            stream.held -= stream.passed
            stream.passed = 0
        if stream.has_ended_there and not stream.waiting.size:
            if stream.has_ended_here:
                self._drop(stream)
                return
            attempt(stream.connection.shutdown, _socket.SHUT_WR)
        self._watch(stream)

    def _read(self, stream: Stream, *, is_hung_up: bool) -> None:
        try:
            data = stream.connection.recv(min(LONGEST, stream.credit))
        except OSError as error:
            if error.errno not in _FULL:
                self.cut(stream.number)
            return
        if data:
            self.say(DATA, stream.number, data)
            stream.credit -= len(data)
        else:
            self.say(END, stream.number)
            stream.has_ended_here = True
            if (stream.has_ended_there and not stream.waiting.size) or is_hung_up:
                self._forget(stream)
                return
        self._watch(stream)

    def _forget(self, stream: Stream) -> None:
        """Close a connection of which all has been said that came from here."""
        self._drop(stream)
        if not stream.has_ended_there:
            self._gone.add(stream.number)

    def _watch(self, stream: Stream) -> None:
        """Watch a connection for what can be done with it."""
        wanted = select.EPOLLOUT if stream.waiting.size else 0
        if not stream.has_ended_here:
            wanted |= select.EPOLLIN if stream.credit else 0
            if not wanted:
                wanted = UNWATCHED  # that it has gone can only be said after what is still to be read
        self._set(stream, wanted)

    def _set(self, stream: Stream, wanted: int) -> None:
        if wanted == stream.events:
            return
        if stream.events == UNWATCHED:
            self.watched.register(stream.connection.fileno(), wanted)
        elif wanted == UNWATCHED:
            self.watched.unregister(stream.connection.fileno())
        else:
            self.watched.modify(stream.connection.fileno(), wanted)
        stream.events = wanted

    def _drop(self, stream: Stream, *, is_cut: bool = False) -> None:
        self._set(stream, UNWATCHED)
        del self.streams[stream.number]
        del self._by_descriptor[stream.connection.fileno()]
        if is_cut:
            cut_off(stream.connection)
        else:
            stream.connection.close()


def cut_off(connection: _socket.socket) -> None:
    """Close a connection so that its other end's next call fails, where it is one of TCP (RST)."""
    attempt(connection.setsockopt, _socket.SOL_SOCKET, _socket.SO_LINGER, _AT_ONCE)
    connection.close()


def attempt(call: Callable[..., object], *arguments: object) -> None:
    """Call what fails where the other end is gone: what is there to be read tells of that."""
    try:
        call(*arguments)
    except OSError:
        return
