"""Debian version numbers: their order, and the five relations between them.

Knows nothing of packages. Source: Debian Policy 4.6, section 5.6.12 (`Version`) and deb-version(7).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from reprobuild.errors import CheckFailedError

LONGEST = 256
"""Characters of a version that are accepted; the longest in Debian have some 60."""

Operator = Literal["", "<<", "<=", "=", ">=", ">>"]
"""A relation to a version; empty where any will do."""

Part = tuple[tuple[tuple[int, ...], int], ...]
Key = tuple[int, Part, Part]

_VERSION = re.compile(r"([0-9]+):([A-Za-z0-9.+~:-]+)|([A-Za-z0-9.+~-]+)")
_RUNS = re.compile(r"([^0-9]*)([0-9]*)")
_END = ((0,), 0)


class VersionError(CheckFailedError):
    """A text that is no Debian version."""


@lru_cache(maxsize=65536)
def version_key(version: str) -> Key:
    """Give what sorts as the version does; raises VersionError for what is none."""
    found = _VERSION.fullmatch(version)
    if found is None or len(version) > LONGEST:
        raise VersionError(f"not a Debian version: {version[:LONGEST]!r}")
    rest = found[2] or found[3]
    upstream, separator, revision = rest.rpartition("-")
    if not separator:
        upstream, revision = rest, ""
    return int(found[1] or 0), _part_key(upstream), _part_key(revision)


def satisfies(version: str, operator: Operator, bound: str) -> bool:
    """Tell whether a version stands in a relation to a bound; any does where there is no operator."""
    if not operator:
        return True
    left, right = version_key(version), version_key(bound)
    if operator == "=":
        return left == right
    if operator == "<<":
        return left < right
    if operator == "<=":
        return left <= right
    return left >= right if operator == ">=" else left > right


def _part_key(text: str) -> Part:
    """Runs of other characters and of digits by turns, closed by marks that stand for the end.

    Two, since a leading zero looks like one: ``0~a`` comes before ``0``.
    """
    runs = [(_order(other), int(digits or 0)) for other, digits in _RUNS.findall(text)]
    while runs and runs[-1] == _END:
        runs.pop()
    return (*runs, _END, _END)


def _order(text: str) -> tuple[int, ...]:
    """``~`` before the end, the end before letters, letters before everything else."""
    weights = (-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in text)
    return (*weights, 0)
