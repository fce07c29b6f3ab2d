"""One download from one address: asked for, resumed, tried again, written to its partial.

Knows nothing of other addresses, of stores, nor of what a wrong body means.
"""

from __future__ import annotations

import email.utils
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from reprobuild.errors import UpstreamError
from reprobuild.fetch.http import Response, UnreachableError, plain
from reprobuild.fetch.partial import Partial

ATTEMPTS = 5
"""Times that one address is asked without a single new byte before it counts as failed."""
ATTEMPTS_WITH_ANOTHER = 2
"""The same, where there is another address to go to."""
FIRST_DELAY = 0.5
"""Seconds before the second attempt; doubled for each further one."""
MOST_PAGES = 4
"""Requests for one file, where pages lead to it."""
LONGEST_DELAY = 60.0
"""Seconds; a server that asks for more (Retry-After) counts as failed."""
CHUNK = 256 * 1024
WORTH_NOTING = 1024 * 1024
"""Bodies from this size on are resumed by the validator of their server."""
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that say: later."""

T = TypeVar("T")

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class StatusError(UpstreamError):
    """A server answered with another status than success."""

    def __init__(self, message: str, hint: str = "", *, status: int, delay: float | None = None) -> None:
        super().__init__(message, hint)
        self.status = status
        self.delay = delay
        """Seconds that the server asks to wait, or None."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A further request that a page leads to."""

    url: str
    headers: Mapping[str, str]


class Site(Protocol):
    """What is peculiar about asking for a file where it is; mirrors are asked as any host."""

    def headers(self, url: str) -> Mapping[str, str]:
        """Give what is sent to an address beside what is always sent."""

    def follow(self, response: Response, url: str) -> Asked | None:
        """Give where an answer leads that is not the file; None to take it as it is. Raises UpstreamError."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A whole body has come; the bytes are in the partial."""

    url: str
    """Where they came from at last."""
    moved_to: str = ""
    content_type: str = ""
    announced: int | None = None
    """Bytes of the whole body, as the server said."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the answer that had the bytes; names in any case."""


class Opener(Protocol):
    """Who asks: ``Http``, or something on top of it that knows how to prove who it is."""

    def open(self, url: str, headers: Mapping[str, str] | None = None) -> AbstractContextManager[Response]:
        """Ask for an address, as ``Http.open`` does."""


class Watch(Protocol):
    """Who follows a transfer: told of its bytes, asked whether it may go on and how to wait."""

    def begin(self, size: int | None) -> None:
        """Hear that bytes will come, and how many."""

    def progress(self, received: int) -> None:
        """Hear how many bytes there are; raises Stopped where the work is to end."""

    def wait(self, seconds: float) -> None:
        """Let time pass; raises Stopped where the work is to end."""

    def reading(self, response: Response) -> AbstractContextManager[None]:
        """Hold a response that may be stopped from another thread."""


def transfer(
    http: Opener,
    url: str,
    partial: Partial,
    watch: Watch,
    *,
    size: int | None,
    is_pinned: bool,
    most: int | None,
    attempts: int = ATTEMPTS,
    site: Site | None = None,
) -> Arrived:
    """Bring a body into its partial, going on from what is there.

    ``size``: bytes that it should have, where known; ``is_pinned``: whether the bytes will be
    checked against a digest, so that bytes of another server may be continued; ``most``: bytes
    after which to give up; ``site``: how this host wants to be asked. Raises UpstreamError.
    """
    return persist(
        lambda: _receive(http, url, partial, watch, size=size, is_pinned=is_pinned, most=most, site=site),
        wait=watch.wait,
        progress=lambda: partial.size,
        attempts=attempts,
    )


def persist(
    ask: Callable[[], T],
    *,
    wait: Callable[[float], None],
    progress: Callable[[], int],
    attempts: int = ATTEMPTS,
) -> T:
    """Ask until there is an answer, as long as asking again makes sense.

    ``progress``: bytes so far; whoever has more than before has all attempts again. Raises the last
    UpstreamError.
    """
    attempt = 0
    while True:
        before = progress()
        delay = None
        try:
            return ask()
        except UnreachableError as error:
            if error.final or error.network_is_cut:
                raise
            failure: UpstreamError = error
        except StatusError as error:
            if error.status not in BUSY or (error.delay or 0) > LONGEST_DELAY:
                raise
            failure, delay = error, error.delay
        attempt = 1 if progress() > before else attempt + 1
        if attempt >= attempts:
            failure.message = f"{failure.message} (asked {attempts} times)"
            failure.args = (failure.message,)
            raise failure
        if delay is None:
            delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (attempt - 1)) * random.uniform(0.75, 1.25)
        wait(delay)


@contextmanager
def ask(http: Opener, url: str, headers: Mapping[str, str], site: Site | None = None) -> Iterator[Response]:
    """Ask for an address, and go where a site's pages lead. Raises UpstreamError."""
    asked = Asked(url, site.headers(url) if site is not None else {})
    for _ in range(MOST_PAGES):
        with http.open(asked.url, {**headers, **asked.headers}) as response:
            following = site.follow(response, asked.url) if site is not None else None
            if following is None:
                yield response
                return
        assert site is not None
        asked = Asked(following.url, {**site.headers(following.url), **following.headers})
    raise UpstreamError(f"{plain(url)} leads from page to page, and to no file")


def _receive(
    http: Opener,
    url: str,
    partial: Partial,
    watch: Watch,
    *,
    size: int | None,
    is_pinned: bool,
    most: int | None,
    site: Site | None,
) -> Arrived:
    headers = _resumption(partial, url, is_pinned)
    with ask(http, url, headers, site) as response, watch.reading(response):
        total = _begin(response, partial, url)
        if total is not None and total == partial.size and response.status == 416:
            return _arrived(response, total)
        watch.begin(total if total is not None else size)
        validator = _validator(response)
        if validator and (total or 0) >= WORTH_NOTING and response.status == 200:
            partial.note(plain(url), validator)
        while chunk := response.read(CHUNK):
            partial.write(chunk)
            watch.progress(partial.size)
            if most is not None and partial.size > most:
                raise UpstreamError(
                    f"{plain(url)} sends more than {most:,} bytes"
                    + (f", where {size:,} are pinned" if size is not None else "")
                )
        wanted = total if total is not None else size
        if wanted is not None and partial.size < wanted:
            raise UnreachableError(f"{plain(url)}: the body ends after {partial.size:,} of {wanted:,} bytes")
        return _arrived(response, total)


def _arrived(response: Response, total: int | None) -> Arrived:
    kind = response.headers.get("content-type", "")
    return Arrived(
        response.url, response.moved_to, kind.partition(";")[0].strip().lower(), total, response.headers
    )


def _resumption(partial: Partial, url: str, is_pinned: bool) -> dict[str, str]:
    if not partial.size:
        return {}
    validator = partial.validator(plain(url))
    if not validator and not is_pinned:
        partial.restart()
        return {}
    headers = {"Range": f"bytes={partial.size}-"}
    return {**headers, "If-Range": validator} if validator else headers


def _begin(response: Response, partial: Partial, url: str) -> int | None:
    """Bring the partial to where the answer's body starts; give the whole body's size where known."""
    if response.status == 200:
        if partial.size:
            partial.restart()
        return response.length
    if response.status in (206, 416) and partial.size:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if match and match[3] != "*":
            total = int(match[3])
            starts_right = match[1] is not None and int(match[1]) == partial.size
            if starts_right if response.status == 206 else total == partial.size:
                return total
        partial.restart()
        raise UnreachableError(f"{plain(url)}: the server gave another range than it was asked for")
    raise refusal(response, url)


def refusal(response: Response, url: str) -> StatusError:
    """Make an error of an answer that is no success."""
    return StatusError(
        f"{plain(url)}: the server answers {response.status} {response.raw.reason or ''}".rstrip(),
        _advice(response.status),
        status=response.status,
        delay=_retry_after(response.headers.get("retry-after", ""), time.time),
    )


def _advice(status: int) -> str:
    if status in (401, 403):
        return "if it wants to know who asks: put the host's user name and password into ~/.netrc"
    if status in (404, 410):
        return "if it has moved: name the new address, or a mirror that still has it"
    return ""


def _validator(response: Response) -> str:
    """Give what If-Range may carry (RFC 9110, 13.1.5): a strong ETag, else the time of change."""
    etag = response.headers.get("etag", "")
    if etag:
        return etag if etag.startswith('"') else ""
    return response.headers.get("last-modified", "")


def _retry_after(value: str, clock: Callable[[], float]) -> float | None:
    """Read seconds or a date (RFC 9110, 10.2.3)."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - clock())
