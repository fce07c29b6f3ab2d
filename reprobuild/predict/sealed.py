"""The form in which a prediction is kept: its own digest, its provenance, its output.

Knows nothing of where it is kept. The form is specified in ``docs/predictions.md``.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from reprobuild.canonical import canonical

DIGEST_SIZE = 32
REFUSED = "refused"
RUN = "run"
IMPORTED = "imported"


class Prediction(NamedTuple):
    """A prediction that was read back and fits its digest."""

    output: bytes
    """Canonical records, each with a line end: one, or for batch scope one for each record of the call."""
    provenance: bytes
    """Canonical JSON: see ``provenance``."""


def seal(key: bytes, provenance: bytes, output: bytes) -> bytes:
    """Give the bytes to keep under a key (32 bytes): a sha256 over key and body, then the body."""
    body = provenance + b"\n" + output
    return hashlib.sha256(key + body).digest() + body


def unseal(key: bytes, kept: object) -> Prediction | None:
    """Read what ``seal`` wrote; None where it is not what was written under this key."""
    if not isinstance(kept, bytes) or hashlib.sha256(key + kept[DIGEST_SIZE:]).digest() != kept[:DIGEST_SIZE]:
        return None
    end = kept.find(b"\n", DIGEST_SIZE)
    return Prediction(kept[end + 1 :], kept[DIGEST_SIZE:end]) if end >= 0 else None


def provenance(
    device_class: str, engine: str, *, seconds: float, items: int, run: str, refused: int = 0
) -> bytes:
    """Say where predictions came from: no part of their keys, but part of their digests.

    ``seconds``: how long the command ran; ``items``: how many records it had; ``run``: the first digits of
    the run ID, by which the predictions of an image are found; ``refused``: how many things it asked the
    network for, did not get, and coped without.
    """
    facts: Mapping[str, Any] = {
        "cpu": instruction_set(),
        "created": int(time.time()),
        "device": device_class,
        "engine": engine,
        "items": items,
        RUN: run,
        "seconds": round(seconds, 3),
        **({REFUSED: refused} if refused else {}),
    }
    return canonical(facts)


def imported(kept: Mapping[str, Any], source: str, run: str) -> bytes:
    """Say that a prediction was computed elsewhere, and not checked here.

    ``kept``: what was said of it there; ``source``: where it came from.
    """
    coped = {REFUSED: kept[REFUSED]} if isinstance(kept.get(REFUSED), int) else {}
    where = {"from": source, "provenance": dict(kept)}
    return canonical({IMPORTED: where, "audited": False, RUN: run, **coped})


def has_coped(provenance: bytes) -> bool:
    """Tell whether a command was refused something and coped without it."""
    try:
        facts = json.loads(provenance)
    except ValueError:
        return False
    return isinstance(facts, dict) and REFUSED in facts


_LEVELS = (
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    ("x86-64-v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}),
    ("x86-64-v2", {"cx16", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
)


def instruction_set(cpuinfo: str = "/proc/cpuinfo") -> str:
    """Name the processor's level of the x86-64 psABI (``x86-64-v3``), else its architecture."""
    machine = os.uname().machine
    if machine != "x86_64":
        return machine
    try:
        with open(cpuinfo, encoding="utf-8", errors="replace") as file:
            line = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return machine
    flags = set(line.partition(":")[2].split())
    return next((level for level, needed in _LEVELS if needed <= flags), "x86-64-v1")
