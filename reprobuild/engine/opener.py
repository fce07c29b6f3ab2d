"""A program that opens listening sockets inside another network namespace, and hands them back.

Started by ``doorway`` with nothing but Python's own library, in parallel with the sandbox: a process of a
single thread, since no other may join a user namespace (setns(2)). It ends when that is done and when
nobody listens to it any more. Imports the C parts of the library alone, which halves its start.

Knows nothing of sandboxes, nor of what is answered at the sockets.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import select
import struct
import sys
import time

from reprobuild.engine.listening import listen_everywhere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NS_GET_USERNS = 0xB701  # linux/nsfs.h
_SIOCGIFFLAGS = 0x8913  # linux/sockios.h
_IFF_UP = 1
_RTMGRP_LINK = 1

_PATIENCE = 10.0
"""Seconds until the loopback must be up."""

MOST_SOCKETS = 250
"""One message passes 253 descriptors (SCM_MAX_FD)."""


def main() -> None:
    """Join the namespace that standard input names, and answer there with the sockets."""
    channel = _socket.socket(fileno=0)
    try:
        join = _find_setns()  # first: the library may lie where only root can read
        owner = int(sys.argv[1])
        if owner >= 0:
            os.setgroups([])
            os.setresgid(owner, owner, owner)
            os.setresuid(owner, owner, owner)
        asked, namespace = _receive(channel)
        if namespace < 0:
            raise BrokenPipeError
        join(fcntl.ioctl(namespace, _NS_GET_USERNS))
        join(namespace)
        _wait_for_loopback(channel)
        sockets = listen_everywhere([int(port) for port in asked.split()])
        passed = struct.pack(f"{len(sockets)}i", *[one.fileno() for one in sockets])
        channel.sendmsg([b"open"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, passed)])
    except BrokenPipeError:
        pass
    except OSError as error:
        channel.send(f"{error.strerror or error}".encode())
    os._exit(0)  # nothing is to be put in order


def _receive(channel: _socket.socket) -> tuple[bytes, int]:
    """Wait for the ports and the namespace; without one where the caller has ended."""
    data, passed, _, _ = channel.recvmsg(4096, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    for _, _, content in passed:
        (descriptor,) = struct.unpack("i", content)
        return data, descriptor
    return data, -1


def _find_setns() -> Callable[[int], None]:
    if sys.version_info >= (3, 12):
        return os.setns
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)

    def setns(descriptor: int) -> None:
        if library.setns(descriptor, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"joining a namespace: {os.strerror(number)}")

    return setns


def _wait_for_loopback(channel: _socket.socket) -> None:
    """Wait until the sandbox has its loopback up: it does that itself, and fails where it finds it done."""
    deadline = time.monotonic() + _PATIENCE
    news = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC)
    try:
        news.bind((0, _RTMGRP_LINK))
        poll = select.poll()
        poll.register(news.fileno(), select.POLLIN)
        poll.register(channel.fileno(), 0)
        while not _is_up():
            happened = poll.poll(max(deadline - time.monotonic(), 0) * 1000)
            if not happened:
                raise OSError(errno.ENETDOWN, "the loopback does not come up")
            if any(descriptor == channel.fileno() for descriptor, _ in happened):
                raise BrokenPipeError
            news.recv(1 << 16)
    finally:
        news.close()


def _is_up() -> bool:
    any_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        asked = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack("16xh14x", fcntl.ioctl(any_socket.fileno(), _SIOCGIFFLAGS, asked))
    finally:
        any_socket.close()
    return bool(flags & _IFF_UP)
