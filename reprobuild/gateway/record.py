"""Answers from upstream, recorded: body to the client and to the store at once, flat in memory.

Knows nothing of the client's connection. What is recorded is what the client got: headers by the list,
redirects without their signatures, whose real addresses are kept in memory for the request that follows.

A body counts only if it came whole, and the client gets its last block after that: so a command that
has all it wanted has it recorded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from reprobuild.derivation.exchange import Exchange, ordered
from reprobuild.derivation.predictors import Json
from reprobuild.errors import ReprobuildError, UpstreamError
from reprobuild.events import FetchFinished, FetchProgressed, FetchStarted, Tell
from reprobuild.fetch.http import Http, Response, UnreachableError
from reprobuild.fetch.reach import NotPublicError
from reprobuild.gateway import headers, ranges, urls
from reprobuild.gateway.behind import Behind
from reprobuild.gateway.cookies import Cookies
from reprobuild.gateway.message import Answer, Request, Stream, of_exchange, text
from reprobuild.gateway.notes import SAFE, Addresses
from reprobuild.gateway.replay import Replay
from reprobuild.store.transaction import Transaction

FIRST_BLOCK = 16 * 1024
BLOCK = 256 * 1024
"""Bytes that are read at a time, at first and at most."""
QUICK_SECONDS = 0.5
PROGRESS_SECONDS = 0.1
RANGE_SECONDS = 20.0
"""How long a range waits for the whole body that another client fetches."""
LARGE = 1024 * 1024 * 1024
"""Bytes of a body from which on a range of less than half of it is recorded as that range alone."""
WORTH_TELLING = 1024 * 1024
"""Bytes of a body of which a person hears while it comes."""
MOST_REMEMBERED = 100_000
"""Signed addresses that are kept in memory."""
LATER = frozenset({408, 425, 429})
"""Statuses below 500 that say: later."""


@dataclass(slots=True)
class _Draft:
    """What is known of an exchange before its body has come."""

    number: int
    """When it was asked for."""
    request: Request
    status: int
    headers: dict[str, str]
    noted: dict[str, Json]


class Record:
    """Records the exchanges of one command; for many threads."""

    def __init__(
        self,
        http: Http,
        group: Transaction,
        *,
        tell: Tell,
        answers: Replay,
        note: Callable[[str], None],
        refused: Callable[[Request, str], str],
        failed: Callable[[Request, str, ReprobuildError], None],
    ) -> None:
        """``refused`` hears of upstream addresses that may not be reached; it gives the client's sentence.
        ``failed`` hears of what did not come, or not whole."""
        self._http = http
        self._group = group
        self._tell = tell
        self._answers = answers
        self._note = note
        self._refused = refused
        self._failed = failed
        self._lock = threading.Lock()
        self._numbers = 0
        self._found: list[tuple[int, Exchange]] = []
        self._real: dict[str, str] = {}
        self._cookies = Cookies()
        self.addresses = Addresses()
        self._statuses: dict[str, int] = {}
        self._open: set[Response] = set()
        self._ranges: dict[tuple[str, str], threading.Lock] = {}
        self._stopped = False

    def answer(self, request: Request) -> Answer:
        """Fetch and record; what cannot be fetched is a 502 with the reason."""
        number = self._number()
        given = self._answers.find(request)
        if given is not None:
            self._add(number, given)
            return of_exchange(given, request, self._group.open(given.sha256))
        try:
            if request.method == "GET" and ranges.wanted(request.fields):
                return self._ranged(number, request)
            return self._begin(number, request)
        except NotPublicError as error:
            return text(403, self._refused(request, error.message))
        except UpstreamError as error:
            self._failed(request, "not fetched", error)
            return text(502, f"reprobuild: this cannot be fetched: {error.message}")

    @property
    def is_busy(self) -> bool:
        """Whether bodies still come."""
        with self._lock:
            return bool(self._open)

    def stop(self) -> None:
        """Make all reads of bodies end."""
        with self._lock:
            self._stopped = True
            for response in self._open:
                response.stop()

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """What was recorded, as a lock holds it."""
        with self._lock:
            found = [exchange for _, exchange in sorted(self._found, key=lambda one: one[0])]
        last = {_asked(exchange): number for number, exchange in enumerate(found) if exchange.status < 400}
        return ordered(
            exchange
            for number, exchange in enumerate(found)
            if not (_is_passing(exchange.status) and last.get(_asked(exchange), -1) > number)
        )

    def _number(self) -> int:
        with self._lock:
            self._numbers += 1
            return self._numbers

    def _add(self, number: int, exchange: Exchange) -> None:
        with self._lock:
            self._found.append((number, exchange))

    def _ranged(self, number: int, request: Request) -> Answer:
        """Give a range; the whole body is recorded unless it is large and the range small.

        Whoever asks for another range of the same meanwhile waits, so that the body comes once.
        """
        with self._lock:
            lock = self._ranges.setdefault((request.shown, str(request.selection())), threading.Lock())
        with ExitStack() as stack:
            if lock.acquire(timeout=RANGE_SECONDS):  # the other client may have stopped reading
                stack.callback(lock.release)
            whole = self._recorded(request)
            if whole is not None:
                return of_exchange(whole, request, self._group.open(whole.sha256))
            answer = self._begin(number, request, held=stack.pop_all())
        return answer

    def _recorded(self, request: Request) -> Exchange | None:
        """Give the whole body that was recorded last for a request."""
        with self._lock:
            for _, exchange in reversed(self._found):
                fits = exchange.is_whole and exchange.url == request.shown and request.selects(exchange)
                if fits and self.addresses.is_of(request, exchange):
                    return exchange
        return None

    def _begin(self, number: int, request: Request, *, held: ExitStack | None = None) -> Answer:
        """Ask upstream and give the answer with its body still coming."""
        with ExitStack() as stack:
            if held is not None:
                stack.enter_context(held)
            response, noted = self._ask(stack, request)
            wanted = None
            if held is not None and response.status == 200:
                size = response.length
                wanted = ranges.part(
                    request.fields,
                    size if size is not None else 2**62,
                    etag=response.headers.get("etag", ""),
                    modified=response.headers.get("last-modified", ""),
                )
                if wanted is ranges.UNSATISFIABLE:
                    wanted = None
                small = wanted is not None and size is not None and wanted.size * 2 <= size
                if small and size is not None and size >= LARGE:
                    asked = request.fields["range"].replace(" ", "")
                    response, noted = self._ask(stack, request, asked)
                    wanted = None
            kept = headers.kept(response.raw.headers.items())
            for name in ("location", "content-location"):
                if name in kept:
                    kept[name] = self._redirect(request.url, kept[name])
            if "link" in kept:
                kept["link"] = headers.linked(kept["link"], lambda to: self._redirect(request.url, to))
            if request.method == "HEAD" and response.length is not None:
                kept["content-length"] = str(response.length)
            if response.status != 206:
                kept.pop("content-range", None)
                noted.pop("range", None)
            draft = _Draft(number, request, response.status, kept, noted)
            return self._answer(draft, response, wanted, stack.pop_all())

    def _answer(
        self, draft: _Draft, response: Response, wanted: ranges.Range | None, stack: ExitStack
    ) -> Answer:
        length = None if draft.request.method == "HEAD" else response.length
        blocks = self._stream(draft, response, stack)
        if wanted is None or length is None:
            # Where the length is not known, a range cannot be: the client gets the whole, as servers may do.
            return Answer(draft.status, draft.headers, Stream(blocks, stack), length)
        found = {
            **draft.headers,
            "accept-ranges": draft.headers.get("accept-ranges", "bytes"),
            "content-range": f"bytes {wanted.start}-{wanted.end - 1}/{length}",
        }
        return Answer(206, found, Stream(_cut(blocks, wanted), stack), wanted.size)

    def _ask(
        self, stack: ExitStack, request: Request, asked_range: str = ""
    ) -> tuple[Response, dict[str, Json]]:
        """Send a request to upstream; give the open answer, and what is to be noted of the request."""
        with self._lock:
            url = self._real.get(request.url, request.url)
        noted: dict[str, Json] = {}
        if url != request.url or urls.is_signed(url):
            noted["signed"] = True
        fields = headers.to_upstream(request.headers)
        if "authorization" not in request.fields and (own := self._http.authorization(url)):
            fields.append(("Authorization", own))
            noted["credentials"] = True
        if "cookie" not in request.fields and (own := self._cookies.header(url)):
            fields.append(("Cookie", own))
            noted["cookies"] = True
        if asked_range:
            fields.append(("Range", asked_range))
            noted["range"] = asked_range
        if request.body is not None or "content-length" in request.fields:
            fields.append(("Content-Length", str(request.size)))
        for is_last in (False, True):
            if request.body is not None:
                request.body.seek(0)
            try:
                response = stack.enter_context(self._http.exchange(request.method, url, fields, request.body))
                break
            except UnreachableError as error:
                # A connection that was kept open may have been closed by the other side a moment ago.
                if is_last or error.final or error.network_is_cut or request.method not in SAFE:
                    raise
        with self._lock:
            if self._stopped:
                raise UpstreamError("the command has ended")
            self._open.add(response)
        stack.callback(self._close, response)
        self._cookies.keep(url, response.raw.headers.getlist("set-cookie"))
        return response, noted

    def _close(self, response: Response) -> None:
        with self._lock:
            self._open.discard(response)

    def _redirect(self, base: str, location: str) -> str:
        """Give where a client is sent: the same place, without what must not be kept."""
        try:
            absolute = urljoin(base, location)
            parts = urlsplit(absolute)
        except ValueError:  # leads nowhere, for the client as well
            return location.partition("?")[0]
        if parts.scheme not in urls.DEFAULT_PORTS or not parts.netloc:
            return location
        cleaned = urls.unsigned(absolute)
        bare, _, fragment = absolute.partition("#")
        if cleaned == bare:
            return location
        try:
            target = urlsplit(cleaned)
            asked = urls.join(
                target.scheme, target.netloc, target.path + (f"?{target.query}" if target.query else "")
            )
        except ValueError:
            return cleaned
        with self._lock:
            if len(self._real) >= MOST_REMEMBERED:
                self._real.pop(next(iter(self._real)))
            self._real[asked] = urls.without_user(bare)
        return f"{cleaned}#{fragment}" if fragment else cleaned

    def _stream(self, draft: _Draft, response: Response, stack: ExitStack) -> Iterator[bytes]:
        """Give the body, each block after the next one came; at the end the exchange counts."""
        name = draft.request.shown
        has_screen = (response.length or 0) >= WORTH_TELLING and draft.request.method != "HEAD"
        with stack, self._group.writer() as writer, Behind(writer) as behind:
            before = b""
            said = time.monotonic()
            if has_screen:
                self._tell(FetchStarted(name, response.length))
            try:
                for block in _blocks(response):
                    behind.write(block)
                    if has_screen and time.monotonic() - said >= PROGRESS_SECONDS:
                        said = time.monotonic()
                        self._tell(FetchProgressed(name, behind.size))
                    if before:
                        yield before
                    before = block
                behind.finish()
            except ReprobuildError as error:
                self._failed(draft.request, "did not come whole", error)
                raise
            except GeneratorExit:
                self._note(f"{draft.request.method} {name}: not recorded: the command left before its end")
                raise
            size = writer.size
            exchange = Exchange(
                method=draft.request.method,
                url=name,
                status=draft.status,
                size=size,
                sha256=writer.commit(),
                headers=draft.headers,
                request={},
            )
            request = {**draft.request.selection(exchange.varying), **self._worth_noting(draft)}
            exchange = Exchange(**{**vars(exchange), "request": request})
            if not _is_passing(exchange.status):
                self.addresses.add(draft.request, exchange)
            self._add(draft.number, exchange)
            if has_screen:
                self._tell(FetchFinished(name, size))
        if before:
            yield before

    def _worth_noting(self, draft: _Draft) -> dict[str, Json]:
        """Let an upstream cookie count where it made a difference: most servers set some to everyone."""
        noted = dict(draft.noted)
        with self._lock:
            first = self._statuses.setdefault(draft.request.shown, draft.status)
        if noted.pop("cookies", False) and first != draft.status:
            noted["credentials"] = True
        return noted


def _blocks(response: Response) -> Iterator[bytes]:
    """Read a body in blocks that take no long time each: clients give up on a silent server."""
    size = FIRST_BLOCK
    started = time.monotonic()
    while block := response.read(size):
        now = time.monotonic()
        yield block
        size = min(2 * size, BLOCK) if now - started < QUICK_SECONDS else max(size // 2, FIRST_BLOCK)
        started = time.monotonic()


def _cut(stream: Iterator[bytes], wanted: ranges.Range) -> Iterator[bytes]:
    """Give the part of a stream that is wanted, its last piece when the whole has come."""
    at = 0
    held = b""
    for block in stream:
        piece = block[max(0, wanted.start - at) : max(0, wanted.end - at)]
        at += len(block)
        if piece:
            if held:
                yield held
            held = piece
    if held:
        yield held


def _asked(exchange: Exchange) -> tuple[object, ...]:
    """Give what a request is whatever answer it got: Vary may have been in one of them only."""
    request = exchange.request
    fixed = tuple((name, str(request.get(name))) for name in ("body", "accept", "accept-encoding", "cookie"))
    return (exchange.method, exchange.url, fixed, bool(request.get("authorization")))


def _is_passing(status: int) -> bool:
    return status in LATER or status >= 500
