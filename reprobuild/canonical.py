"""Canonical JSON (RFC 8785): one sequence of bytes for one value.

Knows nothing of what the values mean. Refuses what has no canonical form: NaN and infinities,
integers past 2^53-1, lone surrogates, keys that are no strings.
"""

from __future__ import annotations

import math
from json.encoder import encode_basestring

from reprobuild.digest import Digest

LARGEST_INTEGER = 2**53 - 1


class NotCanonicalError(ValueError):
    """A value that RFC 8785 gives no form; the message names where it stands in the value."""


class _Unwritable(Exception):  # noqa: N818
    """The same while it is being found: what is wrong, and the steps that lead there, innermost first."""

    def __init__(self, shown: str, why: str) -> None:
        self.shown = shown
        self.why = why
        self.steps: list[str] = []

    def within(self, step: str) -> None:
        self.steps.append(step)

    def __str__(self) -> str:
        return f"{self.shown} at ${''.join(reversed(self.steps))}{self.why}"


def canonical(value: object) -> bytes:
    """Give the canonical JSON of a value of dicts, lists, tuples, strings, numbers, booleans, None.

    Raises NotCanonicalError, naming the place of the offending part (``$.steps[2].size``).
    """
    parts: list[str] = []
    try:
        _write(value, parts.append)
    except _Unwritable as error:
        raise NotCanonicalError(str(error)) from None
    try:
        return "".join(parts).encode()
    except UnicodeEncodeError:
        raise NotCanonicalError(f"a lone surrogate at {_find_surrogate(value, '$')}") from None


def canonical_digest(value: object) -> Digest:
    """Give the sha256 of the canonical JSON of a value."""
    return Digest.of(canonical(value))


def _write(value: object, emit: _Emit) -> None:
    if type(value) is str:
        emit(encode_basestring(value))
    elif type(value) is float:
        emit(_number(value))
    elif value is None:
        emit("null")
    elif value is True:
        emit("true")
    elif value is False:
        emit("false")
    elif isinstance(value, dict):
        _write_object(value, emit)
    elif isinstance(value, list | tuple):
        # Here, not in a function of its own: a list within lists takes one frame of the stack.
        emit("[")
        index = 0
        try:
            for index, item in enumerate(value):
                if index:
                    emit(",")
                _write(item, emit)
        except _Unwritable as error:
            error.within(f"[{index}]")
            raise
        emit("]")
    elif isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise _Unwritable(f"the integer {value}", " is past 2^53-1")
        emit(str(int(value)))
    elif isinstance(value, str):
        emit(encode_basestring(value))
    elif isinstance(value, float):
        emit(_number(float(value)))  # others may show themselves otherwise
    else:
        raise _Unwritable(type(value).__name__, " is no JSON value")


def _write_object(value: dict[object, object], emit: _Emit) -> None:
    items = [(key, item) for key, item in value.items() if isinstance(key, str)]
    if len(items) < len(value):
        key = next(key for key in value if not isinstance(key, str))
        raise _Unwritable(f"the key {key!r}", " is not a string")
    try:
        # Section 3.2.3: by UTF-16 code units, which differs from code points past U+FFFF.
        ordered = sorted(items, key=lambda item: item[0].encode("utf-16-be"))
    except UnicodeEncodeError:
        raise _Unwritable("a lone surrogate in a key", "") from None
    emit("{")
    is_first = True
    for name, item in ordered:
        if not is_first:
            emit(",")
        is_first = False
        emit(encode_basestring(name))
        emit(":")
        try:
            _write(item, emit)
        except _Unwritable as error:
            error.within(f".{name}")
            raise
    emit("}")


def _number(value: float) -> str:
    """Write a float as ECMAScript's Number::toString does (RFC 8785, section 3.2.2.3)."""
    size = abs(value)
    # Python writes the same shortest digits, and these without an exponent too.
    if 1e-4 <= size < 1e16 and not value.is_integer():
        return repr(value)
    if not math.isfinite(value):
        raise _Unwritable(str(value), " is no JSON number")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent_text = repr(size).partition("e")
    whole, _, fraction = mantissa.partition(".")
    exponent = int(exponent_text or 0)
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + exponent - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    power = point - 1
    shown = f"e{'+' if power >= 0 else '-'}{abs(power)}"
    return sign + digits[0] + ("." + digits[1:] if count > 1 else "") + shown


def _find_surrogate(value: object, where: str) -> str:
    if isinstance(value, str):
        return where if any(0xD800 <= ord(character) <= 0xDFFF for character in value) else ""
    if isinstance(value, dict):
        found = (_find_surrogate(item, f"{where}.{key}") for key, item in value.items())
    elif isinstance(value, list | tuple):
        found = (_find_surrogate(item, f"{where}[{index}]") for index, item in enumerate(value))
    else:
        return ""
    return next(filter(None, found), "")


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    _Emit = Callable[[str], None]
