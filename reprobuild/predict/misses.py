"""The records of a call that the cache does not have, as they are collected: each distinct one once.

Knows nothing of how they are computed.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

from reprobuild.predict.spool import Spool


class Misses:
    """Distinct records without an answer, in the order in which they first stand in the call."""

    def __init__(self, lines: Spool, *, merges: bool) -> None:
        """``lines``: gets each record with a line end; ``merges``: whether equal records are one."""
        self.keys: dict[bytes, int] = {}
        """Key → index."""
        self.ends = array("Q")
        """Where the line of each ends."""
        self.places = array("Q")
        """Where each first stands in the call."""
        self.order = array("Q")
        """For each record of the call without an answer, in order: its index."""
        self._lines = lines
        self._merges = merges

    def take(
        self, records: Sequence[bytes], keys: Sequence[bytes], known: Mapping[bytes, bytes], first: int
    ) -> list[bytes]:
        """Take what is not known of some records; give all answers, an empty line for each that is not known.

        ``first``: where they begin in the call.
        """
        answers: list[bytes] = []
        asked: list[bytes] = []
        end = self.ends[-1] if self.ends else 0
        for position, (record, key) in enumerate(zip(records, keys, strict=True), start=first):
            if key in known:
                answers.append(known[key])
                continue
            answers.append(b"\n")
            name = key if self._merges else position.to_bytes(8, "big")
            index = self.keys.setdefault(name, len(self.keys))
            if index == len(self.places):
                self.places.append(position)
                asked += (record, b"\n")
                end += len(record) + 1
                self.ends.append(end)
            self.order.append(index)
        self._lines.write(b"".join(asked))
        return answers
