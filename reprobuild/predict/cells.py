"""Texts of a table's cells and the typed values that they stand for; strict in both directions.

Knows nothing of files. Texts stand as they are, numbers as in JSON, truth values as ``true`` and ``false``,
everything else as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from reprobuild.canonical import LARGEST_INTEGER, canonical
from reprobuild.predict.strict import Json, parse_strictly

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def reader(kind: str) -> Callable[[str], Json] | None:
    """Give what reads the cells of a field; None for texts, which stand for themselves.

    It raises ValueError with what is wrong: "is 'x' where an integer is needed".
    """
    if kind in ("str", "file"):
        return None
    return {"int": _integer, "float": _number, "bool": _truth}.get(kind, _json)


def cell(value: Json) -> str:
    """Give the text of a value."""
    if isinstance(value, str):
        return value
    return canonical(value).decode()


def json_cell(value: Json) -> str:
    """Give the text of a value of a field that may be anything: JSON, so that ``"1"`` differs from ``1``."""
    return canonical(value).decode()


def writer(kind: str) -> Callable[[Any], str]:
    """Give what writes the cells of a field, so that ``reader`` reads them back."""
    return cell if kind in ("str", "file", "int", "float", "bool") else json_cell


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"is {_shown(text)} where an integer is needed")
    if len(text) > 17 or abs(int(text)) > LARGEST_INTEGER:
        raise ValueError(f"is the integer {text[:40]}, which is past 2^53-1")
    return int(text)


def _number(text: str) -> float | int:
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"is {_shown(text)} where a number is needed")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"is {text[:40]}, which is larger than a double can hold")
    return value


def _truth(text: str) -> bool:
    try:
        return _TRUTH[text]
    except KeyError:
        raise ValueError(f"is {_shown(text)} where true or false is needed") from None


def _json(text: str) -> Json:
    try:
        return parse_strictly(text.encode())
    except ValueError as error:
        raise ValueError(f"is {_shown(text)} where JSON is needed: {error}") from None
    except RecursionError:
        raise ValueError("holds lists or objects that are nested too deeply") from None


def _shown(text: str) -> str:
    return ascii(text)[:60] if text else "empty"
