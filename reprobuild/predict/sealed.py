"""The form in which a prediction is kept: its own digest, its provenance, its output.

Knows nothing of where it is kept. The form is specified in ``docs/predictions.md``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from reprobuild import __version__
from reprobuild.canonical import canonical

DIGEST_SIZE = 32
REFUSED = "refused"
RUN = "run"
MAKING = "making"
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


def seal_many(outputs: Iterable[tuple[bytes, bytes]], provenance: bytes) -> list[tuple[bytes, bytes]]:
    """Do what ``seal`` does for outputs by their keys that share a provenance, without a call for each."""
    begin, head = hashlib.sha256, provenance + b"\n"
    return [(key, begin(key + body).digest() + body) for key, output in outputs for body in (head + output,)]


def unseal(key: bytes, kept: object) -> Prediction | None:
    """Read what ``seal`` wrote; None where it is not what was written under this key."""
    if not isinstance(kept, bytes) or hashlib.sha256(key + kept[DIGEST_SIZE:]).digest() != kept[:DIGEST_SIZE]:
        return None
    end = kept.find(b"\n", DIGEST_SIZE)
    return Prediction(kept[end + 1 :], kept[DIGEST_SIZE:end]) if end >= 0 else None


def provenance(
    device_class: str,
    engine: str,
    *,
    seconds: float,
    items: int,
    run: str,
    refused: int = 0,
    making: bytes = b"",
    driver: str = "",
) -> bytes:
    """Say where predictions came from: no part of their keys, but part of their digests.

    ``seconds``: how long the command ran; ``items``: how many records it had; ``run``: the first digits of
    the run ID, by which the predictions of an image are found; ``refused``: how many things it asked the
    network for, did not get, and coped without; ``making``: what their keys share; ``driver``: the version
    of the device's driver, where it has one.
    """
    facts: Mapping[str, Any] = {
        "cpu": instruction_set(),
        "created": int(time.time()),
        "device": device_class,
        "engine": engine,
        "items": items,
        RUN: run,
        "seconds": round(seconds, 3),
        "tool": __version__,
        **({REFUSED: refused} if refused else {}),
        **({MAKING: making_name(making)} if making else {}),
        **({"driver": driver} if driver else {}),
    }
    return canonical(facts)


def making_name(making: bytes) -> str:
    """Give what a provenance calls a making: the first 16 hex digits of its sha256."""
    return hashlib.sha256(making).hexdigest()[:16]


def facts_of(provenance: bytes) -> Mapping[str, Any]:
    """Read a provenance; nothing where it is none."""
    try:
        facts = json.loads(provenance)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def seconds_each(facts: Mapping[str, Any]) -> float:
    """Give how long a record took, where it was computed; 0 where that is not known."""
    inner = facts.get(IMPORTED)
    if isinstance(inner, dict):
        said = inner.get("provenance")
        return seconds_each(said) if isinstance(said, dict) else 0.0
    seconds, items = facts.get("seconds"), facts.get("items")
    if isinstance(seconds, int | float) and isinstance(items, int) and items > 0 and seconds >= 0:
        return seconds / items
    return 0.0


def imported(kept: Mapping[str, Any], source: str, run: str) -> bytes:
    """Say that a prediction was computed elsewhere, and not checked here.

    ``kept``: what was said of it there; ``source``: where it came from.
    """
    coped = {REFUSED: kept[REFUSED]} if isinstance(kept.get(REFUSED), int) else {}
    making = {MAKING: kept[MAKING]} if isinstance(kept.get(MAKING), str) else {}
    where = {"from": source, "provenance": dict(kept)}
    return canonical({IMPORTED: where, "audited": False, RUN: run, **coped, **making})


def has_coped(provenance: bytes) -> bool:
    """Tell whether a command was refused something and coped without it."""
    return REFUSED in facts_of(provenance)


_LEVELS = (
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    ("x86-64-v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}),
    ("x86-64-v2", {"cx16", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
)


@functools.cache
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
