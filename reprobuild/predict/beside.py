"""What goes past the predictor from input to output, kept in the order of the records, on disk if it is much.

Knows nothing of records and predictors. Costs nothing where nothing goes past.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reprobuild.predict.intake import ID, INPUT, Carried
from reprobuild.predict.spool import Spool

PREFIX = f"{INPUT}."
"""Before the names of an input's fields where an output has columns."""

_RANKS: Mapping[type, str] = {str: "str", bool: "bool", int: "int", float: "float"}


class Beside:
    """One JSON object, or nothing, for each record of a call; in columns too, where ``has_columns``."""

    def __init__(self, folder: str | None, *, has_columns: bool) -> None:
        """``folder``: where a file is made if need be."""
        self._folder = folder
        self._has_columns = has_columns
        self._spool: Spool | None = None
        self._count = 0
        self.columns: dict[str, str] = {}
        """Names of columns with the field type that all their values are of; ``any`` where there is none."""

    def add(self, carried: Sequence[Carried], count: int) -> None:
        """Add what goes past with ``count`` records: for each a dict, or nothing for all of them."""
        if not carried and self._spool is None:
            self._count += count
            return
        if self._spool is None:
            self._spool = Spool(self._folder)
            for _ in range(self._count >> 16):
                self._spool.write(b"\n" * (1 << 16))
            self._spool.write(b"\n" * (self._count & 0xFFFF))
        if not carried:
            self._spool.write(b"\n" * count)
            return
        if self._has_columns:
            carried = [self._flat(one) for one in carried]
        self._spool.write(b"".join([_written(one) + b"\n" if one else b"\n" for one in carried]))

    def lines(self) -> Iterator[bytes] | None:
        """Give the object of each record as a line, ``b"\\n"`` for none; None where no record has any."""
        if self._spool is None:
            return None
        self._spool.seek(0)
        return iter(self._spool)

    def close(self) -> None:
        """Let go of the file."""
        if self._spool is not None:
            self._spool.__exit__()

    def _flat(self, carried: Carried) -> dict[str, Any]:
        """Give what goes past with one record as values of columns, and note their types."""
        flat = {ID: carried[ID]} if ID in carried else {}
        for name, value in carried.get(INPUT, {}).items():
            self.columns.setdefault(PREFIX + name, "")
            if value is not None:
                flat[PREFIX + name] = value
        for name, value in flat.items():
            kind = _RANKS.get(type(value), "any")
            known = self.columns.setdefault(name, kind)
            if kind != known:
                both = {known, kind}
                self.columns[name] = kind if not known else "float" if both == {"int", "float"} else "any"
        return flat


def _written(value: dict[str, Any]) -> bytes:
    import orjson

    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # nested more deeply than it goes
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def spliced(beside: bytes, output: bytes) -> bytes:
    """Put an object before the fields of an output; both are lines of one non-empty object each."""
    return output if beside == b"\n" else beside[:-2] + b"," + output[1:]


def merged(beside: bytes, output: bytes) -> dict[str, Any]:
    """Give the object and the output as one dict."""
    found: dict[str, Any] = json.loads(output)
    return found if beside == b"\n" else {**json.loads(beside), **found}
