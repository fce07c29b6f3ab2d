"""One command in bubblewrap, from its start until everything inside has ended.

Takes in what the command prints and what bubblewrap says of itself, lets it begin when the gateway's sockets
are there, and ends it after its time, or when whoever runs it says so. Knows nothing of what the command
changed.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from reprobuild.engine import bubblewrap
from reprobuild.engine.diagnosis import explain
from reprobuild.engine.doorway import Doorway, has_ended
from reprobuild.engine.forking import starting
from reprobuild.engine.launcher import Sandbox
from reprobuild.engine.layout import Layout
from reprobuild.engine.lines import Lines
from reprobuild.engine.memory import MemoryLimit
from reprobuild.engine.protocol import Command, Dialogue, Result, environment
from reprobuild.engine.ready import ready
from reprobuild.engine.seccomp import filter_program
from reprobuild.errors import EngineError, LostError

NOT_FOUND = 127
"""The exit code of a command whose program is not in the tree, as shells have it."""


class Running:
    """One command from its start until everything inside has ended."""

    def __init__(
        self,
        binary: Path,
        layout: Layout,
        command: Command,
        doorway: Doorway | None,
        owner: int | None,
        output: Callable[[bytes], None] | None,
        dialogue: Dialogue | None = None,
        ending: int | None = None,
        hold: Callable[[], bool] | None = None,
    ) -> None:
        self.binary = binary
        self.layout = layout
        self.command = command
        self.doorway = doorway
        self.owner = owner
        self.dialogue = dialogue
        self.ending = ending
        self.hold = hold
        self.lines = Lines(*([output] if output else []))
        self.exit_code: int | None = None
        self.init: int | None = None
        self.said = b""
        self.init_number = 0
        self.timed_out = False
        self.is_over = False
        """Whether it is to end, or never to begin: its time is up, or whoever runs it has said so."""
        self.memory: MemoryLimit | None = None
        self.begun = 0.0
        self.deadline: float | None = None

    def go(self, stdin: BinaryIO | None) -> Result:
        self._start_clock()
        with contextlib.ExitStack() as stack:
            if self.command.memory is not None:
                self.memory = stack.enter_context(MemoryLimit(self.command.memory))
            with starting():
                sandbox, printed, spoken, block = self._start(stack, stdin)
            if self.dialogue is not None:
                self.dialogue.stdin.close()
            try:
                if sandbox.interruption is not None:
                    raise sandbox.interruption
                self._attend(sandbox, printed, spoken, block)
            except BaseException:
                self._end_all(sandbox)
                raise
            self.lines.close()
            return self._result(sandbox.process.returncode, time.monotonic() - self.begun)

    def _start(
        self, stack: contextlib.ExitStack, stdin: BinaryIO | None
    ) -> tuple[Sandbox, FileIO, FileIO, FileIO]:
        """Give bubblewrap, started, where standard error and output come from, and what lets it go on."""
        program = stack.enter_context(_memory_file(filter_program(os.uname().machine)))
        self.status, status_in = _pipe(stack)
        block_out, block = _pipe(stack)
        printed, printed_in = _pipe(stack)
        spoken, spoken_in = (printed, printed_in) if self.dialogue is None else _pipe(stack)
        terminal = self.command.terminal
        options = bubblewrap.options(
            self.layout.mounts,
            env=environment(self.command, self.layout.env),
            workdir=self.command.workdir,
            terminal=terminal,
            seccomp=program.fileno(),
            status=status_in.fileno(),
            block=block_out.fileno(),
        )
        sandbox = Sandbox(
            self.binary,
            self.owner,
            self.layout.places,
            options,
            self.command.argv,
            stdin=None if terminal else self._standard_input(stack, stdin),
            stdout=None if terminal else spoken_in.fileno(),
            stderr=None if terminal else printed_in.fileno(),
            descriptors=[file.fileno() for file in (program, status_in, block_out)],
            status=self.status.fileno(),
            block=block.fileno(),
            limits=self.memory.prelude if self.memory else "",
            terminal=terminal,
        )
        stack.callback(sandbox.release)
        for file in (status_in, block_out, printed_in, spoken_in):
            file.close()
        return sandbox, printed, spoken, block

    def _attend(self, sandbox: Sandbox, printed: FileIO, spoken: FileIO, block: FileIO) -> None:
        """Take in what comes until everything inside has ended."""
        poll = select.poll()
        open_files = {printed.fileno(), spoken.fileno(), self.status.fileno()}
        for descriptor in open_files:
            poll.register(descriptor, select.POLLIN)
        if self.ending is not None:
            poll.register(self.ending, select.POLLIN)
        while open_files:
            wait = None if self.deadline is None else max(self.deadline - time.monotonic(), 0) * 1000
            for descriptor, _ in poll.poll(wait):
                if descriptor == printed.fileno():
                    ended = not self._take_printed(printed)
                elif descriptor == spoken.fileno():
                    ended = not self._take_spoken(spoken)
                elif descriptor == self.status.fileno():
                    is_new = self.init is None
                    ended = not self._take_status()
                    if ended:
                        self._kill()  # bubblewrap has ended with its command: what that left running goes too
                    if self.init is not None and is_new:
                        poll.register(self.init, select.POLLIN)
                        open_files.add(self.init)
                        sandbox.entrust(self.init_number)
                        self._begin(poll, block)
                elif descriptor == self.init:
                    ended = True
                elif descriptor == self.ending:
                    ended = True
                    self._end()
                else:
                    ended = False
                    self._take_arrival(poll, descriptor, block)
                if ended:
                    poll.unregister(descriptor)
                    open_files.discard(descriptor)
            if self.deadline is not None and time.monotonic() >= self.deadline:
                self.timed_out = True
                self.deadline = None
                self._end()
        sandbox.process.wait()

    def _start_clock(self) -> None:
        self.begun = time.monotonic()
        limit = self.command.timeout
        self.deadline = None if limit is None else self.begun + limit

    def _begin(self, poll: select.poll, block: FileIO) -> None:
        """Have the gateway's sockets opened, else let the command begin, unless it is over already."""
        assert self.init is not None
        if self.is_over:
            self._kill()
        elif self.doorway is None:
            self._release(block)
        else:
            self.doorway.enter(self.init_number, self.init)
            poll.register(self.doorway.channel.fileno(), select.POLLIN)

    def _take_arrival(self, poll: select.poll, descriptor: int, block: FileIO) -> None:
        """Take the gateway's sockets and let the command begin; or hand them over, once one has something."""
        doorway = self.doorway
        assert doorway is not None
        if not block.closed:
            poll.unregister(descriptor)
            try:
                doorway.take()
            except EngineError:
                if self.init is not None and has_ended(self.init):
                    return  # bubblewrap says what went wrong
                raise
            for one in doorway.sockets:
                poll.register(one, select.POLLIN)
            if self.hold is not None:
                doorway.settle()  # else the command need not wait for that
            self._release(block)
            doorway.settle()
        elif doorway.sockets:
            for one in doorway.sockets:
                poll.unregister(one)
            doorway.attend()

    def _release(self, block: FileIO) -> None:
        if self.memory is not None:
            self.memory.take_in(self.init_number)
        if self.hold is not None:
            if not self.hold():
                self.deadline = None
                self._end()
                return
            if self.init is not None and has_ended(self.init):
                raise LostError("the sandbox has ended while it waited")
            self._start_clock()
        if self.dialogue is not None:
            self.dialogue.begin(_shown_at_once)
        with contextlib.suppress(BrokenPipeError):  # then bubblewrap says why
            block.write(b"\0")
        block.close()

    def _take_printed(self, printed: FileIO) -> bool:
        data = printed.read(1 << 16)
        if data:
            self.lines.feed(data)
        return bool(data)

    def _take_spoken(self, spoken: FileIO) -> bool:
        assert self.dialogue is not None
        data = spoken.read(1 << 16)
        if data:
            self.dialogue.hear(data)
        return bool(data)

    def _take_status(self) -> bool:
        """Read what bubblewrap says of itself: one JSON object a line; False at its end."""
        data = self.status.read(1 << 12)
        if not data:
            return False
        # bubblewrap writes an object in several pieces.
        *lines, self.said = (self.said + data).split(b"\n")
        for line in lines:
            if (said := _number(line, b"child-pid")) is not None:
                with contextlib.suppress(ProcessLookupError):  # it has ended: what else is said tells why
                    self.init_number, self.init = said, os.pidfd_open(said)
            elif (said := _number(line, b"exit-code")) is not None:
                self.exit_code = said
        return True

    def _end(self) -> None:
        """Kill everything inside now, or as soon as there is something."""
        self.is_over = True
        self._kill()

    def _kill(self) -> None:
        """Kill the first process inside; the kernel kills the others before that one is gone."""
        if self.init is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.init, signal.SIGKILL)

    def _end_all(self, sandbox: Sandbox) -> None:
        """End everything inside and wait until it has ended, whatever else comes meanwhile."""
        while True:
            try:
                while self.init is None and self._take_status():
                    pass
                self._kill()
                if self.init is not None:
                    ready(self.init)
                sandbox.process.wait()
                return
            except (KeyboardInterrupt, SystemExit):
                continue

    def close(self) -> None:
        if self.init is not None:
            os.close(self.init)

    def _standard_input(self, stack: contextlib.ExitStack, stdin: BinaryIO | None) -> int:
        """Give the descriptor of a file to read from; what has none is taken into memory first."""
        if self.dialogue is not None:
            return self.dialogue.stdin.fileno()
        if stdin is None:
            return subprocess.DEVNULL
        try:
            return stdin.fileno()
        except OSError:
            return stack.enter_context(_memory_file(stdin.read())).fileno()

    def _result(self, returned: int, seconds: float) -> Result:
        exit_code = self.exit_code
        if exit_code is None:
            exit_code = self._explain(returned)
        tail = self.lines.tail
        return Result(
            exit_code,
            seconds,
            timed_out=self.timed_out,
            out_of_memory=self.memory is not None and self.memory.was_exceeded(exit_code, tail),
            tail=tail,
        )

    def _explain(self, returned: int) -> int:
        """Say why the command never ran: all that was printed is bubblewrap's own then."""
        if self.is_over:
            return 128 + signal.SIGKILL
        message = "; ".join(self.lines.tail)
        if "bwrap: execvp" in message or (self.command.terminal and self.init is not None):
            return NOT_FOUND  # on a terminal bubblewrap has said itself what is wrong
        if returned < 0:
            message = f"it was ended from outside by signal {-returned}"
        why, hint = explain(message.replace("bwrap: ", ""), self.layout.upper)
        raise EngineError(f"the sandbox could not be made: {why}", hint or "run: reprobuild doctor")


def _number(line: bytes, name: bytes) -> int | None:
    """Read a number of bubblewrap's status, ``{ "exit-code": 0 }``: one object a line, plain names."""
    _, _, rest = line.partition(b'"' + name + b'":')
    digits = rest.replace(b"}", b",").partition(b",")[0].strip()
    return int(digits) if digits else None


def _pipe(stack: contextlib.ExitStack) -> tuple[FileIO, FileIO]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    return stack.enter_context(FileIO(reader, "rb")), stack.enter_context(FileIO(writer, "wb"))


def _memory_file(content: bytes) -> FileIO:
    file = FileIO(os.memfd_create("reprobuild", os.MFD_CLOEXEC), "r+b")
    file.write(content)
    file.seek(0)
    return file


def _shown_at_once(paths: Sequence[str]) -> None:
    """Do nothing: inputs are mounted, so what is added to them is seen inside."""
