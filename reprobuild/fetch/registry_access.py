"""Who asks a registry: challenges answered with tokens or passwords, refusals told in words.

Knows the token scheme of the distribution project (auth/token, auth/oauth) and HTTP's Basic. A credential
goes to the registry that it is for, or to the token server which that registry names, over TLS (or on this
machine), and follows no redirect to another host. Knows nothing of images.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from reprobuild.errors import UpstreamError
from reprobuild.fetch.credentials import basic_of, is_loopback, without_query
from reprobuild.fetch.docker_credentials import Credentials, DockerCredentials
from reprobuild.fetch.http import Http, Response
from reprobuild.fetch.transfer import StatusError, refusal
from reprobuild.images.manifest import DOCKER_SCHEMA_1, INDEXES, MANIFESTS

ACCEPT = ", ".join((*INDEXES, *MANIFESTS, *(f"{kind};q=0.1" for kind in DOCKER_SCHEMA_1)))
"""Types of manifests; old ones too, so that they can be refused by name."""
LARGEST_ANSWER = 1024 * 1024
"""Bytes of a token server's answer, or of what a registry says of an error."""
CLIENT = "reprobuild"
LONGEST_SAID = 300

_REPOSITORY = re.compile(r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/")


class Challenge(NamedTuple):
    """How a server wants to be told who asks (RFC 9110, 11.6.1)."""

    scheme: str
    """Lower-case."""
    parameters: Mapping[str, str]
    """Names lower-case."""


class RegistryAccess:
    """Tokens and passwords for registries, found out once each; for many threads."""

    def __init__(self, environment: Mapping[str, str], names: Mapping[str, str]) -> None:
        """``names``: what a server's address (``https://host:port``) is called in Docker's files."""
        self._credentials = DockerCredentials(environment)
        self._names = names
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], str] = {}

    def over(self, http: Http) -> AuthorizedHttp:
        """Give what asks registries over connections that are there."""
        return AuthorizedHttp(http, self)

    def known(self, url: str) -> str:
        """Give what ``Authorization`` should say at an address as far as that is known, or ``""``."""
        return self._known.get(_key(url), "")

    def answer(self, http: Http, url: str, challenges: list[Challenge], tried: str) -> str:
        """Answer a server's challenges; ``tried``: what did not do. Gives ``""`` where nothing can be said.

        Raises UpstreamError for a token server that gives no token.
        """
        with self._lock:
            known = self._known.get(_key(url), "")
            if known and known != tried:
                return known  # another thread was faster
            found = self._answer(http, url, challenges)
            if found == tried:
                return ""
            if found:
                self._known[_key(url)] = found
            return found

    def has_credentials(self, url: str) -> bool:
        """Whether anything is kept for the registry of an address."""
        return self._find(url) is not None

    def name(self, url: str) -> str:
        """Give what people call the server of an address."""
        return self._names.get(_base(url), urlsplit(url).netloc)

    def _find(self, url: str) -> Credentials | None:
        return self._credentials.find(self.name(url)) if _is_safe(url) else None

    def _answer(self, http: Http, url: str, challenges: list[Challenge]) -> str:
        for challenge in challenges:
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                return self._token(http, url, challenge.parameters)
        credentials = self._find(url)
        if credentials is not None and credentials.user:
            for challenge in challenges:
                if challenge.scheme == "basic":
                    return basic_of(credentials.user, credentials.password)
        return ""

    def _token(self, http: Http, url: str, parameters: Mapping[str, str]) -> str:
        realm = parameters["realm"]
        if not _is_address(realm):
            raise UpstreamError(f"{self.name(url)} names a token server that makes no sense: {realm[:200]!r}")
        credentials = self._find(url)
        if credentials is not None and not _is_safe(realm):
            raise UpstreamError(
                f"{self.name(url)} wants its password sent to {without_query(realm)}, which is not safe",
                "the registry has to name a token server with https",
            )
        repository = _key(url)[1]
        scope = parameters.get("scope") or (f"repository:{repository}:pull" if repository else "")
        asked = {"service": parameters.get("service", ""), "scope": scope}
        asked = {name: value for name, value in asked.items() if value}
        if credentials is not None and credentials.identity_token:
            form = {**asked, "grant_type": "refresh_token", "client_id": CLIENT,
                    "refresh_token": credentials.identity_token}  # fmt: skip
            body = urlencode(form).encode()
            fields = [
                ("User-Agent", CLIENT),
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("Content-Length", str(len(body))),
            ]
            with http.exchange("POST", realm, fields, io.BytesIO(body)) as response:
                return self._read_token(url, realm, response)
        address = realm + ("&" if "?" in realm else "?") + urlencode(asked, quote_via=quote)
        proof = basic_of(credentials.user, credentials.password) if credentials is not None else ""
        with http.open(address, {"Authorization": proof} if proof else {}) as response:
            return self._read_token(url, realm, response)

    def _read_token(self, url: str, realm: str, response: Response) -> str:
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
            answer = json.loads(_small(response))
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise UpstreamError(f"{name}: its token server {server} gives no token")
        return f"Bearer {token}"


class AuthorizedHttp:
    """Asks registries over connections that are there, proving who asks where a registry wants that."""

    def __init__(self, http: Http, access: RegistryAccess) -> None:
        self._http = http
        self._access = access

    @contextmanager
    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[Response]:
        """Ask for an address as ``Http.open`` does; what is no success is a StatusError in words.

        ``416`` is given back: the caller knows what it asked for. Raises UpstreamError.
        """
        authorization = self._access.known(url)
        asked = {"Accept": ACCEPT, **(headers or {})} if "/manifests/" in url else dict(headers or {})
        for _ in range(2):
            proof = {"Authorization": authorization} if authorization else {}
            with self._http.open(url, {**asked, **proof}) as response:
                if response.status != 401 or _base(response.url) != _base(url):
                    if response.status >= 400 and response.status != 416:
                        raise self._refusal(response, url)
                    yield response
                    return
                challenges = read_challenges(_all(response, "www-authenticate"))
                refused = self._refusal(response, url)
            authorization = self._access.answer(self._http, url, challenges, authorization)
            if not authorization:
                raise refused
        raise refused

    def _refusal(self, response: Response, url: str) -> StatusError:
        """Say what a registry's refusal means, and what helps."""
        error = refusal(response, url)
        name, status = self._access.name(url), response.status
        if _base(response.url) != _base(url):
            error.message = f"{name} led to {response.url}, which answers {status}"
        else:
            what = _key(url)[1] or urlsplit(url).path
            reasons = {
                401: "it wants to know who asks",
                403: "whoever asks may not have it",
                404: "there is no such thing",
                429: "it was asked too often",
            }
            has = self._access.has_credentials(url)
            if status == 401 and has:
                reasons[401] = "it does not take the user name and password that are kept for it"
            reason = reasons.get(status, response.raw.reason or "")
            error.message = f"{name} answers {status} for {what}: {reason}".rstrip(": ") + _said(response)
            if status == 429 and error.delay:
                error.message += f" (again in {error.delay:.0f} s)"
            hints = {
                401: f"docker login {name}",
                403: f"docker login {name}, as somebody who may; of a wrong name many say this, too",
                404: "look whether the name and the tag are right; a tag may have been removed",
                429: f'docker login {name} raises the limit; or name a mirror: [mirrors] oci = ["{name}=https://…"]',
            }
            error.hint = hints.get(status, error.hint)
        error.args = (error.message,)
        return error


def read_challenges(values: list[str]) -> list[Challenge]:
    """Read the values of ``WWW-Authenticate`` headers; what makes no sense is passed over."""
    found: list[Challenge] = []
    for value in values:
        for match in _CHALLENGE.finditer(value[:8192]):
            scheme, name, quoted, bare = match["scheme"], match["name"], match["quoted"], match["bare"]
            if scheme:
                found.append(Challenge(scheme.lower(), {}))
            elif found:
                text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
                last = found[-1]
                found[-1] = Challenge(last.scheme, {**last.parameters, name.lower(): text})
    return found


_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_CHALLENGE = re.compile(
    rf'(?P<name>{_TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>{_TOKEN}))'
    rf"|(?P<scheme>{_TOKEN})(?=\s|,|$)"
)


def _key(url: str) -> tuple[str, str]:
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


def _all(response: Response, name: str) -> list[str]:
    return list(response.raw.headers.getlist(name))


def _said(response: Response) -> str:
    """Give what a registry says of an error (distribution specification, "Error Codes"), made fit to show."""
    try:
        error = json.loads(_small(response))["errors"][0]
        text = str(error.get("message") or error.get("code") or "")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, UpstreamError):
        return ""
    shown = "".join(char if char.isprintable() else " " for char in text[:LONGEST_SAID]).strip()
    return f": {shown}" if shown else ""


def _small(response: Response) -> bytes:
    parts, size = [], 0
    while (chunk := response.read(64 * 1024)) and size < LARGEST_ANSWER:
        parts.append(chunk)
        size += len(chunk)
    return b"".join(parts)
