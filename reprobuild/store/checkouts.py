"""Trees laid out as folders, for engines to run commands on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Checkout:
    """A tree laid out as a stack of folders, which an overlay joins; never written to."""

    lowers: tuple[Path, ...]
    """Topmost first."""
