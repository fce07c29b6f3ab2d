"""A program that opens listening sockets inside another network namespace, and hands them back.

Started by ``doorway`` with nothing but Python's own library, in parallel with the sandbox: a process of a
single thread, since no other may join a user namespace (setns(2)). It adds the two routes that make every
address a local one, so that whatever is sent inside arrives at those sockets. It ends when that is done
and when nobody listens to it any more. Imports the C parts of the library alone, which halves its start.

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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NS_GET_USERNS = 0xB701  # linux/nsfs.h
_SIOCGIFFLAGS = 0x8913  # linux/sockios.h
_IFF_UP = 1
_LOOPBACK = 1  # the index of ``lo`` in every namespace: LOOPBACK_IFINDEX
_RTMGRP_LINK = 1
_NLMSG_ERROR, _RTM_NEWROUTE = 2, 24
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 1, 4, 0x200, 0x400
_RT_TABLE_LOCAL, _RTPROT_STATIC, _RT_SCOPE_HOST, _RTN_LOCAL = 255, 4, 254, 2
_RTA_OIF = 4
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_FREEBIND = 8, 49, 78  # linux/in.h, linux/in6.h

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EACCES, errno.EADDRNOTAVAIL, errno.ENODEV)
"""What the kernel says where it has no IPv6, or has it switched off."""

_PATIENCE = 10.0
"""Seconds until the loopback must be up."""
_WAITING = 1024
"""Connections that may wait to be accepted, for each socket."""

DNS = 53
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
        ports = [int(port) for port in asked.split()]
        join(fcntl.ioctl(namespace, _NS_GET_USERNS))
        join(namespace)
        _wait_for_loopback(channel)
        sockets = _open(_socket.AF_INET, ports)
        sockets += _open_ipv6(ports)
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
    with _socket_of(_socket.AF_NETLINK, _socket.SOCK_RAW) as news:
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


class _socket_of:  # noqa: N801 - a context manager, which ``_socket``'s own class is not
    def __init__(self, family: int, kind: int) -> None:
        self.socket = _socket.socket(family, kind | _socket.SOCK_CLOEXEC)

    def __enter__(self) -> _socket.socket:
        return self.socket

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def _is_up() -> bool:
    with _socket_of(_socket.AF_INET, _socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack("16xh14x", fcntl.ioctl(any_socket.fileno(), _SIOCGIFFLAGS, asked))
    return bool(flags & _IFF_UP)


def _open_ipv6(ports: list[int]) -> list[_socket.socket]:
    try:
        return _open(_socket.AF_INET6, ports)
    except OSError as error:
        if error.errno in _NO_IPV6:
            return []
        raise


def _open(family: int, ports: list[int]) -> list[_socket.socket]:
    """Make every address of a family local, and listen at the ports on all of them.

    No socket lets another one have its port too (SO_REUSEADDR, SO_REUSEPORT): nobody inside can take it.
    """
    _add_route(family)
    opened = []
    for port in ports:
        one = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        _bind(one, family, port)
        one.listen(_WAITING)
        opened.append(one)
    datagrams = _socket.socket(family, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    # Set before anything arrives: what came earlier would not tell to which address.
    if family == _socket.AF_INET6:
        datagrams.setsockopt(_socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        datagrams.setsockopt(_socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)  # to answer from that address
    else:
        datagrams.setsockopt(_socket.IPPROTO_IP, _IP_PKTINFO, 1)
    _bind(datagrams, family, DNS)
    return [*opened, datagrams]


def _bind(one: _socket.socket, family: int, port: int) -> None:
    if family == _socket.AF_INET6:
        one.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
    try:
        one.bind(("::" if family == _socket.AF_INET6 else "0.0.0.0", port))
    except OSError as error:
        raise OSError(error.errno, f"listening at port {port}: {error.strerror}") from error


def _add_route(family: int) -> None:
    """``ip route add local default dev lo`` (rtnetlink(7))."""
    body = struct.pack(
        "BBBBBBBBI", family, 0, 0, 0, _RT_TABLE_LOCAL, _RTPROT_STATIC, _RT_SCOPE_HOST, _RTN_LOCAL, 0
    )
    body += struct.pack("HHI", 8, _RTA_OIF, _LOOPBACK)
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_EXCL
    with _socket_of(_socket.AF_NETLINK, _socket.SOCK_RAW) as asked:
        asked.send(struct.pack("IHHII", 16 + len(body), _RTM_NEWROUTE, flags, 1, 0) + body)
        answer = asked.recv(1 << 12)
    (kind,) = struct.unpack_from("H", answer, 4)
    (number,) = struct.unpack_from("i", answer, 16)
    if kind != _NLMSG_ERROR or number != 0:
        raise OSError(-number, f"a route to every address: {os.strerror(-number)}")


if __name__ == "__main__":
    main()
