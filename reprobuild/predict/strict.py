"""One JSON text read strictly: what has no canonical form is refused, in words, with the field it is in.

Knows nothing of files and lines.
"""

from __future__ import annotations

import json
from typing import Any

from reprobuild.canonical import LARGEST_INTEGER

Json = Any
"""A JSON value, as Python's json module gives it."""


class _Bad:
    """Stands where a number that has no place in a record was read: a fault only where it is needed."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def parse_strictly(line: bytes) -> Json:
    """Parse one JSON text; raises ValueError, in words, for what has no canonical form."""
    value = parse_loosely(line)
    check(value)
    return value


def parse_loosely(line: bytes) -> Json:
    """Parse one JSON text in which ``check`` still has to look at what is needed of it."""
    if not line.strip():
        raise ValueError("the line is empty")
    if line.startswith(b"\xef\xbb\xbf"):
        raise ValueError("a byte order mark stands before the record; write the file as UTF-8 without one")
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("the file is UTF-16; write it as UTF-8")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the line is not UTF-8 (byte {error.start + 1})") from None
    return parse_text(text)


def parse_text(text: str) -> Json:
    """Do what ``parse_loosely`` does with a text."""
    try:
        return json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} (character {error.colno})") from None


def check(value: Json) -> None:
    """Raise ValueError, naming the field of a record, for a number or a text that has no canonical form."""
    if not isinstance(value, dict):
        _check(value)
        return
    for name, item in value.items():
        _check(name)
        if type(item) is not str or not item.isascii():
            try:
                _check(item)
            except ValueError as error:
                raise ValueError(f"the field {name}: {error}") from None


def _check(value: Json) -> None:
    if isinstance(value, _Bad):
        raise ValueError(value.reason)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            code = ord(value[error.start])
            raise ValueError(f"a text holds the lone surrogate \\u{code:04x}") from None
    elif isinstance(value, dict):
        for name, item in value.items():
            _check(name)
            _check(item)
    elif isinstance(value, list):
        for item in value:
            _check(item)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {ascii(name)[:80]} is there twice")
        found[name] = value
    return found


def _constant(name: str) -> Any:
    return _Bad(f"{name} is no JSON number")


def _integer(digits: str) -> Any:
    if len(digits) > 17 or abs(int(digits)) > LARGEST_INTEGER:
        return _Bad(f"the integer {digits[:40]} is past 2^53-1; write it as a text")
    return int(digits)


def _float(digits: str) -> Any:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        return _Bad(f"the number {digits[:40]} is larger than a double can hold")
    return value
