"""Patterns of paths: what ``.dockerignore`` leaves out, and the globs of ``COPY`` and ``ADD``.

Knows nothing of files. The rules are Go's ``filepath.Match`` and moby's ``patternmatcher``.
"""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Sequence

GLOB = re.compile(r"[*?\[\\]")
"""What makes a source a pattern."""


class PatternError(ValueError):
    """A pattern that means nothing: a bracket without its end, a class without a character."""


def cleaned(path: str) -> str:
    """Give a path of the context without leading slashes, ``.`` and doubled slashes; ``""`` for all of it.

    Raises PatternError for one that leads outside.
    """
    found = posixpath.normpath(path.lstrip("/") or ".")
    if found == ".." or found.startswith("../"):
        raise PatternError(f"{path!r} leads outside the context")
    return "" if found == "." else found


@functools.lru_cache(maxsize=1024)
def glob(pattern: str) -> re.Pattern[str]:
    """Give what matches as Go's ``filepath.Match`` does: no ``*`` passes a slash. Raises PatternError."""
    return _compiled(pattern, has_stars=False)


class Ignored:
    """What a ``.dockerignore`` leaves out of the context."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        """Take patterns as ``ignore_patterns`` gives them."""
        self._rules = [
            (pattern.startswith("!"), _compiled(pattern.removeprefix("!"), has_stars=True))
            for pattern in patterns
        ]
        self.brings_back = any(back for back, _ in self._rules)
        """Whether something below a folder that is left out may be there all the same."""

    def __call__(self, path: str) -> bool:
        """Tell whether a path of the context is left out: the last pattern that fits decides."""
        parts = path.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        out = False
        for brings_back, pattern in self._rules:
            if brings_back == out and any(pattern.fullmatch(one) for one in above):
                out = not brings_back
        return out


def ignore_patterns(text: str) -> tuple[str, ...]:
    """Read a ``.dockerignore``. Raises PatternError for a pattern that means nothing."""
    found = []
    for line in text.removeprefix("\ufeff").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        pattern = line.strip()
        sign = "!" if pattern.startswith("!") else ""
        pattern = posixpath.normpath(pattern.removeprefix("!").strip() or "!").lstrip("/")
        if pattern == "!":
            raise PatternError("'!' without a pattern")
        if pattern in ("", "."):
            continue
        _compiled(pattern, has_stars=True)
        found.append(sign + pattern)
    return tuple(found)


def _compiled(pattern: str, *, has_stars: bool) -> re.Pattern[str]:
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            if has_stars and pattern[at : at + 1] == "*":
                at += 1
                at += pattern[at : at + 1] == "/"
                parts.append("(?:.*/)?" if at < len(pattern) else ".*")
            else:
                parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "\\":
            if at == len(pattern):
                raise PatternError(f"{pattern!r} ends in an escape")
            parts.append(re.escape(pattern[at]))
            at += 1
        elif char == "[":
            found, at = _class(pattern, at)
            parts.append(found)
        else:
            parts.append(re.escape(char))
    return re.compile("".join(parts), re.DOTALL)


def _class(pattern: str, at: int) -> tuple[str, int]:
    """Read a class of characters from after its bracket."""
    is_not = pattern[at : at + 1] in ("^", "!")
    at += is_not
    inner = ""
    while at < len(pattern) and (pattern[at] != "]" or not inner):
        low, at = _member(pattern, at)
        high = low
        if pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] not in ("", "]"):
            high, at = _member(pattern, at + 1)
        if high < low:
            raise PatternError(f"{pattern!r} has the range {low}-{high}")
        inner += f"{re.escape(low)}-{re.escape(high)}" if low != high else re.escape(low)
    if at >= len(pattern):
        raise PatternError(f"a ] is missing in {pattern!r}")
    return f"(?!/)[{'^' if is_not else ''}{inner}]", at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    if pattern[at] == "\\":
        at += 1
        if at >= len(pattern):
            raise PatternError(f"{pattern!r} ends in an escape")
    return pattern[at], at + 1
