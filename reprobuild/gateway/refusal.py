"""What a command tried on the network and did not get: each distinct attempt once, with how often.

Knows nothing of sockets, nor of how attempts are shown. Light on purpose: every run has one.
"""

from __future__ import annotations

import threading

from reprobuild.value import Value, replace

MOST = 1000
"""Distinct attempts that are remembered; what a hostile command tries beyond is counted with the last."""

LOOKED_UP = "looked up, never fetched on a served port"
UNTRUSTED = "does not trust the gateway's certificate (it pins its own)"
NOT_HTTP = "speaks something else than HTTP"
BAD_HTTP = "sent a request that is not valid HTTP"
TUNNEL = "asked for a tunnel (CONNECT), as to a proxy"
UPGRADE = "asked to change to another protocol"
BROKEN_OFF = "broke off when it had seen the gateway's certificate (it may pin its own)"


class Refusal(Value):
    """One attempt that was not answered, and how often it was made."""

    host: str
    port: int
    url: str = ""
    """The whole address, as it may be shown; empty where the client did not get to name one."""
    method: str = ""
    program: str = ""
    """Which program it was, where that can be told."""
    count: int = 1
    why: str = ""
    """Empty: nothing is recorded under that address."""


class Refusals:
    """Collects attempts; for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[object, ...], Refusal] = {}

    def add(self, refusal: Refusal) -> None:
        """Count an attempt."""
        key: tuple[object, ...] = (
            refusal.host,
            refusal.port,
            refusal.url,
            refusal.method,
            refusal.program,
            refusal.why,
        )
        with self._lock:
            before = self._found.get(key)
            if before is None and len(self._found) >= MOST:
                key, before = next(reversed(self._found.items()))
            if before is None:
                self._found[key] = refusal
            else:
                self._found[key] = replace(before, count=before.count + refusal.count)

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts of all attempts so far."""
        with self._lock:
            return frozenset(one.host for one in self._found.values())

    @property
    def all(self) -> tuple[Refusal, ...]:
        """All attempts, in the order in which they were first made."""
        with self._lock:
            return tuple(self._found.values())
