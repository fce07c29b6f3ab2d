"""What changes between two sets of pins: package by package, source by source.

Knows nothing of how it is shown, nor of how pins are found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reprobuild.derivation.pins import Pin


@dataclass(frozen=True, slots=True)
class PinChange:
    """A package of a source whose pin is new, gone, or another one."""

    package: str
    before: Pin | None
    after: Pin | None


@dataclass(frozen=True, slots=True)
class SourceChange:
    """A source with pins that change."""

    source: str
    """Its name in the lock: ``apt bookworm python3``."""
    before: int
    """How many pins it had; 0 where it was no source."""
    after: int
    changes: tuple[PinChange, ...]
    """By package name; at least one."""


def source_changes(
    before: Mapping[str, Sequence[Pin]], after: Mapping[str, Sequence[Pin]]
) -> Iterator[SourceChange]:
    """Give the sources whose pins differ, by name. What only helps to find bytes is no difference."""
    for source in sorted({*before, *after}):
        old, new = _by_package(before.get(source, ())), _by_package(after.get(source, ()))
        changes = tuple(
            PinChange(package, old.get(package), new.get(package))
            for package in sorted({*old, *new})
            if _content(old.get(package)) != _content(new.get(package))
        )
        if changes:
            yield SourceChange(source, len(old), len(new), changes)


def _by_package(pins: Sequence[Pin]) -> dict[str, Pin]:
    """Give pins by what tells them apart: an exchange's name, what its request was, and its turn."""
    found: dict[str, Pin] = {}
    for pin in pins:
        label = name = (pin.hashed.get("package") or pin.name) + _request(pin)
        turn = 1
        while label in found:
            turn += 1
            label = f"{name} (answer {turn})"
        found[label] = pin
    return found


def _request(pin: Pin) -> str:
    """Write what an exchange's request had beside its URL: `` (accept: text/html)``."""
    request = pin.hashed.get("request", {}) if "status" in pin.hashed else {}
    parts = [name if value is True else f"{name}: {value}" for name, value in sorted(request.items())]
    return f" ({', '.join(parts)})" if parts else ""


def _content(pin: Pin | None) -> dict[str, object] | None:
    return None if pin is None else pin.content
