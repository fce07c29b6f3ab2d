"""Who comes in at a gateway's door is told apart (TLS, HTTP, DNS, none of these) and served in a thread.

Knows nothing of what is recorded. Threads and blocking sockets: a client that is slow keeps its own
thread busy and nobody else's.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import h11

from reprobuild.engine.protocol import Arrival, Door
from reprobuild.errors import ReprobuildError
from reprobuild.gateway import dns, refusal
from reprobuild.gateway.addresses import Addresses
from reprobuild.gateway.certificates import Certificates
from reprobuild.gateway.conversation import Conversation, Desk, ResetError
from reprobuild.gateway.hello import server_name

MOST_CONNECTIONS = 512
"""Clients at a time; who comes then is cut off."""
FIRST_SECONDS = 60.0
"""The longest silence at the beginning of a connection."""
IDLE_SECONDS = 3600.0
LAST_SECONDS = 0.25
"""How long connections are read to their end when the command has ended."""
DNS_PORT = 53

_TLS_HANDSHAKE = 0x16


class Client:
    """One connection, and what is known of it."""

    def __init__(self, arrival: Arrival, host: str) -> None:
        self.connection = arrival.connection
        self.host = host
        """The name whose address was connected to, or that address."""
        self.port = arrival.port
        self.program = arrival.program
        self.named = ""
        """The name that the client gave (SNI)."""
        self._arrival = arrival

    def reset(self) -> None:
        """Cut it off."""
        self._arrival.reset(self.connection)


class Server:
    """Serves what comes in at a door until it is closed."""

    def __init__(
        self,
        door: Door,
        certificates: Certificates,
        addresses: Addresses,
        desk_of: Callable[[Client], Desk],
        looked_up: Callable[[str], None],
        is_cut_off: Callable[[str], bool],
    ) -> None:
        """``is_cut_off``: whether a host is refused before anything else is said."""
        self._door = door
        self._addresses = addresses
        self._desk_of = desk_of
        self._looked_up = looked_up
        self._is_cut_off = is_cut_off
        self._clients: dict[threading.Thread, Client] = {}
        self._lock = threading.Lock()
        self._is_closing = False
        self._is_cutting = False
        self._certificates = certificates

    def start(self) -> None:
        """Begin to serve, in threads."""
        self._door.open(self._take, lambda asked: dns.answer(asked, self._addresses, self._looked_up))

    def close(self, seconds: float = 5.0) -> None:
        """End all connections and threads."""
        deadline = time.monotonic() + seconds
        self._door.close()
        with self._lock:
            self._is_closing = True
        # Where the other side has ended, what came last is still read: it may be what has to be reported.
        self._join(time.monotonic() + LAST_SECONDS)
        self._is_cutting = True
        for client in list(self._clients.values()):
            with suppress(OSError):
                # The plain call: SSLSocket's own takes away what its thread is reading from.
                socket.socket.shutdown(client.connection, socket.SHUT_RDWR)
        self._join(deadline)

    def _join(self, deadline: float) -> None:
        for thread in list(self._clients):
            thread.join(max(0.0, deadline - time.monotonic()))

    def _take(self, arrival: Arrival) -> None:
        client = Client(arrival, self._addresses.name(arrival.address) or _plain(arrival.address))
        with self._lock:
            if self._is_closing or len(self._clients) >= MOST_CONNECTIONS:
                client.reset()
                return
            thread = threading.Thread(target=self._serve, args=(client,), name="gateway-client", daemon=True)
            self._clients[thread] = client
        try:
            thread.start()
        except RuntimeError:  # no more threads can be had
            client.reset()
            with self._lock:
                del self._clients[thread]

    def _serve(self, client: Client) -> None:
        try:
            client.connection.settimeout(FIRST_SECONDS)
            if _is_loopback(client.host):
                raise ResetError
            if client.port == DNS_PORT:
                self._answer_stream(client.connection)
            else:
                self._serve_http(client)
        except (ResetError, ReprobuildError, h11.ProtocolError):
            client.reset()
        except (OSError, ValueError):
            pass  # the client went away, or we are closing
        finally:
            with suppress(OSError):
                client.connection.close()
            with self._lock:
                self._clients.pop(threading.current_thread(), None)

    def _serve_http(self, client: Client) -> None:
        desk = self._desk_of(client)
        try:
            first = client.connection.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            desk.refuse(why=refusal.NOT_HTTP)
            return
        if not first:
            return
        scheme = "http"
        if first[0] == _TLS_HANDSHAKE:
            scheme = "https"
            self._secure(client, desk)
        elif not first.isalpha():
            desk.refuse(why=refusal.NOT_HTTP)
            raise ResetError
        client.connection.settimeout(IDLE_SECONDS)
        conversation = Conversation(client.connection, scheme, (client.host, client.port), desk)
        conversation.run()
        if scheme == "https" and not conversation.requests and not self._is_cutting:
            desk.refuse(why=refusal.BROKEN_OFF)
        conversation.end()

    def _secure(self, client: Client, desk: Desk) -> None:
        """Answer the handshake, by the certificate of the name that is meant."""
        if desk.resets:
            client.named = server_name(client.connection)
            if self._is_cut_off(client.named or client.host):
                desk.refuse()
                raise ResetError
        secure = self._certificates.wrap(client.connection, client.host)
        with self._lock:
            client.connection = secure
            if self._is_closing:
                raise ResetError
        try:
            secure.do_handshake()
            client.named = secure.named
        except OSError as error:
            client.named = secure.named
            if not self._is_cutting:
                desk.refuse(why=_why_no_handshake(error))
            raise ResetError from None

    def _answer_stream(self, connection: socket.socket) -> None:
        """Answer DNS over TCP (RFC 7766): each message after its length."""
        while True:
            size = _read_exactly(connection, 2)
            if size is None:
                return
            data = _read_exactly(connection, struct.unpack("!H", size)[0])
            reply = dns.answer(data, self._addresses, self._looked_up) if data else None
            if reply is None:
                return
            connection.sendall(struct.pack("!H", len(reply)) + reply)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _plain(address: str) -> str:
    """Give an IPv4 address that came in IPv6's clothes as it is, and none with a scope."""
    bare = address.partition("%")[0]
    mapped = bare.lower().removeprefix("::ffff:")
    return mapped if mapped != bare.lower() and "." in mapped else bare


def _why_no_handshake(error: OSError) -> str:
    reason = getattr(error, "reason", None) or ""
    if any(word in reason for word in ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN")):
        return refusal.UNTRUSTED
    went_away = not reason or "ALERT" in reason or "EOF" in reason
    return refusal.BROKEN_OFF if went_away else refusal.NOT_HTTP


def _read_exactly(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            return None
        data += more
    return data
