"""Chooses the engine where the settings leave it open: the sandbox where it works, else a daemon's.

That the sandbox works is remembered until the machine starts again, so that a prediction is not held up by
trying it out. Knows nothing of how an engine isolates.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from reprobuild.engine.protocol import Engine
from reprobuild.errors import EngineError
from reprobuild.events import Tell, Warned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.store.store import Store

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def choose(store: Store, sandbox: Engine, docker: Callable[[], Engine], tell: Tell) -> Engine:
    """Give the engine to work with, and say so where that is not the sandbox.

    Raises EngineError, with what is missing of both, where neither can isolate.
    """
    marker = _marker(store)
    if marker and os.path.exists(marker):
        return sandbox
    own = sandbox.probe()
    if own.available:
        if marker:
            Path(marker).touch()
        return sandbox
    other_engine = docker()
    other = other_engine.probe()
    if other.available:
        tell(
            Warned(
                f"commands run in {other.name}, since the sandbox does not work here: {own.missing}", own.hint
            )
        )
        return other_engine
    hints = "; or: ".join(hint for hint in (own.hint, other.hint) if hint)
    raise EngineError(
        f"no engine can isolate commands here: the sandbox: {own.missing}; docker: {other.missing}", hints
    )


def _marker(store: Store) -> str:
    """Give the file that says that the sandbox has worked for this user since the machine's start."""
    try:
        boot = _BOOT.read_bytes()
    except OSError:
        return ""
    key = hashlib.sha256(b"%s %d" % (boot, os.geteuid())).hexdigest()[:16]
    return store.lock_path(f"sandbox-works-{key}")
