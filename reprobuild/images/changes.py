"""What a command changed in a tree, as an engine found it: the raw material of a layer.

Knows nothing of engines, nor of the normal form that ``normal_form`` brings it to.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from reprobuild.digest import Digest

RawKind = Literal["d", "f", "l", "gone", "opaque", "other"]


class RawChange(NamedTuple):
    """One path that a command changed, as the engine found it: not yet in normal form.

    ``gone``: removed. ``opaque``: a directory that replaced one of the tree below, so that nothing
    of what was below it remains but what is reported too; a ``d`` follows for the same path.
    ``other``: a device, socket or fifo.
    """

    path: str
    """Relative to the root; bytes that are no UTF-8 as lone surrogates (``os.fsdecode``)."""
    kind: RawKind
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    """Whole seconds since the epoch."""
    size: int = 0
    target: str = ""
    capability: bytes = b""


class Changed(NamedTuple):
    """A change, with the digest of the body where it has one."""

    change: RawChange
    digest: Digest | None = None
    """Of the body; None unless a file."""
