"""Answers from the record: which recorded exchange a request gets, each in its turn.

Knows nothing of sockets or upstream. Equal requests are answered in the order of the record, the last
answer stays; a range is cut from a whole body; a HEAD is answered from a recorded GET.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from reprobuild.derivation.exchange import FLAGS, Exchange, key
from reprobuild.gateway.message import Answer, Request, of_exchange
from reprobuild.store.store import Store


class Turns:
    """Exchanges with one key, in order."""

    def __init__(self, first: Exchange) -> None:
        self.exchanges = [first]
        self.next = 0
        """Whose turn it is."""

    def take(self) -> Exchange:
        """Give the one whose turn it is, and go on."""
        found = self.exchanges[min(self.next, len(self.exchanges) - 1)]
        self.next += 1
        return found

    def stay(self) -> Exchange:
        """Give the one that was given last, or the first."""
        self.next = max(self.next, 1)
        return self.exchanges[min(self.next, len(self.exchanges)) - 1]


class Replay:
    """A record of exchanges; for many threads."""

    def __init__(self, store: Store, exchanges: Sequence[Exchange]) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._turns: dict[tuple[object, ...], Turns] = {}
        self._by_address: dict[tuple[str, str], list[Turns]] = {}
        for exchange in exchanges:
            turns = self._turns.get(key(exchange))
            if turns is None:
                turns = self._turns[key(exchange)] = Turns(exchange)
                self._by_address.setdefault((exchange.method, exchange.url), []).append(turns)
            else:
                turns.exchanges.append(exchange)

    def has_host(self, host: str) -> bool:
        """Whether anything is recorded of a host."""
        from urllib.parse import urlsplit

        return any(urlsplit(url).hostname == host for _, url in self._by_address)

    def answer(self, request: Request) -> Answer | None:
        """Give what was recorded for a request; None where nothing was. Raises MissingBlobError."""
        exchange = self.find(request)
        if exchange is None:
            return None
        return of_exchange(exchange, request, self._store.blobs.open(exchange.sha256))

    def find(self, request: Request) -> Exchange | None:
        """Give the exchange that answers a request, and take its turn."""
        with self._lock:
            shown = request.shown
            found = [
                turns
                for turns in self._by_address.get((request.method, shown), ())
                if request.selects(turns.exchanges[0])
            ]
            asked = request.fields.get("range", "").replace(" ", "")
            exact = [turns for turns in found if turns.exchanges[0].request.get("range", "") == asked]
            if exact:
                return exact[0].take()
            whole = [turns for turns in found if turns.exchanges[0].is_whole or request.method != "GET"]
            if whole:
                return whole[0].stay() if asked else whole[0].take()
            if request.method == "HEAD":
                return self._of_get(request, shown)
        return None

    def _of_get(self, request: Request, shown: str) -> Exchange | None:
        """Let a GET answer a HEAD; how its body was packed must be as the HEAD asks for."""
        own = request.selection()
        for turns in self._by_address.get(("GET", shown), ()):
            first = turns.exchanges[0]
            flags = all(own.get(flag) == first.request.get(flag) for flag in FLAGS)
            packed = "content-encoding" in first.headers
            fits = not packed or own.get("accept-encoding") == first.request.get("accept-encoding")
            if flags and fits and "range" not in first.request:
                return turns.stay()
        return None

    @property
    def unused(self) -> Iterator[Exchange]:
        """The exchanges that nobody asked for."""
        for turns in self._turns.values():
            yield from turns.exchanges[turns.next :]
