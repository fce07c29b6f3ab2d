"""What is taken of an input's records: the predictor's fields, by their names there, and what goes past it.

Knows nothing of how records are written. What goes past (``instance_id``, with ``keeps_input`` the whole
record) never reaches the predictor or a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from reprobuild.canonical import LARGEST_INTEGER
from reprobuild.errors import UsageError
from reprobuild.predict.fields import Fields, Json, Unfit
from reprobuild.value import NOTHING

ID = "instance_id"
"""The field by which people know a record."""
INPUT = "input"
"""Where the whole record goes in an output."""
SHOWN = 8
"""Names shown where there may be many."""

Carried = dict[str, Any]
"""What goes past the predictor with one record: ``instance_id``, ``input``, both or none."""
Rewrite = Callable[[Json, int], Json]
"""Gives the record that takes a record's place (files by digest); the line is for its errors."""
Refuse = Callable[[int, str], Exception]
"""Makes the error for a line (counted from 1) and a reason."""


class Intake:
    """Takes the records of one call apart."""

    def __init__(
        self,
        fields: Fields,
        outputs: Iterable[str] = (),
        mapping: Mapping[str, str] = NOTHING,
        *,
        keeps_input: bool = False,
        keep: Callable[[Sequence[Carried], int], None] | None = None,
    ) -> None:
        """``mapping``: field → its name in the inputs; ``outputs``: the predictor's output fields.

        ``keep`` gets what goes past the predictor, in the order of the records: for each its dict, or an
        empty list and how many records have nothing. Raises UsageError for a mapping that makes no sense.
        """
        self.fields = fields
        self.keeps_input = keeps_input
        self.ignored: dict[str, None] = {}
        """Fields of inputs that nothing was taken from, in the order they were met."""
        self._keep = keep
        outputs = tuple(outputs)
        self._has_id = ID not in fields.types and ID not in outputs
        for name in mapping:
            if name not in fields.types and not (name == ID and self._has_id):
                raise UsageError(
                    f"--map {name}={mapping[name]}: {name} is no field of the predictor",
                    f"its fields: {', '.join(fields.types)}",
                )
        if keeps_input and INPUT in outputs:
            raise UsageError(f"the predictor has an output {INPUT} of its own: --include-input has no place")
        self.sources = tuple((name, mapping.get(name, name)) for name in fields.types)
        """Each field with its name in the inputs."""
        self.id_source = mapping.get(ID, ID) if self._has_id else ""
        """What ``instance_id`` is called in the inputs; empty where it is a field like any other."""
        self._needed = {source for _, source in self.sources}
        self._known = {*self._needed, self.id_source}
        self._is_plain = all(name == source for name, source in self.sources) and not keeps_input

    def is_exact(self, records: Sequence[Json]) -> bool:
        """Whether records have as many fields as are taken, so that they may go on as they are."""
        if not self._is_plain:
            return False
        try:
            return set(map(len, records)) <= {len(self.sources)}
        except TypeError:
            return False

    def take(self, record: Json, index: int = 0) -> tuple[Json, Carried]:
        """Give the predictor's record, and what goes past it. Raises Unfit."""
        if type(record) is not dict:
            return record, {}
        taken = {}
        for name, source in self.sources:
            if source not in record:
                raise Unfit(index, self.missing(source, record))
            taken[name] = record[source]
        carried: Carried = {}
        if self.id_source in record:
            carried[ID] = checked_id(record[self.id_source], index)
        if self.keeps_input:
            carried[INPUT] = record
        elif len(record) > len(self._known & record.keys()):
            self.ignore(record)
        return taken, carried

    def ignore(self, names: Iterable[str]) -> None:
        """Note the names that nothing is taken from."""
        for name in names:
            if name not in self._known and len(self.ignored) < 4 * SHOWN:
                self.ignored.setdefault(name)

    def missing(self, source: str, names: Iterable[str]) -> str:
        """Say that a field is missing, and what is there."""
        found = [ascii(name)[1:-1][:80] for name in names]
        more = ", …" if len(found) > SHOWN else ""
        there = f"there is {', '.join(found[:SHOWN])}{more}" if found else "there is none"
        return f"the field {source} is missing ({there})"

    def commit(self, carried: Sequence[Carried], count: int) -> None:
        """Hand on what goes past the predictor with ``count`` records, of which all have been read."""
        if self._keep is not None:
            self._keep(carried if any(carried) else (), count)

    def encode(
        self,
        records: Sequence[Json],
        where: Sequence[int],
        refuse: Refuse,
        rewrite: Rewrite | None,
        columns: Mapping[str, str] = NOTHING,
    ) -> list[bytes]:
        """Give the canonical form of the predictor's records.

        ``where``: the line of each; ``columns``: what to add behind a field's name in a refusal.
        """
        try:
            encoded = self.fields.encode(records)
            if rewrite is None:
                return encoded
            pairs = zip(records, where, strict=True)
            return self.fields.encode([rewrite(record, line) for record, line in pairs])
        except Unfit as error:
            raise refuse(where[error.index], error.reason) from None


def checked_id(value: Json, index: int = 0) -> Json:
    """Give an ``instance_id`` back; raises Unfit for what can't be one."""
    if type(value) is str or (type(value) is int and abs(value) <= LARGEST_INTEGER):
        return value
    reason = getattr(value, "reason", "") or "a text or an integer up to 2^53-1 is needed"
    raise Unfit(index, f"the field {ID}: {reason}")
