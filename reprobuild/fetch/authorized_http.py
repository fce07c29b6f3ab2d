"""Requests to registries that prove who asks, where and as a registry wants that.

A proof goes to the registry's own origin alone. Knows nothing of images, nor of how a proof is had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from reprobuild import __version__
from reprobuild.errors import UpstreamError
from reprobuild.fetch.challenge import Challenge, read_challenges
from reprobuild.fetch.credentials import without_query
from reprobuild.fetch.http import (
    MOST_REDIRECTS,
    READ_SECONDS,
    REDIRECTS,
    Http,
    Response,
    follow,
    is_same_origin,
)
from reprobuild.fetch.registry_access import server_and_repository
from reprobuild.fetch.registry_refusal import READS, RegistryError, refuse
from reprobuild.images.manifest import DOCKER_SCHEMA_1, INDEXES, MANIFESTS

if TYPE_CHECKING:
    from reprobuild.fetch.registry_access import RegistryAccess

ACCEPT = ", ".join((*INDEXES, *MANIFESTS, *(f"{kind};q=0.1" for kind in DOCKER_SCHEMA_1)))
"""Types of manifests; old ones too, so that they can be refused by name."""
KEEPING = frozenset({307, 308})
"""Redirects that keep the method and the body."""


class AuthorizedHttp:
    """Asks registries over connections that are there, proving who asks where a registry wants that."""

    def __init__(self, http: Http, access: RegistryAccess) -> None:
        self._http = http
        self._access = access

    @contextmanager
    def open(
        self, url: str, headers: Mapping[str, str] | None = None, *, method: str = "GET"
    ) -> Iterator[Response]:
        """Ask for an address as ``Http.open`` does; what is no success is a RegistryError in words.

        ``416`` is given back: the caller knows what it asked for. Raises UpstreamError.
        """
        authorization = self._access.known(self._http, url)
        asked = {"Accept": ACCEPT, **(headers or {})} if "/manifests/" in url else dict(headers or {})
        is_fresh = is_wide = False
        while True:
            proof = {"Authorization": authorization} if authorization else {}
            with self._http.open(url, {**asked, **proof}, method=method) as response:
                if response.status < 400 or response.status == 416:
                    yield response
                    return
                here = is_same_origin(response.url, url)
                challenges = read_challenges(_all(response, "www-authenticate"))
                refused = self._refusal(response, url, led_elsewhere=not here, challenges=challenges)
            if not here or is_wide or refused.status not in (401, 403):
                raise refused
            if refused.status == 401 and not is_fresh:
                is_fresh = True
                authorization = self._access.answer(self._http, url, challenges, authorization)
            else:
                is_wide = True
                authorization = self._access.widen(self._http, url, authorization)
            if not authorization:
                raise refused

    @contextmanager
    def send(
        self,
        method: str,
        url: str,
        *,
        about: str,
        headers: Mapping[str, str],
        body: Callable[[], Iterable[bytes]] | None = None,
        size: int = 0,
        silence: float = READ_SECONDS,
    ) -> Iterator[Response]:
        """Send a request that changes something; what is no success is a RegistryError in words.

        ``about``: an address of the repository; who asks is proved to its origin alone, and ``url`` may
        have another. ``body``: makes the body anew, ``size``: its bytes; ``silence``: seconds that the
        server may take to answer. Redirects that keep the method are followed. Raises UpstreamError.
        """
        first = url
        for _ in range(MOST_REDIRECTS):
            with self._send(method, url, about, headers, body, size, silence) as response:
                if response.status not in REDIRECTS:
                    yield response
                    return
                location = response.headers.get("location", "")
                if response.status not in KEEPING or not location:
                    raise UpstreamError(
                        f"{self._access.name(about)} leads elsewhere with {response.status} when it is sent "
                        f"something, to {without_query(location)[:200] or 'nowhere'}",
                        "name the registry by the address at which it takes pushes",
                    )
                url = follow(url, location, without_query(first))
        raise UpstreamError(f"{without_query(first)} redirects more than {MOST_REDIRECTS} times")

    @contextmanager
    def _send(
        self,
        method: str,
        url: str,
        about: str,
        headers: Mapping[str, str],
        body: Callable[[], Iterable[bytes]] | None,
        size: int,
        silence: float,
    ) -> Iterator[Response]:
        here = is_same_origin(url, about)
        writes = method not in READS
        authorization = self._access.known(self._http, about, writes=writes) if here else ""
        for is_last in (False, True):
            fields = [("User-Agent", f"reprobuild/{__version__}"), *headers.items()]
            if writes:
                fields.append(("Content-Length", str(size)))
            if authorization:
                fields.append(("Authorization", authorization))
            pieces = body() if body is not None else None
            with self._http.exchange(method, url, fields, pieces, silence=silence) as response:
                if response.status != 401 or not here:
                    if response.status >= 300 and response.status not in REDIRECTS:
                        raise self._refusal(response, about, method=method, led_elsewhere=not here)
                    yield response
                    return
                challenges = read_challenges(_all(response, "www-authenticate"))
                refused = self._refusal(response, about, method=method, challenges=challenges)
            if not is_last:
                authorization = self._access.answer(
                    self._http, about, challenges, authorization, writes=writes
                )
            if is_last or not authorization:
                raise refused

    def _refusal(
        self,
        response: Response,
        url: str,
        *,
        method: str = "GET",
        led_elsewhere: bool = False,
        challenges: Sequence[Challenge] = (),
    ) -> RegistryError:
        matters = response.status == 401
        has_credentials = matters and self._access.has_credentials(url)
        too_little = any(one.parameters.get("error") == "insufficient_scope" for one in challenges)
        return refuse(
            response,
            name=self._access.name(url),
            what=server_and_repository(url)[1] or urlsplit(url).path,
            method=method,
            has_credentials=has_credentials,
            is_too_little=too_little and has_credentials,
            is_kept_back=matters and self._access.keeps_back(url),
            led_elsewhere=led_elsewhere,
        )


def _all(response: Response, name: str) -> list[str]:
    return list(response.raw.headers.getlist(name))
