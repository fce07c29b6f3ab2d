"""Ranges of a whole body (RFC 9110, 14): what part of it a request means, if any.

Pure functions; knows nothing of sockets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from reprobuild.value import Value

_ONE = re.compile(r"bytes\s*=\s*(?:([0-9]{1,18})\s*-\s*([0-9]{0,18})|-\s*([0-9]{1,18}))", re.IGNORECASE)


class Range(Value):
    """Part of a body of known size: from ``start`` up to, not including, ``end``."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


UNSATISFIABLE = Range(0, -1)
"""A range that begins after the body's end: 416."""


def wanted(request: Mapping[str, str]) -> re.Match[str] | None:
    """Read the one range that a request asks for; several, or another unit, are answered by the whole."""
    return _ONE.fullmatch(request.get("range", "").strip())


def part(request: Mapping[str, str], size: int, *, etag: str = "", modified: str = "") -> Range | None:
    """Give which part of a body a request means; None: all of it.

    ``etag`` and ``modified`` are what the body has: where ``If-Range`` names others, all is meant.
    """
    match = wanted(request)
    if match is None:
        return None
    condition = request.get("if-range", "").strip()
    if condition and (condition.startswith("W/") or condition not in (etag, modified)):
        return None
    if match[3] is not None:
        count = min(int(match[3]), size)
        return Range(size - count, size) if count else UNSATISFIABLE
    start = int(match[1])
    end = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < start:
        return None
    return Range(start, end) if start < size else UNSATISFIABLE
