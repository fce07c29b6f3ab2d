"""Text for people: control characters made visible, sizes and times in words, the nearest name.

Knows nothing of terminals or colours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# C0 (but tab and newline), DEL, C1, line separators, directional overrides, lone surrogates.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    """Write control characters as ``\\x1b``: what a command prints must not steer a terminal.

    Tabs and newlines stay.
    """
    return _CONTROL.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def size_text(size: int) -> str:
    """Give a number of bytes as people say it: ``999 B``, ``1.2 MB`` (powers of 1000)."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def seconds_text(seconds: float) -> str:
    """Give a duration as people say it: ``0.4 s``, ``12 s``, ``3 min 20 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def rate_text(rate: float) -> str:
    """Give how many a second as people say it: ``1,200/s``, ``3.5/s``, ``12 s each``."""
    if rate >= 9.95:
        return f"{rate:,.0f}/s"
    return f"{rate:.1f}/s" if rate >= 1 else f"{seconds_text(1 / rate)} each"


def count_text(count: int, noun: str, plural: str = "") -> str:
    """Give a count with its noun: ``1 step``, ``2,000 steps``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Give the known word that is most like one that is not known, or ``""``."""
    from difflib import get_close_matches

    names = sorted(known)
    found = get_close_matches(word, names, n=1, cutoff=0.6)
    if found:
        return found[0]
    starting = [name for name in names if word and name.startswith(word)]
    return starting[0] if len(starting) == 1 else ""


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Give a hint that names the nearest known word, or else lists them (at most 12)."""
    names = sorted(known)
    if near := nearest(word, names):
        return f"did you mean {near}?"
    if names and len(names) <= 12:
        return f"known: {', '.join(names)}"
    return otherwise
