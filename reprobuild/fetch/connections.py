"""Pools of connections: one for each way out (direct, or through a proxy), to addresses that may be reached.

Knows nothing of requests, redirects or credentials but a proxy's own.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from reprobuild.errors import UsageError
from reprobuild.fetch.credentials import basic, plain

if TYPE_CHECKING:
    from reprobuild.fetch.reach import Reach

POOLS = 32


def make_manager(
    proxy: str, trust: ssl.SSLContext, reach: Reach | None, connections: int
) -> urllib3.PoolManager:
    """Make the pools of a way out; ``proxy``: its address, ``""`` for direct connections.

    ``reach``: what direct connections may go to, None: anything. Raises UsageError for a proxy of
    another kind than http.
    """
    if not proxy:
        manager = urllib3.PoolManager(
            num_pools=POOLS, maxsize=connections, ssl_context=trust, retries=False, blocksize=65536
        )
        if reach is not None:
            manager.pool_classes_by_scheme = _pools(reach)
        return manager
    address = proxy if "://" in proxy else "http://" + proxy
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        raise UsageError(
            f"the proxy {plain(address)} is neither http nor https",
            "set http_proxy and https_proxy to an http proxy, or unset them",
        )
    credentials = basic(parts)
    return urllib3.ProxyManager(
        plain(address),
        num_pools=POOLS,
        maxsize=connections,
        ssl_context=trust,
        proxy_headers={"Proxy-Authorization": credentials} if credentials else None,
        retries=False,
        blocksize=65536,
    )


def _pools(reach: Reach) -> dict[str, type[HTTPConnectionPool]]:
    """Make pool classes whose connections go where ``reach`` says; names stay what is verified."""

    class Direct(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, reach)

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, reach)

    class DirectPool(HTTPConnectionPool):
        ConnectionCls = Direct

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": DirectPool, "https": SecurePool}


def _connect(connection: HTTPConnection, reach: Reach) -> socket.socket:
    """Do what urllib3 does for a new connection, at addresses that were looked at before."""
    host, port = connection._dns_host, connection.port
    try:
        places = reach.addresses(host, port)
    except (socket.gaierror, UnicodeError) as error:
        reason = (
            error if isinstance(error, socket.gaierror) else socket.gaierror(socket.EAI_NONAME, str(error))
        )
        raise NameResolutionError(host, connection, reason) from error
    failure: OSError = OSError("no address")
    for place in places:
        try:
            return create_connection(
                place,
                connection.timeout,
                source_address=connection.source_address,
                socket_options=connection.socket_options,
            )
        except OSError as error:
            failure = error
    if isinstance(failure, TimeoutError):
        raise ConnectTimeoutError(connection, f"Connection to {host} timed out") from failure
    raise NewConnectionError(connection, f"Failed to establish a new connection: {failure}") from failure
