"""HTTP: one pool of connections, with redirects, credentials, proxies and trust in one place.

With ``connections`` and ``unreachable`` the only file that imports urllib3. Knows nothing of stores,
digests or what the bytes are for.

Bodies come as the server holds them (``Accept-Encoding: identity``, nothing decoded). Redirects are
followed here, at most ``MOST_REDIRECTS``, never from https to http. Credentials (of the address, or
of ``netrc`` by host) go to the origin that was asked for, and to no other.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError

from reprobuild.errors import UpstreamError, UsageError
from reprobuild.fetch.connections import make_manager
from reprobuild.fetch.credentials import basic, basic_of, is_loopback, read_netrc
from reprobuild.fetch.credentials import plain as plain
from reprobuild.fetch.credentials import without_query as without_query
from reprobuild.fetch.reach import Reach
from reprobuild.fetch.unreachable import UnreachableError as UnreachableError
from reprobuild.fetch.unreachable import is_network_cut as is_network_cut
from reprobuild.fetch.unreachable import unreachable

if TYPE_CHECKING:
    from reprobuild.settings import Settings

MOST_REDIRECTS = 10
CONNECT_SECONDS = 20.0
READ_SECONDS = 60.0
"""The longest silence in the middle of a body."""

CA_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Where the ecosystem names more authorities; ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` OpenSSL reads itself."""
SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where distributions keep their authorities, for a Python whose OpenSSL looks elsewhere."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
PERMANENT = frozenset({301, 308})
Body = BinaryIO | Iterable[bytes] | None
"""What a request carries: a file, or pieces."""
PRIVATE = frozenset({"authorization", "cookie"})
"""Fields that no redirect takes to another origin."""


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """An open answer: read it with ``read``; closed by the ``with`` block that gave it."""

    url: str
    """Where the bytes came from at last, without credentials and query."""
    moved_to: str
    """Where permanent redirects led from the address that was asked for, without credentials and query, or
    empty."""
    status: int
    headers: Mapping[str, str]
    """Names in any case."""
    raw: urllib3.BaseHTTPResponse

    @property
    def length(self) -> int | None:
        """What ``Content-Length`` says, in bytes."""
        value = self.headers.get("content-length", "")
        return int(value) if value.isascii() and value.isdigit() else None

    def read(self, size: int) -> bytes:
        """Give at most ``size`` bytes of the body as it travels, ``b""`` at its end.

        Raises UnreachableError where the body is cut off or silent.
        """
        try:
            return self.raw.read(size, decode_content=False)
        except (HTTPError, OSError, ValueError) as error:
            raise unreachable(self.url, error) from None

    def stop(self) -> None:
        """Make a ``read`` in another thread end; the connection is of no use afterwards."""
        try:
            self.raw.shutdown()
        except (ValueError, OSError, AttributeError, RuntimeError):
            return


class Http:
    """Connections to any number of servers, kept open between requests; for many threads."""

    def __init__(
        self, environment: Mapping[str, str], *, connections: int = 8, settings: Settings | None = None
    ) -> None:
        """Take proxies, trust and ``netrc`` from an environment (``os.environ``).

        ``settings``: where connections may go and go instead (``reach``); None: anywhere, for what no
        recipe names. Raises UsageError for a bundle of authorities that cannot be read.
        """
        from reprobuild import __version__

        self._environment = environment
        self._agent = f"reprobuild/{__version__}"
        self._connections = connections
        self._reach = Reach(settings) if settings is not None else None
        self._trust = _trust(environment)
        self._proxies = _proxies(environment)
        self._lock = threading.Lock()
        self._managers: dict[str, urllib3.PoolManager] = {}
        self._netrc = read_netrc(environment)

    def __enter__(self) -> Http:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        for manager in self._managers.values():
            manager.clear()

    @contextmanager
    def open(
        self, url: str, headers: Mapping[str, str] | None = None, *, method: str = "GET"
    ) -> Iterator[Response]:
        """Ask for an address and follow where it leads; any status but a redirect is given back.

        ``method``: ``GET`` or ``HEAD``; ``headers`` that prove who asks (``PRIVATE``) go to the origin that
        was asked for alone.

        Raises UnreachableError, UpstreamError (redirects without end, or to what is no http).
        """
        origin, authorization = self._authorization(urlsplit(url))
        asked = shown = plain(url)
        moved_to = ""
        permanently = True
        for _ in range(MOST_REDIRECTS + 1):
            fields = {"User-Agent": self._agent, "Accept-Encoding": "identity", **(headers or {})}
            if _origin(asked) != origin:
                fields = {name: value for name, value in fields.items() if name.lower() not in PRIVATE}
            elif authorization:
                fields.setdefault("Authorization", authorization)
            raw = self._request(asked, fields, method=method)
            location = raw.headers.get("location") if raw.status in REDIRECTS else None
            if location is None:
                try:
                    yield Response(without_query(asked) if asked != shown else shown, moved_to, raw.status,
                                   raw.headers, raw)  # fmt: skip
                finally:
                    _let_go(raw)
                return
            _let_go(raw)
            asked, before = follow(asked, location, shown), asked
            permanently = permanently and raw.status in PERMANENT
            if permanently and asked != before:
                moved_to = without_query(asked)
        raise UpstreamError(f"{shown} redirects more than {MOST_REDIRECTS} times")

    @contextmanager
    def exchange(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: Body = None,
        *,
        silence: float = READ_SECONDS,
    ) -> Iterator[Response]:
        """Send one request as it is given, and give the answer as it comes: no redirect is followed.

        ``headers``: all that are sent, but for ``Host``, which the address gives; with a ``body`` they say
        its length. ``silence``: seconds that the server may take to answer. Credentials are the caller's to
        add (``authorization``). Raises UnreachableError, UpstreamError.
        """
        fields = urllib3.HTTPHeaderDict()
        for name, value in headers:
            fields.add(name, value)
        for name in ("User-Agent", "Accept-Encoding"):
            if name not in fields:
                fields[name] = urllib3.util.SKIP_HEADER
        raw = self._request(url, fields, method=method, body=body, silence=silence)
        try:
            yield Response(without_query(url), "", raw.status, raw.headers, raw)
        finally:
            _let_go(raw)

    def trust(self, hosts: Iterable[str]) -> None:
        """Let hosts have addresses that are not public: those that an index of the settings led to."""
        if self._reach is not None:
            self._reach.trust(hosts)

    def authorization(self, url: str) -> str:
        """Give what ``Authorization`` would say for an address, or ``""``."""
        return self._authorization(urlsplit(url))[1]

    def has_credentials(self, url: str) -> bool:
        """Whether something would be sent to prove who asks."""
        return bool(self._authorization(urlsplit(url))[1])

    def _request(
        self,
        url: str,
        fields: Mapping[str, str],
        *,
        method: str = "GET",
        body: Body = None,
        silence: float = READ_SECONDS,
    ) -> urllib3.BaseHTTPResponse:
        try:
            manager = self._manager(url)
            # A pool of its own host takes the path as it is; a proxy needs the whole address.
            ask = manager if manager.proxy else manager.connection_from_url(url)
            return ask.urlopen(
                method,
                url if manager.proxy else _target(url),
                body=body,
                headers=fields,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                # The time to connect is also the time that a piece of the body may take to go out.
                timeout=urllib3.Timeout(
                    connect=CONNECT_SECONDS if silence <= READ_SECONDS else READ_SECONDS, read=silence
                ),
            )
        except LocationValueError as error:
            raise UnreachableError(f"{without_query(url)}: {error}", final=True) from None
        except UpstreamError as error:
            raise type(error)(f"{without_query(url)}: {error.message}", error.hint) from None
        except (HTTPError, OSError, UnicodeError) as error:
            raise unreachable(without_query(url), error) from None

    def _manager(self, url: str) -> urllib3.PoolManager:
        scheme, host, port = _origin(url)
        proxy = self._proxies.get(scheme) or self._proxies.get("all") or ""
        if proxy and _is_direct(host, self._proxies.get("no", "")):
            proxy = ""
        if proxy and self._reach is not None:
            if self._reach.is_redirected(host, port or 0):
                proxy = ""
            else:
                self._reach.check_literal(host)
        with self._lock:
            if proxy not in self._managers:
                self._managers[proxy] = make_manager(proxy, self._trust, self._reach, self._connections)
            return self._managers[proxy]

    def _authorization(self, parts: SplitResult) -> tuple[tuple[str, str, int | None], str]:
        """Give the origin that may see credentials, and the header's value or ``""``."""
        origin = _origin(urlunsplit(parts))
        if parts.username:
            return origin, basic(parts)
        host = parts.hostname or ""
        found = self._netrc.get(host)
        if found is None or (parts.scheme != "https" and not is_loopback(host)):
            return origin, ""
        return origin, basic_of(found[0], found[1])


def follow(url: str, location: str, first: str) -> str:
    """Give where a redirect leads; ``first``: how errors call the address that was asked for.

    Raises UpstreamError for what is no http address, and from https to http.
    """
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        _ = parts.port
    except ValueError as error:
        raise UpstreamError(f"{first} redirects to what is no address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UpstreamError(f"{first} redirects to {without_query(target)!r}, which is no http address")
    if urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise UpstreamError(
            f"{first} redirects from https to plain http, at {without_query(target)}",
            "name an https address; what travels in the clear can be changed on the way",
        )
    return plain(target)


def is_same_origin(url: str, other: str) -> bool:
    """Whether what proves who asks at one address may be sent to another (RFC 6454, 4)."""
    return _origin(url) == _origin(other)


def _target(url: str) -> str:
    """Give the path and query of an address, as a request names them to its own host."""
    parts = urlsplit(url)
    return urlunsplit(("", "", parts.path or "/", parts.query, ""))


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, (parts.hostname or "").lower(), port


def _proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the proxy of each scheme, and what ``no`` leaves out; lower-case names win."""
    found = {}
    for name, value in sorted(environment.items()):
        scheme, _, kind = name.lower().rpartition("_")
        if kind == "proxy" and value and (name != "HTTP_PROXY" or "REQUEST_METHOD" not in environment):
            found[scheme] = value
    return found


def _is_direct(host: str, excepted: str) -> bool:
    """Whether ``no_proxy`` names a host, a domain above it, or everything."""
    names = [name.strip().lower().lstrip(".") for name in excepted.split(",")]
    return any(name and (name == "*" or host == name or host.endswith("." + name)) for name in names)


def _trust(environment: Mapping[str, str]) -> ssl.SSLContext:
    from reprobuild.fetch.python_index import configured_certificates

    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    has_defaults = context.cert_store_stats()["x509_ca"] > 0
    loaded = {os.path.realpath(paths.cafile)} if paths.cafile and has_defaults else set()
    given = {"PIP_CERT": configured_certificates(environment), **environment}
    for name in CA_VARIABLES:
        path = given.get(name)
        # They name the same bundle more often than not, and one takes 20 ms and more to read.
        if not path or os.path.realpath(path) in loaded:
            continue
        loaded.add(os.path.realpath(path))
        try:
            if os.path.isdir(path):
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"{name}={path}: no bundle of certificates can be read there: {error}",
                f"unset {name}, or let it name a PEM file",
            ) from None
    if not context.cert_store_stats()["x509_ca"] and not (paths.cafile or paths.capath):
        for bundle in filter(os.path.isfile, SYSTEM_BUNDLES):
            context.load_verify_locations(cafile=bundle)
            break
    return context


def _let_go(raw: urllib3.BaseHTTPResponse) -> None:
    """Give the connection back where the body was read or is short, else close it."""
    try:
        length = raw.headers.get("content-length", "")
        is_short = raw.status in REDIRECTS and length.isdigit() and int(length) < 65536
        if is_short or getattr(raw, "length_remaining", None) == 0:
            raw.drain_conn()
            raw.release_conn()
        elif raw.closed:
            raw.release_conn()
        else:
            raw.close()
            raw.release_conn()
    except (HTTPError, OSError):
        raw.close()
