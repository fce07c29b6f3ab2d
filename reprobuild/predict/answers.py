"""What a predictor of protocol ``stream`` writes, line by line: answers with numbers, and what is log.

Knows nothing of which numbers are out, nor of processes.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from reprobuild.predict.fields import Fields, Unfit
from reprobuild.predict.strict import parse_strictly

NUMBER = "_id"
FAILURE = "_error"
_SHOWN = 200
_SIGN = b'"_id"'


class Answer(NamedTuple):
    """What a process answered to one record."""

    number: int
    output: bytes
    """The output in canonical form, without line end; empty where there is none."""
    failure: str
    """Why there is none, in a line."""


class NoAnswerError(ValueError):
    """A line that is meant as an answer, to nobody knows which record; the message is a sentence."""


class Answers:
    """Reads answers with certain fields."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def read(self, line: bytes) -> Answer | None:
        """Give the answer that a line holds; None where it is log: it is no object with ``_id`` in it.

        Raises NoAnswerError for the beginning of an object that names ``_id``, and can't be read.
        """
        if _SIGN not in line or not line.lstrip().startswith(b"{"):
            return None
        try:
            value = parse_strictly(line)
        except (ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
            number = _number_in(line)
            if number is None:
                raise NoAnswerError(f"it wrote {shown(line)}: {reason}") from None
            return Answer(number, b"", f"its output: {reason}")
        if NUMBER not in value:
            return None
        number = value.pop(NUMBER)
        if type(number) is not int:
            raise NoAnswerError(f"it wrote {shown(line)}: _id is the number of a record")
        if FAILURE in value:
            return Answer(number, b"", f"it said: {_in_a_line(value[FAILURE])}")
        try:
            return Answer(number, self._fields.encode([value])[0], "")
        except Unfit as error:
            return Answer(number, b"", f"its output: {error.reason}")


def shown(line: bytes) -> str:
    """Give the beginning of a line, for errors."""
    text = ascii(line.decode("utf-8", "replace"))[1:-1]
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _number_in(line: bytes) -> int | None:
    """Give the number in an answer that is malformed elsewhere."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    number = value.get(NUMBER)
    return number if type(number) is int else None


def _in_a_line(said: Any) -> str:
    text = said if isinstance(said, str) else json.dumps(said)
    text = " ".join(text.split()) or "nothing more"
    return text if len(text) <= 10 * _SHOWN else text[: 10 * _SHOWN - 1] + "…"
