"""A door whose sockets are in a container: what arrives there comes over one link, and is handed over here.

Each connection is a pair of sockets on this side, one end for whoever answers, the other served by one
thread together with the link (``relay`` is the other end of it). Knows nothing of containers.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from reprobuild.engine.docker.mux import NUMBER, RESET, LinkError, Mux
from reprobuild.engine.docker.relay import ANSWERED, ASKED, FAILED, OPENED, READY, SYNC
from reprobuild.engine.protocol import Arrival, Door
from reprobuild.errors import EngineError

PATIENCE = 60.0
"""Seconds until what is at the other end must listen."""
LAST_SECONDS = 2.0
"""How long what arrived last may take to get here."""


class Link(Protocol):
    """What carries a door's frames, without ever waiting."""

    def fileno(self) -> int:
        """Give the descriptor to watch."""

    def receive(self, size: int) -> bytes:
        """Give what has come, ``b""`` at the end. Raises BlockingIOError where nothing has, and OSError."""

    def send(self, data: memoryview) -> int:
        """Send some of it; give how much. Raises BlockingIOError and OSError."""

    @property
    def has_more(self) -> bool:
        """Whether something has come that the descriptor does not tell of."""


class RelayDoor:
    """Hands over what comes over a link (``protocol.Door``), once it has begun."""

    def __init__(self, link: Link, attend: Callable[[Door], None]) -> None:
        """``attend`` is called when something arrives for the first time, and has the door opened."""
        self._link = link
        self._attend = attend
        self._take: Callable[[Arrival], None] | None = None
        self._answer: Callable[[bytes], bytes | None] | None = None
        self._mux = Mux(link.receive, link.send, self._hear)
        self._wake, self._woken = socket.socketpair()
        self._lock = threading.Lock()
        self._cut: list[int] = []
        self._wants_sync = False
        self._is_closed = False
        self._is_stopped = False
        self._changed = threading.Condition()
        self._is_ready = False
        self._is_synced = False
        self._is_over = False
        self.failure: BaseException | None = None
        """Why nothing comes over the link any more."""
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)

    def begin(self) -> None:
        """Begin to read the link."""
        self._thread.start()

    def wait(self) -> None:
        """Wait until what is at the other end listens. Raises EngineError where it does not."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_ready or self._is_over, PATIENCE):
                raise EngineError("the gateway's container does not begin to listen")
        self.check()

    def check(self) -> None:
        """Raise what has gone wrong."""
        if self.failure is not None:
            raise self.failure

    def settle(self) -> None:
        """Have all handed over that had arrived by now; nothing that comes later is.

        Raises EngineError where the link has ended before.
        """
        with self._changed:
            self._wants_sync = True
            self._poke()
            self._changed.wait_for(lambda: self._is_synced or self._is_over, LAST_SECONDS)
        self._is_closed = True
        self.check()

    def stop(self) -> None:
        """Cut everything off, and end."""
        self._is_stopped = self._is_closed = True
        self._poke()
        if self._thread.ident is not None:
            self._thread.join()
        self._wake.close()
        self._woken.close()

    def open(self, take: Callable[[Arrival], None], answer: Callable[[bytes], bytes | None]) -> None:
        self._take, self._answer = take, answer

    def close(self) -> None:
        self._is_closed = True

    # In the thread.

    def _run(self) -> None:
        try:
            self._serve()
            if not self._is_stopped:
                raise EngineError("the gateway's container has ended before the command")
        except LinkError as error:
            self.failure = EngineError(f"the gateway's container makes no sense: {error}")
        except BaseException as error:  # noqa: BLE001  (raised by who waits for it)
            self.failure = error
        self._mux.close()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _serve(self) -> None:
        mux, watched = self._mux, self._mux.watched.fileno()
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        while mux.is_open and not self._is_stopped:
            mux.flush()
            poll.register(self._link, select.POLLIN | (select.POLLOUT if mux.has_unsent else 0))
            poll.register(watched, 0 if mux.is_congested else select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(0 if self._link.has_more else None)}
            if self._woken.fileno() in ready:
                self._obey()
            if self._link.fileno() in ready or self._link.has_more:
                mux.read_link()
            if watched in ready:
                for descriptor, events in mux.watched.poll(0):
                    mux.serve(descriptor, events)

    def _obey(self) -> None:
        """Do what other threads have asked for."""
        self._woken.recv(1 << 12)
        with self._lock:
            cut, self._cut = self._cut, []
        for number in cut:
            self._mux.cut(number)
        if self._wants_sync:
            self._wants_sync = False
            self._mux.say(SYNC, 0)

    def _hear(self, kind: int, number: int, content: bytes) -> None:
        if kind == OPENED:
            self._hand_over(number, content)
        elif kind == ASKED:
            answer = self._answer_of(content)
            if answer is not None:
                self._mux.say(ANSWERED, number, answer)
        elif kind in (READY, SYNC):
            with self._changed:
                self._is_ready = True
                self._is_synced = self._is_synced or kind == SYNC
                self._changed.notify_all()
        elif kind == FAILED:
            why = content.decode("utf-8", "replace")
            raise EngineError(f"the gateway's container can't listen: {why}")
        else:
            raise LinkError(f"a frame of kind {kind}")

    def _is_attended(self) -> bool:
        """Have the door opened if it is not, and may be."""
        if self._take is None and not self._is_closed:
            self._attend(self)
        return self._take is not None and not self._is_closed

    def _answer_of(self, asked: bytes) -> bytes | None:
        if not self._is_attended():
            return None
        assert self._answer is not None
        return self._answer(asked)

    def _hand_over(self, number: int, content: bytes) -> None:
        if len(content) <= NUMBER.size or number in self._mux.streams:
            raise LinkError("a connection without an address, or one that is there")
        if not self._is_attended():
            self._mux.say(RESET, number)
            return
        assert self._take is not None
        try:
            ours, theirs = socket.socketpair()
        except OSError:  # there are too many
            self._mux.say(RESET, number)
            return
        self._mux.add(number, ours)
        (port,) = NUMBER.unpack(content[: NUMBER.size])
        address = content[NUMBER.size :].decode("ascii", "replace")

        def reset(connection: socket.socket) -> None:
            with self._lock:
                self._cut.append(number)
            self._poke()
            with suppress(OSError):
                connection.close()

        self._take(Arrival(theirs, address, port, lambda: "", reset))

    def _poke(self) -> None:
        with suppress(OSError):
            self._wake.send(b"x")
