"""One run of a command that is spoken with: bytes to it, what it says, and its end, each as it comes.

The command runs in a thread of its own, and is ended from any: by ``close``, when nobody holds the
conversation any more, and when the interpreter exits. A process that was forked off has no part in it.
Knows nothing of records, nor of what is said.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from typing import BinaryIO, cast

from reprobuild.predict.waiting import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.engine.protocol import Dialogue, Result

    Run = Callable[[Dialogue, Callable[[bytes], None], int], Result]

MOST_WAITING = 16 << 20
"""Bytes that wait here to be taken; a command that says more is made to wait."""
_AT_ONCE = 1 << 18
"""Bytes that are written at once, at most."""


class Said:
    """What a command said since it was asked last."""

    __slots__ = ("is_last", "output", "printed")

    def __init__(self, output: bytes, printed: list[bytes], *, is_last: bool) -> None:
        self.output = output
        """Bytes of its standard output."""
        self.printed = printed
        """Lines of its standard error."""
        self.is_last = is_last
        """Whether it has ended, and says no more."""


class Conversation:
    """A command from its start to its end; one thread at a time speaks with it."""

    def __init__(self, run: Run) -> None:
        """Start it, in another thread.

        ``run`` runs the command with a dialogue, with what takes the lines of its standard error, and
        with the descriptor that ends it; it gives how that went, or raises.
        """
        self._line = _Line()
        self._thread = threading.Thread(
            target=_hold, args=(self._line, run), name="reprobuild-predictor", daemon=True
        )
        self._finalizer = weakref.finalize(self, _Line.hang_up, self._line)
        self._finalizer.atexit = False  # ``_end_all`` is called then, and waits
        _lines.add(self._line)
        _running.add(self._line)
        try:
            self._thread.start()
        except BaseException as error:
            if self._thread.ident is None:  # it never will
                _over(self._line, None, error)
            raise

    @property
    def is_mine(self) -> bool:
        """Whether this process began it: one that was forked off has no part in it."""
        return self._line.process == os.getpid()

    @property
    def is_hung_up(self) -> bool:
        """Whether it was ended from here."""
        return self._line.is_hung_up

    @property
    def has_ended(self) -> bool:
        """Whether the command has ended, or is being ended."""
        return self._line.has_ended or self._line.is_hung_up

    def exchange(self, data: memoryview, deadline: float | None) -> tuple[int, Said]:
        """Send as much as can be sent, and take what is said; wait until one of both can be done.

        Gives the number of bytes that were sent. Raises TimeoutError after the deadline, a time of
        ``time.monotonic``.
        """
        line = self._line
        with line.used():
            said = line.take()
            if said.output or said.printed or said.is_last:
                return 0, said
            poll = select.poll()
            poll.register(line.wake, select.POLLIN)
            if data:
                poll.register(line.writer.fileno(), select.POLLOUT)
            wait = None if deadline is None else max(deadline - time.monotonic(), 0) * 1000
            ready = poll.poll(wait)
            if not ready:
                raise TimeoutError
            sent = 0
            if any(descriptor != line.wake for descriptor, _ in ready):
                sent = line.write(data[:_AT_ONCE])
            return sent, line.take()

    def wait_until_begun(self) -> None:
        """Wait until the command begins, or has ended."""
        self._line.begun.wait()

    def show(self, paths: Sequence[str]) -> None:
        """Have files be seen inside that were added below its inputs; nothing where it has ended."""
        show = self._line.show
        if show is not None:
            show(paths)

    def result(self) -> Result:
        """Give how it ended, once it has. Raises what ``run`` raised."""
        wait(self._line.over)
        if self._line.failure is not None:
            raise self._line.failure
        assert self._line.result is not None
        return self._line.result

    def close(self) -> None:
        """End it, and wait until it has ended; safe to call twice, and from any thread."""
        self._finalizer()
        if self.is_mine and threading.current_thread() is not self._thread:
            wait(self._line.over)


class _Line:
    """What is between the two threads (``engine.protocol.Dialogue``); a conversation that nobody holds
    is not held by it either."""

    def __init__(self) -> None:
        self.process = os.getpid()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self.stdin = cast("BinaryIO", FileIO(reader, "rb"))
        self.writer = FileIO(writer, "wb")
        os.set_blocking(writer, False)
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.ending = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.begun = threading.Event()
        self.has_ended = False
        self.over = threading.Event()
        """Set last of all: a ``Thread.join`` that was interrupted takes the thread for ended from then on."""
        self.result: Result | None = None
        self.failure: BaseException | None = None
        self.show: Callable[[Sequence[str]], None] | None = None
        self._lock = threading.Condition()
        self._users = 2
        """Who needs the descriptors: at first the command's thread, and the conversation."""
        self._output: list[bytes] = []
        self._printed: list[bytes] = []
        self._size = 0
        self.is_hung_up = False
        self.is_closed = False

    # What the command's thread calls.

    def begin(self, show: Callable[[Sequence[str]], None]) -> None:
        self.show = show
        self.begun.set()

    def hear(self, data: bytes) -> None:
        self._put(self._output, data)

    def take_printed(self, line: bytes) -> None:
        self._put(self._printed, line)

    def _put(self, waiting: list[bytes], data: bytes) -> None:
        with self._lock:
            while self._size > MOST_WAITING and not self.is_hung_up:
                self._lock.wait()
            waiting.append(data)
            self._size += len(data)
            os.eventfd_write(self.wake, 1)

    def end(self, result: Result | None, failure: BaseException | None) -> None:
        """Hear how it ended; it says no more."""
        with self._lock:
            self.result, self.failure = result, failure
            self.has_ended = True
            self.show = None
            self.stdin.close()
            self.begun.set()
            os.eventfd_write(self.wake, 1)
            self._leave()

    # What others call.

    def take(self) -> Said:
        with self._lock:
            is_last = self.has_ended
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.wake)
            said = Said(b"".join(self._output), self._printed[:], is_last=is_last)
            self._output.clear()
            self._printed.clear()
            if self._size > MOST_WAITING:
                self._lock.notify_all()
            self._size = 0
        return said

    def write(self, data: memoryview) -> int:
        try:
            return self.writer.write(data) or 0
        except BrokenPipeError:
            return len(data)  # nobody reads it: the end comes the other way

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Keep the descriptors open for a ``with`` block; raises ValueError where they are closed."""
        with self._lock:
            if self.is_closed:
                raise ValueError("a conversation that is closed")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._leave()

    def hang_up(self) -> None:
        """Have the command ended; safe to call twice."""
        if self.process != os.getpid():
            return
        with self._lock:
            if self.is_hung_up:
                return
            self.is_hung_up = True
            self._lock.notify_all()
            os.eventfd_write(self.ending, 1)
            self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            self.close_all()

    def close_all(self) -> None:
        """Close every descriptor."""
        if self.is_closed:
            return
        self.is_closed = True
        self.stdin.close()
        self.writer.close()
        os.close(self.wake)
        os.close(self.ending)


_running: set[_Line] = set()
"""Those whose command runs."""
_lines: weakref.WeakSet[_Line] = weakref.WeakSet()


def _hold(line: _Line, run: Run) -> None:
    result, failure = None, None
    try:
        result = run(line, line.take_printed, line.ending)
    except BaseException as error:  # noqa: BLE001  (raised by ``result``)
        failure = error
    finally:
        _over(line, result, failure)


def _over(line: _Line, result: Result | None, failure: BaseException | None) -> None:
    line.end(result, failure)
    _running.discard(line)
    line.over.set()


def _end_all() -> None:
    """End every command and wait: threads are stopped where they are when the interpreter ends."""
    running = list(_running)
    for line in running:
        line.hang_up()
    for line in running:
        line.over.wait()


def _let_go() -> None:
    """Close what is a parent's own, in a process that was forked off."""
    for line in list(_lines):
        line.close_all()
    _running.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_let_go)
