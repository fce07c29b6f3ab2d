"""One row of the benchmarks: a thing measured here, and by its peers, in the same run.

Knows nothing of what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured; figures of all are in one unit."""

    name: str
    ours: float
    peers: Mapping[str, float | None]
    """Peer → its figure; None where it is not installed."""
    unit: str
    better: Literal["less", "more"] = "less"
