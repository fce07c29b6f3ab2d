"""Who asks a registry: challenges answered with tokens or passwords, refusals told in words.

Knows the token scheme of the distribution project (auth/token, auth/oauth) and HTTP's Basic. A credential
goes to the registry that it is for, or to the token server which that registry names, over TLS (or on this
machine), and follows no redirect to another host. Knows nothing of images.
"""

from __future__ import annotations

import io
import math
import re
import threading
import time
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from reprobuild.errors import UpstreamError
from reprobuild.fetch.challenge import Challenge
from reprobuild.fetch.credentials import basic_of, is_loopback, without_query
from reprobuild.fetch.docker_credentials import Credentials, DockerCredentials
from reprobuild.fetch.http import Http, Response
from reprobuild.fetch.registry_refusal import small_body
from reprobuild.fetch.stranger_json import read_json
from reprobuild.fetch.transfer import StatusError, refusal

CLIENT = "reprobuild"
TOKEN_SECONDS = 60.0
"""How long a token is good where its server does not say (distribution, auth/token)."""
TOKEN_MARGIN = 5.0
"""Seconds before its end that a token is renewed."""

if TYPE_CHECKING:
    from reprobuild.fetch.authorized_http import AuthorizedHttp

_REPOSITORY = re.compile(r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/")


class _Proof(NamedTuple):
    """What an ``Authorization`` header says, as long as it is good."""

    value: str
    until: float
    """By ``time.monotonic``."""
    challenges: tuple[Challenge, ...]
    """What it answers."""


class RegistryAccess:
    """Tokens and passwords for registries, found out once each; for many threads."""

    def __init__(
        self, environment: Mapping[str, str], names: Mapping[str, str], given: Credentials | None = None
    ) -> None:
        """``names``: what a server's address (``https://host:port``) is called in Docker's files; ``given``:
        who asks these servers, instead of what the files say."""
        self._credentials = DockerCredentials(environment)
        self._names = names
        self._given = given
        self._asking = threading.Lock()
        self._found: dict[str, Credentials | None] = {}
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str, bool], _Proof] = {}
        self._more: dict[tuple[str, str], frozenset[str]] = {}

    def over(self, http: Http) -> AuthorizedHttp:
        """Give what asks registries over connections that are there."""
        from reprobuild.fetch.authorized_http import AuthorizedHttp

        return AuthorizedHttp(http, self)

    def want(self, url: str, scopes: Set[str]) -> None:
        """Let tokens for pushing to a repository be good for more: ``repository:x/y:pull``."""
        with self._lock:
            place = server_and_repository(url)
            if scopes != self._more.get(place, frozenset()):
                self._more[place] = frozenset(scopes)
                if not self._is_password(self._known.get((*place, True))):
                    self._known.pop((*place, True), None)

    def known(self, http: Http, url: str, *, writes: bool = False) -> str:
        """Give what ``Authorization`` should say at an address as far as that is known, or ``""``.

        A token that is about to end is renewed. ``writes``: for a request that changes something.
        Raises UpstreamError for a token server that gives no token.
        """
        found = self._find_proof(url, writes)
        if found is None or time.monotonic() < found.until:
            return found.value if found is not None else ""
        return self.answer(http, url, found.challenges, found.value, writes=writes)

    def answer(
        self, http: Http, url: str, challenges: Sequence[Challenge], tried: str, *, writes: bool = False
    ) -> str:
        """Answer a server's challenges; ``tried``: what did not do. Gives ``""`` where nothing can be said.

        Raises UpstreamError for a token server that gives no token.
        """
        with self._lock:
            known = self._find_proof(url, writes)
            if known is not None and known.value != tried:
                return known.value  # another thread was faster
            writes = writes or self._find_proof(url, True) is known is not None
            found = self._answer(http, url, challenges, writes)
            if found is None or found.value == tried:
                return ""
            self._known[*server_and_repository(url), writes] = found
            return found.value

    def widen(self, http: Http, url: str, tried: str) -> str:
        """Give a proof that is good for writing where one for reading did not do, ``""`` where there is none.

        Some registries tell of a repository that is not there yet only whoever may make it. Raises
        UpstreamError for a token server that gives no token.
        """
        found = self._find_proof(url, False)
        if found is None or not self.has_credentials(url):
            return ""
        return self.answer(http, url, found.challenges, tried, writes=True)

    def has_credentials(self, url: str) -> bool:
        """Whether anything is kept for the registry of an address."""
        return self._find(url) is not None

    def keeps_back(self, url: str) -> bool:
        """Whether something is kept for the registry of an address that is not sent to one without TLS."""
        return not _is_safe(url) and self._kept(url) is not None

    def name(self, url: str) -> str:
        """Give what people call the server of an address."""
        return self._names.get(_base(url), urlsplit(url).netloc)

    def _find(self, url: str) -> Credentials | None:
        return self._kept(url) if _is_safe(url) else None

    def _kept(self, url: str) -> Credentials | None:
        if self._given is not None and _base(url) in self._names:
            return self._given
        name = self.name(url)
        with self._asking:  # a helper may take its time, or ask somebody: once is enough
            if name not in self._found:
                self._found[name] = self._credentials.find(name)
            return self._found[name]

    def _find_proof(self, url: str, writes: bool) -> _Proof | None:
        """Give what is known for reading, or for writing, which reading may use too."""
        base, repository = server_and_repository(url)
        writing = self._known.get((base, repository, True))
        reading = self._known.get((base, repository, False))
        if writes:
            return writing or (reading if self._is_password(reading) else None)
        return writing or reading

    @staticmethod
    def _is_password(proof: _Proof | None) -> bool:
        return proof is not None and proof.value.startswith("Basic ")

    def _answer(self, http: Http, url: str, challenges: Sequence[Challenge], writes: bool) -> _Proof | None:
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                token, seconds = self._token(http, url, challenge.parameters, writes)
                return _Proof(token, time.monotonic() + seconds, tuple(challenges))
        credentials = self._find(url)
        said = http.authorization(url)
        if credentials is not None:
            said = basic_of(credentials.user, credentials.password) if credentials.user else ""
        if said and any(challenge.scheme == "basic" for challenge in challenges):
            return _Proof(said, math.inf, tuple(challenges))
        return None

    def _scopes(self, url: str, asked: str, writes: bool) -> list[str]:
        """Give what a token is to be good for: what the server asked for, and what will be asked soon."""
        repository = server_and_repository(url)[1]
        scopes = asked.split()
        if writes:
            scopes += [
                f"repository:{repository}:pull,push",
                *sorted(self._more.get(server_and_repository(url), ())),
            ]
        elif not scopes and repository:
            scopes = [f"repository:{repository}:pull"]
        actions: dict[str, set[str]] = {}
        for scope in scopes:
            resource, _, named = scope.rpartition(":")
            actions.setdefault(resource, set()).update(named.split(","))
        return [f"{resource}:{','.join(sorted(named))}" for resource, named in actions.items()]

    def _token(self, http: Http, url: str, parameters: Mapping[str, str], writes: bool) -> tuple[str, float]:
        """Give a token, and the seconds for which it is good."""
        realm = parameters["realm"]
        if not _is_address(realm):
            raise UpstreamError(f"{self.name(url)} names a token server that makes no sense: {realm[:200]!r}")
        credentials = self._find(url)
        if credentials is not None and not _is_safe(realm):
            raise UpstreamError(
                f"{self.name(url)} wants its password sent to {without_query(realm)}, which is not safe",
                "the registry has to name a token server with https",
            )
        scopes = self._scopes(url, parameters.get("scope", ""), writes)
        service = parameters.get("service", "")
        if credentials is not None and credentials.identity_token:
            form = {"service": service, "scope": " ".join(scopes), "grant_type": "refresh_token",
                    "client_id": CLIENT, "refresh_token": credentials.identity_token}  # fmt: skip
            body = urlencode({name: value for name, value in form.items() if value}).encode()
            fields = [
                ("User-Agent", CLIENT),
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("Content-Length", str(len(body))),
            ]
            with http.exchange("POST", realm, fields, io.BytesIO(body)) as response:
                return self._read_token(url, realm, response)
        asked = [("service", service)] if service else []
        asked += [("scope", scope) for scope in scopes]
        address = realm + ("&" if "?" in realm else "?") + urlencode(asked, quote_via=quote)
        proof = basic_of(credentials.user, credentials.password) if credentials is not None else ""
        with http.open(address, {"Authorization": proof} if proof else {}) as response:
            return self._read_token(url, realm, response)

    def _read_token(self, url: str, realm: str, response: Response) -> tuple[str, float]:
        name, server = self.name(url), without_query(realm)
        if response.status in (401, 403):
            raise StatusError(
                f"{name}: its token server {server} answers {response.status}: "
                + ("the password is wrong" if self.has_credentials(url) else "it wants to know who asks"),
                f"docker login {name}",
                status=response.status,
            )
        if response.status != 200:
            raise refusal(response, server)
        try:
            answer = read_json(small_body(response))
            token = answer.get("token") or answer.get("access_token")
            seconds = answer.get("expires_in")
        except (ValueError, AttributeError, RecursionError):
            token = seconds = None
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise UpstreamError(f"{name}: its token server {server} gives no token")
        lasts = float(seconds) if isinstance(seconds, int) and 0 < seconds < 10**6 else TOKEN_SECONDS
        return f"Bearer {token}", lasts - min(lasts / 4, TOKEN_MARGIN)


def server_and_repository(url: str) -> tuple[str, str]:
    """Give the server of an address, and the repository."""
    match = _REPOSITORY.search(urlsplit(url).path)
    return _base(url), match[1] if match else ""


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _base(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _is_safe(url: str) -> bool:
    """Whether a password may be sent to an address: with TLS, or on this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" or is_loopback(host)
