"""How servers ask who asks: ``WWW-Authenticate`` headers, read (RFC 9110, 11.6.1).

Knows nothing of what answers them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Challenge(NamedTuple):
    """How a server wants to be told who asks (RFC 9110, 11.6.1)."""

    scheme: str
    """Lower-case."""
    parameters: Mapping[str, str]
    """Names lower-case."""


def read_challenges(values: list[str]) -> list[Challenge]:
    """Read the values of ``WWW-Authenticate`` headers; what makes no sense is passed over."""
    found: list[Challenge] = []
    for value in values:
        for match in _CHALLENGE.finditer(value[:8192]):
            scheme, name, quoted, bare = match["scheme"], match["name"], match["quoted"], match["bare"]
            if scheme:
                found.append(Challenge(scheme.lower(), {}))
            elif found:
                text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
                last = found[-1]
                found[-1] = Challenge(last.scheme, {**last.parameters, name.lower(): text})
    return found


_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_CHALLENGE = re.compile(
    rf'(?P<name>{_TOKEN})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>{_TOKEN}))'
    rf"|(?P<scheme>{_TOKEN})(?=\s|,|$)"
)
