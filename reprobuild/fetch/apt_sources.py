"""Where a Debian suite may be had: mirrors that are set, this machine's apt sources, the snapshot archive.

Knows nothing of what is in an archive. Source of the formats: sources.list(5). Nothing is trusted for
where it comes from (``debian.release`` checks signatures, pins check the rest), so options such as
``Signed-By`` and ``Trusted`` are left aside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from reprobuild.debian.control import ControlError, parse_stanzas

APT_FOLDER = Path("/etc/apt")
SNAPSHOT_ARCHIVE = "https://snapshot.debian.org/archive"
DATE = "{date}"
"""Stands for a moment (``20240131T235959Z``) in the address of a mirror of the snapshot archive."""

MOMENT = "%Y%m%dT%H%M%SZ"

DEBIAN_SUITES = re.compile(
    r"(?:buster|bullseye|bookworm|trixie|forky|duke|sid|(?:old)*stable|testing|unstable|experimental)"
    r"(?:-updates|-backports|-proposed-updates)?"
)
"""Suites that share one archive: who serves one of them may serve the others."""

_OPTIONS = re.compile(r"\[[^]]*\]")


@dataclass(frozen=True, slots=True)
class AptSource:
    """One address of this machine's apt sources, with one suite."""

    base: str
    """``http://mirror.example/debian``, without a trailing slash."""
    suite: str


def read_apt_sources(folder: Path = APT_FOLDER) -> list[AptSource]:
    """Read the binary sources that are enabled on this machine, one-line and deb822, in apt's order.

    Empty where there is no apt; lines and stanzas that make no sense, and schemes other than http(s),
    are left out.
    """
    files = [folder / "sources.list"]
    if (parts := folder / "sources.list.d").is_dir():
        files.extend(sorted(p for p in parts.iterdir() if p.suffix in (".list", ".sources")))
    found: dict[AptSource, None] = {}
    for path in files:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        read = _read_deb822 if path.suffix == ".sources" else _read_one_line
        found.update(
            dict.fromkeys(source for source in read(text) if source.base.startswith(("http://", "https://")))
        )
    return list(found)


def _read_one_line(text: str) -> Iterator[AptSource]:
    for line in text.split("\n"):
        words = _OPTIONS.sub(" ", line.partition("#")[0]).split()
        if len(words) >= 3 and words[0] == "deb":
            yield AptSource(words[1].rstrip("/"), words[2].rstrip("/"))


def _read_deb822(text: str) -> Iterator[AptSource]:
    try:
        stanzas = list(parse_stanzas(text))
    except ControlError:
        return
    for fields in stanzas:
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in (
            "no",
            "false",
        ):
            continue
        for base in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield AptSource(base.rstrip("/"), suite.rstrip("/"))


def current_bases(suite: str, mirrors: tuple[str, ...], sources: list[AptSource]) -> list[str]:
    """Give the addresses that may serve a suite as it is now, the likeliest first.

    ``mirrors``: those of step and settings. This machine's sources count where they name the suite;
    then, for Debian's own suites, those that name another of them.
    """
    bases = [mirror.rstrip("/") for mirror in mirrors if DATE not in mirror]
    bases.extend(source.base for source in sources if source.suite == suite)
    if DEBIAN_SUITES.fullmatch(suite):
        bases.extend(source.base for source in sources if DEBIAN_SUITES.fullmatch(source.suite))
    return list(dict.fromkeys(bases))


def snapshot_bases(suite: str, moment: datetime, mirrors: tuple[str, ...]) -> list[str]:
    """Give the addresses that serve a suite as it was at a moment."""
    archive = "debian-security" if "security" in suite else "debian"
    templates = [mirror.rstrip("/") for mirror in mirrors if DATE in mirror]
    templates.append(f"{SNAPSHOT_ARCHIVE}/{archive}/{DATE}")
    return [template.replace(DATE, moment.strftime(MOMENT)) for template in templates]


def pool_bases(suite: str, date: str, mirrors: tuple[str, ...], sources: list[AptSource]) -> list[str]:
    """Give the addresses that may have a file of a pool, known to have been there at a date.

    The snapshot archive is asked for a day later first: it keeps what it saw at fixed hours, so what
    came with an index is in the snapshot after it.
    """
    bases = current_bases(suite, mirrors, sources)
    try:
        moment = datetime.strptime(date, MOMENT)
    except ValueError:
        return bases
    for time in (moment + timedelta(days=1), moment):
        bases.extend(snapshot_bases(suite, time, mirrors))
    return bases
