"""Sockets at which everything arrives that is sent in a network namespace, whatever its address.

Two routes make every address a local one, and nothing there has another way out. What is here runs beside
a sandbox or in a container, with nothing but the C parts of Python's library, which halves its start.

Knows nothing of namespaces, nor of what is answered at the sockets.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

_LOOPBACK = 1  # the index of ``lo`` in every namespace: LOOPBACK_IFINDEX
_NLMSG_ERROR, _RTM_NEWROUTE = 2, 24
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 1, 4, 0x200, 0x400
_RT_TABLE_LOCAL, _RTPROT_STATIC, _RT_SCOPE_HOST, _RTN_LOCAL = 255, 4, 254, 2
_RTA_OIF = 4
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO, _IPV6_FREEBIND = 8, 49, 50, 78  # linux/in.h, linux/in6.h

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EACCES, errno.EADDRNOTAVAIL, errno.ENODEV)
"""What the kernel says where it has no IPv6, or has it switched off."""

_WAITING = 1024
"""Connections that may wait to be accepted, for each socket."""

DNS = 53
LONGEST_DATAGRAM = 65535
ANCILLARY = 256
"""Bytes that are room enough for what the kernel says of a datagram."""


def listen_everywhere(ports: list[int]) -> list[_socket.socket]:
    """Give a listening TCP socket for each port and a UDP one of port 53, IPv4 and, if there is one, IPv6.

    Raises OSError, saying of what.
    """
    sockets = _open(_socket.AF_INET, ports)
    try:
        return sockets + _open(_socket.AF_INET6, ports)
    except OSError as error:
        if error.errno in _NO_IPV6:
            return sockets
        raise


def return_address(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Turn what the kernel said of a datagram into what it is told of the answer (ip(7), ipv6(7)).

    So the answer comes from the address that was asked.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (_socket.IPPROTO_IP, _IP_PKTINFO) and len(data) >= 12:
            return [(level, kind, struct.pack("i4s4s", 0, data[8:12], b""))]
        if (level, kind) == (_socket.IPPROTO_IPV6, _IPV6_PKTINFO) and len(data) >= 20:
            return [(level, kind, data[:16] + struct.pack("i", 0))]
    return []


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
    asked = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC)
    try:
        asked.send(struct.pack("IHHII", 16 + len(body), _RTM_NEWROUTE, flags, 1, 0) + body)
        answer = asked.recv(1 << 12)
    finally:
        asked.close()
    (kind,) = struct.unpack_from("H", answer, 4)
    (number,) = struct.unpack_from("i", answer, 16)
    if kind != _NLMSG_ERROR or number != 0:
        raise OSError(-number, f"a route to every address: {os.strerror(-number)}")
