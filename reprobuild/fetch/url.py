"""Where the file of a ``url`` step can be had.

Knows nothing of how it is fetched.
"""

from __future__ import annotations

from collections.abc import Sequence

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Url
from reprobuild.fetch.download import Download
from reprobuild.settings import Settings


def downloads(step: Url, pins: Sequence[Pin], settings: Settings) -> list[Download]:
    """Give a download for each pin: the step's address first, then its mirrors, then where it was locked."""
    return [
        Download(
            name=pin.name,
            urls=tuple(dict.fromkeys(filter(None, (step.url, *step.mirrors, pin.found.get("url", ""))))),
            sha256=pin.sha256,
            size=pin.size,
            where=str(step.where),
        )
        for pin in pins
    ]
