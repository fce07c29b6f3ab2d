"""A recipe's folder and a store, in which references to base images are resolved and placed in this process.

Knows nothing of where the images come from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reprobuild import oci, settings
from reprobuild.build.place import oci as placing
from reprobuild.build.place.placement import Placement
from reprobuild.derivation.pins import Pin
from reprobuild.events import Event
from reprobuild.fetch.download import fetch_all
from reprobuild.fetch.oci import downloads
from reprobuild.lock.oci import resolve
from reprobuild.lock.resolver import Context
from reprobuild.settings import Settings
from reprobuild.store.store import Store
from reprobuild.tree import Tree


@dataclass
class Scene:
    """What a reference is resolved in."""

    folder: Path
    store: Store
    environment: Mapping[str, str]
    events: list[Event] = field(default_factory=list)
    platform: str = "linux/amd64"

    @property
    def settings(self) -> Settings:
        return settings.load(
            {}, {"REPROBUILD_ALLOW_PRIVATE": "127.0.0.1", **self.environment}, str(self.folder)
        )

    def resolve(self, reference: str, *mirrors: str) -> tuple[Pin, ...]:
        context = Context(self.store, self.settings, self.events.append, self.platform, Tree(), self.folder)
        return resolve(oci(reference, mirrors=mirrors), context)

    def place(self, reference: str, pins: tuple[Pin, ...], *mirrors: str) -> Placement:
        step = oci(reference, mirrors=mirrors)
        missing = [pin for pin in pins if not self.store.blobs.has(pin.sha256)]
        wanted = [
            dataclasses.replace(one, folder=self.folder) for one in downloads(step, missing, self.settings)
        ]
        fetch_all(self.store, wanted, tell=self.events.append, settings=self.settings)
        with self.store.transaction() as group:
            return placing.place(step, pins, {}, self.store, group)

    def tree(self, reference: str, *mirrors: str) -> Tree:
        return Tree(self.place(reference, self.resolve(reference, *mirrors), *mirrors).entries)


def make_scene(folder: Path, environment: Mapping[str, str] | None = None) -> Scene:
    """Make one, with an empty store."""
    return Scene(folder, Store.open(folder / "store"), environment or {})
