"""What placing a source gives: entries for a tree, as every kind of source makes them.

Knows nothing of any one kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from reprobuild.tree import Entry


@dataclass(frozen=True, slots=True)
class Placement:
    """Entries as ``tree.overlay`` takes them; their bodies are in the store or in the open group."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()
    """What a person should hear when locking: a maintainer script that would have mattered."""
