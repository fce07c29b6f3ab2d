"""Pins: what a lock knows of a source, as frozen data.

Knows nothing of where bytes come from or go to. ``content`` is what enters a hash; the rest only
helps to find the bytes again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reprobuild.derivation.predictors import Json
from reprobuild.digest import Digest


@dataclass(frozen=True, slots=True)
class Pin:
    """One file that a source came to: enough to take it from any mirror.

    In the lock it is one line: ``{"name": …, "size": …, "sha256": …}`` and what its kind adds.
    """

    name: str
    """The file's name: of a package, a wheel, the last part of a URL."""
    size: int
    """Bytes."""
    sha256: Digest
    hashed: Mapping[str, Json] = field(default_factory=dict)
    """What the kind adds and what placing depends on: ``package``, ``version``, ``arch``."""
    found: Mapping[str, str] = field(default_factory=dict)
    """What the kind adds to find the bytes again: ``url``, ``path``, ``date``. In no hash."""

    @property
    def content(self) -> dict[str, object]:
        """What enters the derivation."""
        return {"name": self.name, "size": self.size, "sha256": self.sha256.hex, **self.hashed}
