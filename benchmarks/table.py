"""One row of the benchmarks: a thing measured here, and by its peers, in the same run.

Knows nothing of what is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def seconds_row(name: str, seconds: Mapping[str, float | None]) -> Row:
    """Give a row of what ``timing.medians`` gave, in milliseconds where ours takes less than a second."""
    ours = seconds["ours"]
    assert ours is not None
    factor, unit = (1, "s") if ours >= 1 else (1000, "ms")
    shown = {peer: None if found is None else found * factor for peer, found in seconds.items()}
    return Row(name, ours * factor, {peer: found for peer, found in shown.items() if peer != "ours"}, unit)


def markdown(rows: Iterable[Row]) -> str:
    """Give rows as a table, a line for each peer, with how many times ours its figure is.

    The ratio is peer to ours where less is better, ours to peer where more is: above 1, ours is ahead.
    """
    lines = ["| what | ours | peer | peer's | ratio |", "| --- | ---: | --- | ---: | ---: |"]
    for row in rows:
        ours = f"{figure(row.ours)} {row.unit}"
        if not row.peers:
            lines.append(f"| {row.name} | {ours} | | | |")
        for number, (peer, found) in enumerate(row.peers.items()):
            first = (row.name, ours) if number == 0 else ("", "")
            if found is None:
                cells = (*first, peer, "not installed", "")
            else:
                ratio = found / row.ours if row.better == "less" else row.ours / found
                cells = (*first, peer, f"{figure(found)} {row.unit}", f"{ratio:.2f}")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def figure(value: float) -> str:
    """Write a figure with three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
