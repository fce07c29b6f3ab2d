"""What is behind an open door: names, certificates, and the desk where requests of one command are answered.

Puts the parts together; knows nothing of how any of them works.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack

from reprobuild.derivation.exchange import read
from reprobuild.derivation.pins import Pin
from reprobuild.engine.protocol import Door
from reprobuild.errors import MissingBlobError, ReprobuildError
from reprobuild.fetch.http import Http, UnreachableError, without_query
from reprobuild.gateway import refusal, report, urls
from reprobuild.gateway.addresses import Addresses
from reprobuild.gateway.certificates import Certificates
from reprobuild.gateway.gate import Mode
from reprobuild.gateway.message import Answer, Request, host_and_port, text
from reprobuild.gateway.notes import notes
from reprobuild.gateway.record import Record
from reprobuild.gateway.refusal import Refusal, Refusals
from reprobuild.gateway.replay import Replay
from reprobuild.gateway.server import Client, Server
from reprobuild.store.store import Store

UNFINISHED_SECONDS = 10.0
"""How long bodies that still come are waited for when a recorded command has ended."""


class Service:
    """Serves one command, from the first connection to its end."""

    def __init__(self, store: Store, mode: Mode, door: Door) -> None:
        self.mode = mode
        self.scratch = store.tmp
        self.refusals = Refusals()
        self.pins: tuple[Pin, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.unreached: dict[str, str] = {}
        self._addresses = Addresses()
        self._lock = threading.Lock()
        self._looked_up: dict[str, int] = {}
        self._reached: set[str] = set()
        self._noted: list[str] = []
        self._stack = ExitStack()
        self.replay = Replay(store, [read(pin) for pin in mode.pins])
        self.record = self._recorder(store) if mode.is_recording else None
        self._server = Server(
            door,
            Certificates(store),
            self._addresses,
            lambda client: ClientDesk(self, client),
            self._look_up,
            self._is_cut_off,
        )

    def start(self) -> None:
        """Begin to serve."""
        self._server.start()

    def close(self) -> None:
        """End all connections; say what happened."""
        if self.record is not None:
            deadline = time.monotonic() + UNFINISHED_SECONDS
            while self.record.is_busy and time.monotonic() < deadline:
                time.sleep(0.02)
            self.record.stop()
        self._server.close()
        if self.record is not None:
            exchanges = self.record.exchanges
            self.pins = tuple(exchange.pin for exchange in exchanges)
            self.notes = (*dict.fromkeys(self._noted), *notes(exchanges), *self.record.addresses.notes)
        self._stack.close()

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """Attempts that were not answered until now: those that came to something worse than another try."""
        with self._lock:
            reached, looked_up = set(self._reached), dict(self._looked_up)
        found = Refusals()
        for one in self.refusals.all:
            if one.why != refusal.BROKEN_OFF or one.host not in reached:
                found.add(one)
        known = reached | found.hosts
        for name, count in looked_up.items():  # and was not asked for anything
            if name in known or name.startswith("_") or name.rpartition(".")[2] in ("localhost", "local"):
                continue
            found.add(Refusal(name, 0, count=count, why=refusal.LOOKED_UP))
        return found.all

    @property
    def unused(self) -> tuple[Pin, ...]:
        """Recorded exchanges that nobody asked for."""
        return () if self.record is not None else tuple(one.pin for one in self.replay.unused)

    def note(self, sentence: str) -> None:
        """Keep a sentence for a person."""
        with self._lock:
            self._noted.append(report.printable(sentence, 500))

    def reached(self, host: str) -> None:
        """Hear that a host was asked for something."""
        with self._lock:
            self._reached.add(host)

    def _recorder(self, store: Store) -> Record:
        mode = self.mode
        assert mode.settings is not None and mode.tell is not None
        http = self._stack.enter_context(Http(os.environ, connections=32, settings=mode.settings))
        group = self._stack.enter_context(store.transaction())
        return Record(
            http,
            group,
            tell=mode.tell,
            answers=self.replay,
            note=self.note,
            refused=self._refuse_upstream,
            failed=self._fail,
        )

    def _fail(self, request: Request, what: str, error: ReprobuildError) -> None:
        self.note(f"{request.method} {what}: {error.message}")
        if isinstance(error, UnreachableError):
            why = error.message.removeprefix(f"{without_query(request.url)}: ")
            with self._lock:
                self.unreached[f"{request.method} {request.shown}"] = why

    def _refuse_upstream(self, request: Request, why: str) -> str:
        host, port = host_and_port(request.url)
        self.refusals.add(Refusal(host, port, request.shown, request.method, why=report.printable(why)))
        return f"reprobuild: {request.shown} is not fetched: {why}"

    def _look_up(self, name: str) -> None:
        with self._lock:
            if name in self._looked_up or len(self._looked_up) < refusal.MOST:
                self._looked_up[name] = self._looked_up.get(name, 0) + 1

    def _is_cut_off(self, host: str) -> bool:
        return self.record is None and not self.replay.has_host(host)


class ClientDesk:
    """Answers the requests of one connection (``conversation.Desk``)."""

    def __init__(self, service: Service, client: Client) -> None:
        self._service = service
        self._client = client
        self._program: str | None = None
        self.scratch = service.scratch
        self.resets = service.mode.resets
        self.refuses_all = service.record is None and not service.mode.pins

    def answer(self, request: Request) -> Answer | None:
        """Give what is recorded, or what upstream says."""
        if self._service.record is not None:
            return self._service.record.answer(request)
        try:
            return self._service.replay.answer(request)
        except MissingBlobError as error:
            self.refuse(url=request.shown, method=request.method, why=error.message)
            return text(502, f"reprobuild: {error.message}")

    def refuse(self, *, url: str = "", method: str = "", why: str = "") -> str:
        """Note a refused attempt; give the sentence that the client is told."""
        host, port = self._client.named or self._client.host, self._client.port
        if url.startswith(tuple(f"{scheme}://" for scheme in urls.DEFAULT_PORTS)):
            host, port = host_and_port(url)
        elif self._client.host != host:
            self._service.reached(self._client.host)
        if self._program is None:
            self._program = report.printable(self._client.program(), 200)
        found = Refusal(host, port, url, method, self._program, why=why)
        self._service.refusals.add(found)
        return report.sentence(found, self._service.mode.word)

    def fetched(self, url: str) -> None:
        """Note that a host was asked for something on purpose."""
        self._service.reached(host_and_port(url)[0])
        self._service.reached(self._client.host)
