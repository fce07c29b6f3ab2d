"""Which modules serve a kind of source: placing and fetching, imported when first needed.

Knows nothing of what they do. A new kind of source is added here and in ``lock/kinds.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from reprobuild.build.place.placement import Placement
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.steps import Step
from reprobuild.settings import Settings
from reprobuild.store.store import Store
from reprobuild.store.transaction import Transaction
from reprobuild.tree import Tree

if TYPE_CHECKING:
    from reprobuild.fetch.download import Download


class Placer(Protocol):
    """A module of ``build/place``."""

    def facts(self, step: Step, tree: Tree, store: Store) -> dict[str, Json]:
        """Give what placing depends on of the tree below: few and small, part of the key."""

    def place(
        self, step: Step, pins: Sequence[Pin], facts: Mapping[str, Json], store: Store, group: Transaction
    ) -> Placement:
        """Give what the pinned files come to as entries; bodies go into the group."""


class Finder(Protocol):
    """A module of ``fetch`` that knows where a kind's pinned files can be had."""

    def downloads(self, step: Step, pins: Sequence[Pin], settings: Settings) -> list[Download]:
        """Give a download for each pin, with every address that may have it."""


def placer(kind: str) -> Placer:
    """Give the module that places a kind of source."""
    return cast(Placer, importlib.import_module(f"reprobuild.build.place.{kind}"))


def finder(kind: str) -> Finder:
    """Give the module that finds a kind's files."""
    return cast(Finder, importlib.import_module(f"reprobuild.fetch.{kind}"))
