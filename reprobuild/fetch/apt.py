"""Debian packages as downloads: each pin with every address that may have it.

Knows nothing of indexes or of what a package holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Apt
from reprobuild.fetch.apt_sources import APT_FOLDER, pool_bases, read_apt_sources
from reprobuild.fetch.download import Download
from reprobuild.settings import Settings


def downloads(
    step: Apt, pins: Sequence[Pin], settings: Settings, *, apt_folder: Path = APT_FOLDER
) -> list[Download]:
    """Give the downloads of a step's packages, in the order of its pins.

    Addresses: mirrors of step and settings, this machine's apt sources, the snapshot archive at the
    pin's date.
    """
    mirrors = (*step.mirrors, *settings.debian_mirrors)
    sources = read_apt_sources(apt_folder)
    bases: dict[str, list[str]] = {}
    wanted = []
    for pin in pins:
        date = pin.found.get("date", "")
        if date not in bases:
            bases[date] = pool_bases(step.suite, date, mirrors, sources)
        path = pin.found.get("path", "")
        wanted.append(
            Download(
                name=pin.name,
                urls=tuple(f"{base}/{path}" for base in bases[date]),
                sha256=pin.sha256,
                size=pin.size,
                where=str(step.where),
            )
        )
    return wanted
