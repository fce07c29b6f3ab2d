"""Relations between packages: ``Depends: a (>= 1) | b, c:any`` and what fulfils them.

Knows nothing of where packages come from. Source: Debian Policy 4.6, sections 7.1 and 7.5.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from reprobuild.debian.version import Operator, satisfies, version_key
from reprobuild.errors import CheckFailedError

PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")

_RELATION = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9+.-]*)(?::(?P<arch>[a-z0-9-]+))?\s*"
    r"(?:\(\s*(?P<operator><<|<=|>=|>>|=|<|>)\s*(?P<version>[^\s()]+)\s*\))?"
)
_OLD_OPERATORS = {"<": "<=", ">": ">="}


class RelationError(CheckFailedError):
    """A relation that breaks the syntax."""


@dataclass(frozen=True, slots=True)
class Relation:
    """One package, perhaps in some versions: ``libc6 (>= 2.36)``."""

    name: str
    operator: Operator = ""
    version: str = ""
    arch: str = ""
    """``any``, an architecture, or empty."""

    def __str__(self) -> str:
        name = f"{self.name}:{self.arch}" if self.arch else self.name
        return f"{name} ({self.operator} {self.version})" if self.operator else name

    def accepts(self, version: str) -> bool:
        """Tell whether a version of the package fulfils the relation."""
        return satisfies(version, self.operator, self.version)

    def accepts_provided(self, version: str) -> bool:
        """Tell whether a ``Provides`` of the name, in a version or (empty) in none, fulfils it."""
        return not self.operator or (bool(version) and self.accepts(version))


Clause = tuple[Relation, ...]
"""Alternatives: one of them is enough."""


@lru_cache(maxsize=65536)
def parse_clause(text: str) -> Clause:
    """Read alternatives (``a (>= 1) | b``); raises RelationError or VersionError."""
    return tuple(_parse_relation(part.strip()) for part in text.split("|"))


def parse_relations(text: str) -> tuple[Clause, ...]:
    """Read a field such as ``Depends``: all clauses must hold. Raises RelationError or VersionError."""
    return tuple(parse_clause(part.strip()) for part in text.split(",") if part.strip())


def show_clause(clause: Clause) -> str:
    """Write a clause as control data has it."""
    return " | ".join(map(str, clause))


def _parse_relation(text: str) -> Relation:
    found = _RELATION.fullmatch(text)
    if found is None:
        raise RelationError(f"not a relation to a package: {text[:120]!r}")
    operator = found["operator"] or ""
    version = found["version"] or ""
    if version:
        version_key(version)
    return Relation(
        found["name"], cast(Operator, _OLD_OPERATORS.get(operator, operator)), version, found["arch"] or ""
    )
