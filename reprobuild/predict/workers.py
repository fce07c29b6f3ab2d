"""Workers that live on between calls: lent to one computation at a time, and closed for certain.

Knows nothing of records, nor of how a worker computes.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reprobuild.canonical import canonical
from reprobuild.errors import ItemFailedError
from reprobuild.events import Tell, ignore
from reprobuild.predict.chunks import Pace
from reprobuild.predict.parameters import CPU
from reprobuild.predict.target import Target
from reprobuild.predict.worker import NO_LIMITS, Limits, Worker, start_worker

IDLE_SECONDS = 300.0
"""How long a worker that nobody uses is kept."""
PACES = 100
"""Sets of parameters of which it is remembered how long chunks take."""

_Kind = tuple[object, ...]


class _Idle:
    """A worker that nobody uses, since when, and what it was made with."""

    def __init__(self, worker: Worker, device: str, kind: _Kind) -> None:
        self.worker = worker
        self.device = device
        self.kind = kind
        self.since = time.monotonic()


class _State:
    """What a process has of its workers; another process, forked off it, begins with one of its own."""

    def __init__(self, devices: Sequence[str], jobs: int) -> None:
        self.pid = os.getpid()
        self.changed = threading.Condition()
        self.starting = threading.Lock()
        self.free = dict.fromkeys(devices[:jobs], 0)
        """How many more workers each device may have at work."""
        for number in range(jobs):
            self.free[devices[number % len(devices)]] += 1
        self.idle: list[_Idle] = []
        self.lent: set[Worker] = set()
        self.timer: threading.Timer | None = None

    def close(self) -> None:
        """Close all of them, in the process that has started them."""
        if self.pid != os.getpid():
            return
        with self.changed:
            workers = [*(one.worker for one in self.idle), *self.lent]
            self.idle.clear()
            self.lent.clear()
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None
        for worker in workers:
            worker.close()


class Workers:
    """The workers of a target, at most ``jobs`` of them at work; safe for threads.

    One that keeps a model loaded is kept for a while when its work is done, and lent again to whoever
    asks for the same. All are closed by ``close``, when this is let go of, and when Python ends; a
    process that was forked off has none of them.
    """

    def __init__(
        self,
        target: Target,
        *,
        devices: Sequence[str] = (CPU,),
        jobs: int = 0,
        idle: float = IDLE_SECONDS,
        tell: Tell = ignore,
        ahead: bool = False,
    ) -> None:
        """``jobs``: how many are at work at once (0: one for each device); ``idle``: seconds; ``ahead``: as
        ``worker.start_worker`` has it."""
        self.jobs = jobs or len(devices)
        self._target = target
        self._devices = tuple(devices)
        self._idle = idle
        self._tell = tell
        self._ahead = ahead and idle > 0
        self._forked: list[_State] = []
        self._paces: dict[_Kind, Pace] = {}
        self._begin()

    @contextlib.contextmanager
    def lend(self, name: str, parameters: Mapping[str, Any], limits: Limits = NO_LIMITS) -> Iterator[Worker]:
        """Give a worker of a predictor for a ``with`` block, once one may be at work.

        An error ends its worker, unless one record is to blame.
        """
        state = self._own()
        kind = _kind(name, parameters, limits)
        device, worker, others = _take(state, kind)
        is_well = False
        try:
            for one in others:
                one.close()
            if worker is None:
                with state.starting:
                    self._target.engine()  # made once, whoever asks for it at the same time
                worker = start_worker(
                    self._target,
                    name,
                    parameters,
                    device=device,
                    limits=limits,
                    tell=self._tell,
                    ahead=self._ahead,
                )
            with state.changed:
                state.lent.add(worker)
            try:
                yield worker
                is_well = True
            except ItemFailedError:
                is_well = True
                raise
        finally:
            keeps = worker is not None and worker.lives_on and is_well and self._idle > 0
            if worker is not None and not keeps:
                worker.close()
            self._give_back(state, device, worker, kind if keeps else None)

    def pace(self, name: str, parameters: Mapping[str, Any], limits: Limits = NO_LIMITS) -> Pace:
        """Give what has been learned of how long chunks of a predictor take."""
        if len(self._paces) > PACES:
            self._paces.clear()
        return self._paces.setdefault(_kind(name, parameters, limits), Pace())

    def close(self) -> None:
        """Close all, those at work too: their computations fail. Another ``lend`` begins anew."""
        self._own().close()

    def _begin(self) -> None:
        self._state = _State(self._devices, self.jobs)
        weakref.finalize(self, self._state.close)

    def _own(self) -> _State:
        if self._state.pid != os.getpid():
            # Not ended and not collected: the processes, and what speaks with them, are the parent's.
            self._forked.append(self._state)
            self._begin()
        return self._state

    def _give_back(self, state: _State, device: str, worker: Worker | None, kind: _Kind | None) -> None:
        with state.changed:
            state.free[device] += 1
            if worker in state.lent:
                state.lent.discard(worker)
                if kind is not None:
                    state.idle.append(_Idle(worker, device, kind))
                    _set_timer(state, self._idle)
            state.changed.notify()


def _kind(name: str, parameters: Mapping[str, Any], limits: Limits) -> _Kind:
    return (name, canonical(dict(parameters)), limits.timeout, limits.memory)


def _take(state: _State, kind: _Kind) -> tuple[str, Worker | None, list[Worker]]:
    """Wait until a worker may be at work; give its device, one that is idle, and those that give way.

    Idle ones of another kind end: two models seldom fit where one does.
    """
    with state.changed:
        while not any(state.free.values()):
            state.changed.wait()
        free = [device for device, count in state.free.items() if count]
        fitting = [one for one in state.idle if one.kind == kind and one.device in free]
        if fitting:
            found = fitting[-1]
            state.idle.remove(found)
            state.free[found.device] -= 1
            return found.device, found.worker, []
        device = max(free, key=lambda device: state.free[device])
        state.free[device] -= 1
        others = [one for one in state.idle if one.device == device and one.kind != kind]
        state.idle = [one for one in state.idle if one not in others]
        return device, None, [one.worker for one in others]


def _set_timer(state: _State, idle: float) -> None:
    if state.timer is None and state.idle:
        wait = max(state.idle[0].since + idle - time.monotonic(), 0.0)
        state.timer = threading.Timer(wait, _close_idle, (state, idle))
        state.timer.daemon = True
        state.timer.start()


def _close_idle(state: _State, idle: float) -> None:
    with state.changed:
        state.timer = None
        oldest = time.monotonic() - idle
        ended = [one for one in state.idle if one.since <= oldest]
        state.idle = [one for one in state.idle if one.since > oldest]
        _set_timer(state, idle)
    for one in ended:
        one.worker.close()
