"""How the tree of a ``git`` step is brought again: from its address or a mirror, and compared with its pin.

Knows nothing of how a commit becomes a tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Git
from reprobuild.errors import DigestMismatchError
from reprobuild.fetch.download import Download

if TYPE_CHECKING:
    from reprobuild.events import Tell
    from reprobuild.fetch.git_tree import Found
    from reprobuild.settings import Settings
    from reprobuild.store.store import Store


def downloads(step: Git, pins: Sequence[Pin], settings: Settings) -> list[Download]:
    """Give one download, which brings the listing and all bodies that it names."""
    urls = tuple(dict.fromkeys((step.url, *step.mirrors)))
    return [
        Download(
            name=pin.name, urls=urls, sha256=pin.sha256, where=str(step.where), bring=partial(_bring, step)
        )
        for pin in pins
    ]


def _bring(step: Git, download: Download, store: Store, settings: Settings, tell: Tell) -> None:
    from reprobuild.fetch.git_tree import bring_tree

    def check(found: Found) -> None:
        if found.tree.digest != download.sha256:
            raise DigestMismatchError(
                f"{download.where}: {download.name}: the tree is not the pinned one\n"
                f"  from      {found.url}\n"
                f"  expected  {download.sha256}\n"
                f"  got       {found.tree.digest}, {len(found.tree):,} entries (kept in the store)\n"
                "  the commit is the same, so its large files or submodules differ, or the lock was edited",
                download.mend.replace("{got}", found.tree.digest.hex),
            )

    bring_tree(step, store, settings, tell, folder=download.folder, where=download.where, fits=check)
