"""A gateway's sockets in a sandbox: opened in its network namespace, and handed over at the first sign.

A small process of its own opens them (``opener``), started beside whatever makes the sandbox so that the
two start-ups overlap, and told which network namespace it is once there is one. Until something arrives
at a socket nothing else is done, so a command that never uses its network pays for little more than that
process. Knows nothing of bubblewrap, nor of what the gateway answers.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import struct
import subprocess
import sys
from collections.abc import Iterator

from reprobuild.engine import listening, opener
from reprobuild.engine.forking import starting
from reprobuild.engine.protocol import Gateway, served_ports
from reprobuild.engine.ready import ready
from reprobuild.engine.standalone import program_text
from reprobuild.errors import EngineError

_FOLDER = os.path.dirname(opener.__file__)
_TEXT = program_text(listening, opener)
"""For whoever has given up the right to read our own folder since it was imported."""
_IMPORT = """\
import sys
sys.path.append(sys.argv[2])
import listening
sys.modules["reprobuild.engine.listening"] = listening
import opener
opener.main()
"""
"""Three milliseconds faster than the text: it is compiled already."""

_HINT = "run: reprobuild doctor"


class Doorway:
    """The sockets of one command's gateway; its steps are begun, entered, opened, attended, closed."""

    def __init__(self, gateway: Gateway, owner: int | None) -> None:
        """Start the process that opens them; owner: the uid that the sandbox has outside, None: the caller's.

        Raises EngineError where it can't be started.
        """
        self._gateway = gateway
        self._ports = served_ports(gateway)
        if 2 * len(self._ports) + 2 > opener.MOST_SOCKETS:
            raise EngineError(f"a command can have {opener.MOST_SOCKETS // 2 - 1} ports served at most")
        self._init = 0
        self.sockets: tuple[int, ...] = ()
        """Descriptors of the open sockets, until they are the gateway's."""
        text = _IMPORT if os.access(opener.__file__, os.R_OK) else _TEXT
        words = ["-I", "-S", "-E", "-B", "-c", text, str(-1 if owner is None else owner), _FOLDER]
        with starting():
            self.channel, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            try:
                self._opener: subprocess.Popen[bytes] | None = subprocess.Popen(
                    [sys.executable, *words],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                self.channel.close()
                raise EngineError(f"the gateway's sockets: {error}", _HINT) from error
            finally:
                theirs.close()

    def enter(self, process: int, handle: int) -> None:
        """Have them opened in the network namespace of a process, of which ``handle`` is a pidfd.

        Where it has ended meanwhile nothing is done. Raises EngineError where its namespace can't be had.
        """
        try:
            namespace = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if has_ended(handle):
                return
            raise EngineError(f"the sandbox's network: {error.strerror}", _HINT) from error
        try:
            if not has_ended(handle):  # so that the number is not another process's by now
                self._init = process
                asked = " ".join(map(str, self._ports)).encode()
                passed = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", namespace))]
                with contextlib.suppress(BrokenPipeError):  # then ``take`` finds out why
                    self.channel.sendmsg([asked], passed)
        finally:
            os.close(namespace)

    def take(self) -> None:
        """Take the open sockets, once ``channel`` can be read. Raises EngineError where there are none."""
        room = _socket.CMSG_SPACE(4 * opener.MOST_SOCKETS)
        try:
            said, passed, _, _ = self.channel.recvmsg(4096, room, _socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # it ended with what it was told unread
            said, passed = b"", []
        self.channel.close()
        for _, _, content in passed:
            self.sockets = struct.unpack(f"{len(content) // 4}i", content)
        if not self.sockets:
            why = said.decode("utf-8", "replace") or "the process that opens them has ended"
            raise EngineError(f"the gateway's sockets could not be opened in the sandbox: {why}", _HINT)

    def settle(self) -> None:
        """Wait for the end of the process that has opened them."""
        if self._opener is not None:
            self._opener.wait()
            self._opener = None

    def attend(self) -> None:
        """Hand the sockets to the gateway: something has arrived."""
        import socket

        from reprobuild.engine.door import SocketDoor
        from reprobuild.engine.peers import program_of

        taken, self.sockets = [socket.socket(fileno=one) for one in self.sockets], ()
        init = self._init
        self._gateway.attend(SocketDoor(taken, lambda ends: program_of(ends, init)))

    def close(self) -> None:
        """Close what is not the gateway's, and see the process end; the gateway itself is not closed."""
        self.channel.close()
        self.settle()
        for one in self.sockets:
            os.close(one)
        self.sockets = ()


class ClosedOnce:
    """A gateway that is closed exactly once, whichever way a command ends."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._is_open = True

    def close(self) -> None:
        """Close it, if it is open; everything inside has ended."""
        if self._is_open:
            self._is_open = False
            self.gateway.close()


@contextlib.contextmanager
def closed_once(gateway: Gateway | None) -> Iterator[ClosedOnce | None]:
    """Close a gateway at the end of a block at the latest."""
    if gateway is None:
        yield None
        return
    once = ClosedOnce(gateway)
    try:
        yield once
    finally:
        once.close()


def has_ended(handle: int) -> bool:
    """Tell whether the process of a pidfd has ended."""
    return bool(ready(handle, seconds=0))
