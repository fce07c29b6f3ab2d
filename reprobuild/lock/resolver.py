"""What a resolver gets to work with, whatever the kind of source.

Knows nothing of any one kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reprobuild.events import Tell
from reprobuild.settings import Settings
from reprobuild.store.store import Store
from reprobuild.tree import Tree

if TYPE_CHECKING:
    from reprobuild.build.realize import Growth
    from reprobuild.derivation.pins import Pin


@dataclass(frozen=True, slots=True)
class Context:
    """Where a resolver looks, what it may use, and what the image has so far."""

    store: Store
    settings: Settings
    tell: Tell
    platform: str
    """``linux/amd64``."""
    tree: Tree
    """The tree below the step."""
    recipe_folder: Path
    growth: Growth | None = None
    """The image as it has grown below the step, for sources that are commands of it."""
    compared_with: tuple[Pin, ...] | None = None
    """What is locked, where what is found is only compared with it."""
