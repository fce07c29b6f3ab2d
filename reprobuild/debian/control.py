"""Debian control data: stanzas of fields, as in ``Packages``, ``control``, ``Release``, ``.sources``.

Knows nothing of what a field means. Source: Debian Policy 4.6, section 5.1, and deb822(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reprobuild.errors import CheckFailedError

Stanza = dict[str, str]
"""Fields by name in lower case; continuation lines joined by newlines, without their first blank."""

_NAME = re.compile(r"[!-9;-~]+")


class ControlError(CheckFailedError):
    """Control data that breaks the syntax."""


def parse_stanza(text: str) -> Stanza:
    """Read one stanza; raises ControlError for a line that is no field, and for a field given twice."""
    fields: Stanza = {}
    name = ""
    lines: list[str] = []
    for line in text.split("\n"):
        if line[:1] in (" ", "\t"):
            if not name:
                raise ControlError(f"control data begins with a continuation line: {line[:80]!r}")
            lines.append(line[1:].rstrip())
            continue
        if name:
            fields[name] = "\n".join(lines)
            name = ""
        if not line.strip() or line.startswith("#"):
            continue
        key, separator, value = line.partition(":")
        name = key.lower()
        if not separator or not _NAME.fullmatch(key):
            raise ControlError(f"not a field of control data: {line[:80]!r}")
        if name in fields:
            raise ControlError(f"the field {key} is there twice")
        lines = [value.strip()]
    if name:
        fields[name] = "\n".join(lines)
    return fields


def parse_stanzas(text: str) -> Iterator[Stanza]:
    """Read stanzas that empty lines separate; those without a field are left out."""
    for block in re.split(r"\n(?:[ \t]*\n)+", text):
        if fields := parse_stanza(block):
            yield fields
