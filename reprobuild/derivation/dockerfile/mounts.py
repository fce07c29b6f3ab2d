"""What ``RUN --mount=…`` says.

Knows nothing of how a mount comes about. Secrets, SSH agents and writable files of other stages are refused.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Literal

from reprobuild.derivation.dockerfile.parser import Instruction
from reprobuild.derivation.steps import Run

_KNOWN = {
    "bind": ("type", "target", "dst", "destination", "source", "src", "from", "readonly", "ro"),
    "cache": (
        *("type", "id", "target", "dst", "destination", "sharing", "from", "source", "src"),
        *("readonly", "ro", "mode", "uid", "gid", "rw", "readwrite"),
    ),
    "tmpfs": ("type", "target", "dst", "destination", "size"),
}
_FLAGS = ("readonly", "ro", "rw", "readwrite", "required")


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file that one command sees, and that is no part of the image."""

    kind: Literal["bind", "empty"]
    """``empty``: a folder that is empty at first and gone afterwards (``cache``, ``tmpfs``)."""
    target: str
    """As it is written: relative to the working folder, variables still in it."""
    source: str = ""
    """For ``bind``: a path of the context or the stage."""
    whence: str = ""
    """For ``bind``: a stage or an image; empty for the context."""


def mounts_of(step: Run) -> list[Mount]:
    """Give the mounts of a command. Raises RecipeError."""
    if not step.mounts:
        return []
    one = Instruction(step.where, "RUN", step.title)
    return [mount_of(text, one) for text in step.mounts]


def context_sources(step: Run) -> list[str]:
    """Give the paths of the context that a command sees. Raises RecipeError."""
    mounts = [mount for mount in mounts_of(step) if mount.kind == "bind" and not mount.whence]
    return [mount.source.strip("/") or "." for mount in mounts]


def mount_of(text: str, one: Instruction) -> Mount:
    """Read what follows ``--mount=``. Raises RecipeError, with the instruction's line."""
    try:
        parts = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise one.error(f"--mount={text}: {error}") from None
    said: dict[str, str] = {}
    for part in parts:
        name, sign, value = part.partition("=")
        name = name.strip().lower()
        if not sign and name not in _FLAGS:
            raise one.error(f"--mount={text}: {part!r} is no name=value")
        said[name] = value if sign else "true"
    kind = said.get("type", "bind")
    if kind not in _KNOWN:
        hint = "no secret reaches a build: fetch what needs one by a step such as url(…), before"
        raise one.error(f"--mount=type={kind} is not supported", hint if kind in ("secret", "ssh") else "")
    for name in said:
        if name not in _KNOWN[kind]:
            raise one.error(f"--mount=type={kind}: {name} is not supported")
    target = said.get("target") or said.get("dst") or said.get("destination") or ""
    if not target:
        raise one.error(f"--mount={text}: a target is needed")
    if kind == "cache" and (said.get("from") or said.get("source") or said.get("src")):
        raise one.error("--mount=type=cache: a cache with contents (from=, source=) is not supported")
    if kind != "bind":
        return Mount("empty", target)
    if any(said.get(name, "true") not in ("true", "1") for name in ("readonly", "ro")):
        raise one.error("--mount=type=bind: one that can be written to is not supported")
    if "$" in said.get("from", ""):
        raise one.error("--mount=type=bind: from= names a stage or an image, without variables")
    return Mount("bind", target, said.get("source") or said.get("src") or "", said.get("from", ""))
