"""Attempts to get past a gateway, or at it: whatever is tried, nothing but its ports is reached."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.sandboxes import Sandboxes, shared_folder

# Each is an expression that is true where the attempt fails. ``host`` has what the host listens at.
ATTEMPTS = {
    "another port": "refused(INET, ('93.184.216.34', 22))",
    "another port, IPv6": "refused(INET6, ('2606:2800::1', 22))",
    "a port that is nobody's": "refused(INET, ('93.184.216.34', 65535)) and refused(INET, ('8.8.8.8', 1))",
    "the port of TLS for DNS": "refused(INET, ('1.1.1.1', 853))",
    "a proxy": "refused(INET, ('10.0.0.1', 3128)) and refused(INET, ('10.0.0.1', 8080))",
    "the metadata service elsewhere": "refused(INET, ('169.254.169.254', 8000))",
    "the metadata service, IPv6": "refused(INET6, ('fd00:ec2::254', 8000))",
    "a service on the host's loopback": "refused(INET, ('127.0.0.1', host['tcp']))",
    "a service on the host's loopback, by its own address": "refused(INET, ('127.8.8.8', host['tcp']))",
    "a service on the host's loopback, IPv6": "refused(INET6, ('::1', host['tcp6']))",
    "a service on the host's loopback, mapped": "refused(INET6, ('::ffff:127.0.0.1', host['tcp']))",
    "a service at the host's address": "refused(INET, (host['address'], host['everywhere']))",
    "a service at no address": "refused(INET, ('0.0.0.0', host['tcp']))",
    "a datagram to the host": "unanswered(INET, ('127.0.0.1', host['udp']))",
    "a datagram to the host's address": "unanswered(INET, (host['address'], host['udp']))",
    "a datagram for the time": "unanswered(INET, ('162.159.200.1', 123))",
    "QUIC": "unanswered(INET, ('93.184.216.34', 443)) and unanswered(INET6, ('2606:2800::1', 443))",
    "a broadcast": "unanswered(INET, ('255.255.255.255', host['udp']), (socket.SOL_SOCKET, 6))",
    "a multicast": "unanswered(INET, ('224.0.0.251', host['udp']))",
    "an abstract socket": "raises(lambda: connect(UNIX, '\\0' + host['abstract']))",
    "an abstract socket for datagrams": (
        "raises(lambda: socket.socket(UNIX, DGRAM).sendto(b'x', '\\0' + host['abstract'] + '-datagrams'))"
    ),
    "a socket file": "raises(lambda: connect(UNIX, host['file']))",
    "a socket file by way of the first process": (
        "raises(lambda: connect(UNIX, '/proc/1/root' + host['file']))"
        " and raises(lambda: connect(UNIX, '/proc/1/cwd/' + host['file'][1:]))"
    ),
    "a daemon's socket": (
        "not any(os.path.exists(p) for p in ('/run/docker.sock', '/var/run/docker.sock', '/run/dbus'))"
    ),
    "raw socket": "all(raises(lambda: socket.socket(INET, RAW, p)) for p in (1, 6, 17, 255))",
    "raw socket, IPv6": "raises(lambda: socket.socket(INET6, RAW, 58))",
    "ping": "raises(lambda: socket.socket(INET, DGRAM, 1))",
    "ping, IPv6": "raises(lambda: socket.socket(INET6, DGRAM, 58))",
    "packet socket": "all(raises(lambda: socket.socket(17, kind, 0x300)) for kind in (RAW, DGRAM))",
    "XDP": "raises(lambda: socket.socket(44, RAW, 0))",
    "vsock": "raises(lambda: socket.socket(40, STREAM)) and raises(lambda: socket.socket(40, DGRAM))",
    "SCTP": "raises(lambda: connect(INET, ('93.184.216.34', 80), 132))",
    "a tunnel": "raises(lambda: open('/dev/net/tun', 'rb+'))",
    **{
        f"taking port {port} at {address or 'all'}{how and ', ' + how}": (
            f"raises(lambda: listen({family}, ({address!r}, {port}), {how!r}))"
        )
        for port in (80, 443, 53, 8081)
        for family, address in (("INET", ""), ("INET", "127.0.0.1"), ("INET", "1.2.3.4"), ("INET6", "::1"))
        for how in ("", "SO_REUSEADDR", "SO_REUSEPORT")
    },
    **{
        f"taking the name server's port{how and ', ' + how}": (
            f"raises(lambda: bind_datagrams(INET, ('', 53), {how!r}))"
            f" and raises(lambda: bind_datagrams(INET, ('198.18.0.1', 53), {how!r}))"
            f" and raises(lambda: bind_datagrams(INET6, ('::', 53), {how!r}))"
        )
        for how in ("", "SO_REUSEADDR", "SO_REUSEPORT")
    },
    "every address as one's own": "raises(lambda: socket.socket(INET).setsockopt(0, 19, 1))",
    "a mark": "raises(lambda: socket.socket(INET).setsockopt(socket.SOL_SOCKET, 36, 1))",
    "another device": "raises(lambda: socket.socket(INET).setsockopt(socket.SOL_SOCKET, 25, b'eth0'))",
    "a route": "netlink(24, 0x400, rtmsg(INET, 254, 1))",
    "a route less": "netlink(25, 0, rtmsg(INET, 255, 2)) and netlink(25, 0, rtmsg(INET6, 255, 2))",
    "an address": (
        "netlink(20, 0x400, struct.pack('BBBBI', INET, 8, 0, 0, 1) + attribute(2, b'\\x0a\\0\\0\\1'))"
    ),
    "a device": "netlink(16, 0x400, struct.pack('BBHiII', 0, 0, 0, 0, 1, 1) + attribute(3, b'dummy0\\0'))",
    "a device down": "netlink(16, 0, struct.pack('BBHiII', 0, 0, 0, 1, 0, 1))",
    "a device down, the old way": (
        "raises(lambda: fcntl.ioctl(socket.socket(INET), 0x8914, struct.pack('16sH14x', b'lo', 0)))"
    ),
    "a rule": "netlink(32, 0x400, rtmsg(INET, 254, 1))",
    "a firewall": "netlink(0xA00, 0x400, struct.pack('BBH', INET, 0, 0) + attribute(1, b'x\\0'), 12)",
    "ending the gateway's sockets": (
        "netlink(21, 0, struct.pack('>BBxxIHH', INET, 6, 0xFFFFFFFF, 80, 0) + bytes(44), 4)"
    ),
    "another namespace": "all(raises(lambda: setns(f'/proc/{p}/ns/net')) for p in (1, 'self'))",
    "a new namespace": "libc.unshare(0x40000000) == -1 and libc.unshare(0x50000000) == -1",
    "a namespace of the host": "os.readlink('/proc/1/ns/net') == os.readlink('/proc/self/ns/net')",
    "devices of the first process": (
        "[line.split(':')[0].strip() for line in open('/proc/1/net/dev')][2:] == ['lo']"
    ),
    "connections of the host": "str(host['tcp']) not in json.dumps(ports_of('/proc/1/net/tcp'))",
    "settings of the network": (
        "raises(lambda: open('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'w').write('0'))"
        " and raises(lambda: open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('1 2'))"
    ),
    "descriptors of the gateway's sockets": (
        "not any(link.startswith('socket:') for p in os.listdir('/proc') if p.isdigit() for link in links(p))"
    ),
    "taking a descriptor of the first process": (
        "all(libc.syscall(438, libc.syscall(434, 1, 0), n, 0) == -1 or not is_socket(n) for n in range(64))"
    ),
    "other processes of the gateway's": (
        "all(b'opener' not in line and b'listen_everywhere' not in line for line in"
        " (open(f'/proc/{p}/cmdline', 'rb').read() for p in os.listdir('/proc')"
        " if p.isdigit() and int(p) != os.getpid()))"
    ),
    "a daemon of containers on its own network": (
        "refused(INET, ('172.17.0.1', 2375)) and refused(INET, ('10.88.0.1', 8080))"
    ),
}

_PROGRAM = """
import ctypes, errno, fcntl, json, os, socket, struct, sys
INET, INET6, UNIX = int(socket.AF_INET), int(socket.AF_INET6), socket.AF_UNIX
STREAM, DGRAM, RAW = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW
libc = ctypes.CDLL(None, use_errno=True)
def raises(attempt):
    try:
        attempt()
    except OSError:
        return True
    return False
def connect(family, address, protocol=0):
    with socket.socket(family, STREAM, protocol) as tried:
        tried.settimeout(5)
        tried.connect(address)
def refused(family, address):
    with socket.socket(family) as tried:
        tried.settimeout(5)
        return tried.connect_ex(address) == errno.ECONNREFUSED
def unanswered(family, address, option=None):
    with socket.socket(family, DGRAM) as tried:
        tried.settimeout(0.2)
        if option:
            tried.setsockopt(*option, 1)
        try:
            tried.connect(address)
            tried.send(b"question")
            tried.recv(100)
        except OSError:
            return True
    return False
def listen(family, address, how):
    with socket.socket(family) as tried:
        if how:
            tried.setsockopt(socket.SOL_SOCKET, getattr(socket, how), 1)
        tried.bind(address)
        tried.listen()
def bind_datagrams(family, address, how):
    with socket.socket(family, DGRAM) as tried:
        if how:
            tried.setsockopt(socket.SOL_SOCKET, getattr(socket, how), 1)
        tried.bind(address)
def attribute(kind, content):
    return struct.pack("HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)
def rtmsg(family, table, kind):
    return struct.pack("BBBBBBBBI", family, 0, 0, 0, table, 4, 0, kind, 0) + attribute(4, struct.pack("I", 1))
def netlink(kind, flags, body, protocol=0):
    try:
        tried = socket.socket(16, RAW, protocol)
        tried.settimeout(5)
        tried.send(struct.pack("IHHII", 16 + len(body), kind, 5 | flags, 1, 0) + body)
        return struct.unpack_from("i", tried.recv(4096), 16)[0] < 0
    except OSError:
        return True
def setns(path):
    with open(path) as file:
        if libc.setns(file.fileno(), 0):
            raise OSError
def ports_of(path):
    return [int(line.split()[1].rpartition(":")[2], 16) for line in open(path) if ":" in line.split()[1]]
def links(process):
    try:
        return [os.readlink(f"/proc/{process}/fd/{n}") for n in os.listdir(f"/proc/{process}/fd")]
    except OSError:
        return []
def is_socket(number):
    return os.path.exists(f"/proc/self/fd/{number}") and "socket:" in os.readlink(f"/proc/self/fd/{number}")
asked = json.load(sys.stdin)
host = asked["host"]
for name, attempt in asked["attempts"].items():
    print(name, "held" if eval(attempt) else "OUT", sep=": ", flush=True)
with open("/etc/resolv.conf", "w") as file:
    file.write("nameserver 9.9.9.9")
with socket.socket(INET, DGRAM) as asked:
    asked.settimeout(10)
    asked.sendto(b"still", ("9.9.9.9", 53))
    print(asked.recv(100).decode())
with socket.create_connection(("169.254.169.254", 80), 10) as asked:
    asked.send(b"still")
    print(asked.recv(1000).decode().splitlines()[-1])
"""


@dataclass
class Host:
    """What listens on the host, for anybody there."""

    described: dict[str, object]
    sockets: list[socket.socket]

    def was_reached(self) -> bool:
        """Tell whether anything has come to any of it."""
        for one in self.sockets:
            one.setblocking(False)
            try:
                if one.type == socket.SOCK_STREAM:
                    one.accept()[0].close()
                else:
                    one.recv(100)
            except BlockingIOError:
                continue
            return True
        return False


@pytest.fixture
def host() -> Iterator[Host]:
    name = f"reprobuild-test-{os.getpid()}"
    with ExitStack() as stack, shared_folder(os.geteuid()) as folder:

        def listen(
            family: int, address: tuple[object, ...] | str, kind: int = socket.SOCK_STREAM
        ) -> socket.socket:
            one = stack.enter_context(closing(socket.socket(family, kind)))
            one.bind(address)
            if kind == socket.SOCK_STREAM:
                one.listen()
            sockets.append(one)
            return one

        sockets: list[socket.socket] = []
        described: dict[str, object] = {
            "tcp": listen(socket.AF_INET, ("127.0.0.1", 0)).getsockname()[1],
            "everywhere": listen(socket.AF_INET, ("0.0.0.0", 0)).getsockname()[1],
            "udp": listen(socket.AF_INET, ("0.0.0.0", 0), socket.SOCK_DGRAM).getsockname()[1],
            "tcp6": 9,
            "abstract": name,
            "file": str(folder / "socket"),
            "address": _own_address(),
        }
        if Path("/proc/net/if_inet6").exists():
            described["tcp6"] = listen(socket.AF_INET6, ("::1", 0)).getsockname()[1]
        listen(socket.AF_UNIX, f"\0{name}")
        listen(socket.AF_UNIX, f"\0{name}-datagrams", socket.SOCK_DGRAM)
        listen(socket.AF_UNIX, str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        yield Host(described, sockets)


def _own_address() -> str:
    """Give the address that the host has towards others; that of its loopback where it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            any_socket.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return str(any_socket.getsockname()[0])


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are x86_64's")
def test_attempts_to_get_past_a_gateway_fail(all_worlds: Sandboxes, host: Host) -> None:
    served = replace(all_worlds, gateway={"ports": (8081,)})
    asked = json.dumps({"host": host.described, "attempts": ATTEMPTS}).encode()
    outcome = served.python(_PROGRAM, stdin=asked)
    assert outcome.text.splitlines() == [
        *(f"{name}: held" for name in ATTEMPTS),
        "still",
        "gateway 169.254.169.254 80",
    ]
    assert not host.was_reached()
    # Nothing of all that came to the gateway either, which is still there.
    assert [arrival[:3] for arrival in outcome.arrived] == [
        ("udp", "", 53),
        ("tcp", "169.254.169.254", 80),
    ]


def test_the_hosts_services_can_be_reached_from_the_host(host: Host) -> None:
    """So that the test above can fail."""
    port = host.described["tcp"]
    assert isinstance(port, int)
    with socket.create_connection(("127.0.0.1", port), 10):
        assert host.was_reached()
