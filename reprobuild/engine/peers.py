"""Which program inside a sandbox holds the other end of a connection, told by what ``/proc`` shows of it.

For messages alone: what it says was chosen by a stranger's command, and may be gone when it is asked
for. Knows nothing of gateways.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterator

from reprobuild.value import Value

LONGEST = 80
"""Characters of a program's text."""

_NOT_PLAIN = re.compile(r"[\x00-\x20\x7f-\xa0\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_MOST_BYTES = 4096


class Ends(Value):
    """The two ends of a TCP connection."""

    family: int
    """AF_INET or AF_INET6."""
    here: tuple[str, int]
    there: tuple[str, int]


def program_of(ends: Ends, init: int) -> str:
    """Give the command line of whoever holds the other end, shortened; ``""`` where that can't be told.

    init: the number, seen from here, of a process in the network namespace of the connection.
    """
    try:
        inode = _inode(ends, init)
        if inode:
            for process in _inside(init):
                if _holds(process, f"socket:[{inode}]"):
                    return shortened(_read(f"/proc/{process}/cmdline"))
    except (OSError, ValueError):
        pass
    return ""


def shortened(command_line: bytes) -> str:
    """Give a command line (``/proc/PID/cmdline``) as one short line of plain characters."""
    words = [word for word in command_line[:_MOST_BYTES].split(b"\0") if word]
    if words:
        words[0] = words[0].rpartition(b"/")[2] or words[0]
    text = _NOT_PLAIN.sub(" ", b" ".join(words).decode("utf-8", "replace")).strip()
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _inode(ends: Ends, init: int) -> str:
    """Find the other end in the namespace's table of connections (proc(5), ``/proc/net/tcp``)."""
    family = ends.family
    wanted = _hexadecimal(family, ends.there), _hexadecimal(family, ends.here)
    tables = [("tcp6" if family == socket.AF_INET6 else "tcp", wanted)]
    if family == socket.AF_INET:  # a client may speak IPv4 through a socket of IPv6
        prefix = _words(b"\0" * 10 + b"\xff\xff")
        tables.append(("tcp6", (prefix + wanted[0], prefix + wanted[1])))
    for table, written in tables:
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{init}/net/{table}") as lines:
            for line in lines:
                fields = line.split()
                if tuple(fields[1:3]) == written:
                    return fields[9]
    return ""


def _hexadecimal(family: int, address: tuple[str, int]) -> str:
    return f"{_words(socket.inet_pton(family, address[0]))}:{address[1]:04X}"


def _words(address: bytes) -> str:
    """Write an address as the kernel does: words of four bytes in the order of the machine."""
    words = (address[start : start + 4] for start in range(0, len(address), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def _inside(init: int) -> Iterator[str]:
    """Give the processes that share a network namespace with one."""
    namespace = os.readlink(f"/proc/{init}/ns/net")
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{name}/ns/net") == namespace:
                    yield name


def _holds(process: str, wanted: str) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{process}/fd/{descriptor}") == wanted:
                    return True
    return False


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MOST_BYTES)
