"""Outputs written as JSON Lines, CSV, TSV or Parquet: the same records give the same bytes.

Knows nothing of files and predictors. Outputs come as canonical lines, beside each what went past the
predictor with its record.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from reprobuild.errors import OutsideError
from reprobuild.predict.beside import Beside, merged, spliced
from reprobuild.predict.forms import Form
from reprobuild.predict.intake import ID

Write = Callable[[bytes], None]

FAILED = "_error"
"""In the place of an output that failed: why."""
_LINE_ENDS = "\r\n"


class Sink(Protocol):
    """Takes outputs in their order."""

    def write(self, block: bytes) -> None:
        """Take whole lines."""

    def finish(self) -> None:
        """Write what is left, when all outputs have been taken."""

    def abandon(self) -> None:
        """Write nothing more: what was written is not to be kept."""


def make_sink(
    form: Form, outputs: Mapping[str, str], beside: Beside, write: Write, *, has_failures: bool
) -> Sink:
    """Give what writes outputs in a form; to be made when all inputs have been read.

    ``outputs``: field → type; ``has_failures``: whether records failed, so that tables need a column for
    why. Raises UsageError without pyarrow.
    """
    if form.format == "jsonl":
        return _JsonLines(beside.lines(), write)
    names = sorted(beside.columns, key=lambda name: name != ID)  # it comes first, the rest as they were met
    kinds = {name: beside.columns[name] or "str" for name in names if name not in outputs}
    kinds.update(outputs)
    if has_failures:
        kinds[FAILED] = "str"
    lines = beside.lines()
    if form.format == "parquet":
        from reprobuild.predict.parquet import ParquetSink

        return ParquetSink(kinds, lines, write)
    delimiter = "," if form.format == "csv" else "\t"
    return _Delimited(delimiter, kinds, lines, write, is_plain=form.format == "tsv-plain")


class _JsonLines:
    """One object a line, as they came; what went past the predictor stands before the output's fields."""

    def __init__(self, beside: Iterator[bytes] | None, write: Write) -> None:
        self._beside = beside
        self._write = write

    def write(self, block: bytes) -> None:
        if self._beside is not None:
            lines = block.split(b"\n")[:-1]
            pairs = zip(lines, self._beside, strict=False)
            block = b"".join([spliced(beside, line) + b"\n" for line, beside in pairs])
        self._write(block)

    def finish(self) -> None:
        """Nothing is left."""

    def abandon(self) -> None:
        """Nothing would be written."""


def rows(block: bytes, beside: Iterator[bytes] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give each line's size, with that of what stands beside it, and the values of its columns."""
    lines = block.split(b"\n")[:-1]
    for line, before in zip(lines, beside or itertools.repeat(b"\n"), strict=False):
        yield len(line) + len(before), merged(before, line)


class _Delimited:
    """A table of texts, with a header; quoted where it must be."""

    def __init__(
        self,
        delimiter: str,
        kinds: Mapping[str, str],
        beside: Iterator[bytes] | None,
        write: Write,
        *,
        is_plain: bool,
    ) -> None:
        from reprobuild.predict import cells

        self._delimiter = delimiter
        # In TSV a quotation mark further on means the same to those that quote and those that never do.
        self._marks = frozenset(_LINE_ENDS + ('",' if delimiter == "," else delimiter))
        self._beside = beside
        self._write = write
        self._is_plain = is_plain
        self._writers = [(name, cells.writer(kind)) for name, kind in kinds.items()]
        self._is_single = len(kinds) == 1
        self._write(self._line(list(kinds)).encode())

    def write(self, block: bytes) -> None:
        lines = []
        for _, row in rows(block, self._beside):
            texts = [write(row[name]) if name in row else "" for name, write in self._writers]
            lines.append(self._line(texts))
        self._write("".join(lines).encode())

    def finish(self) -> None:
        """Nothing is left."""

    def abandon(self) -> None:
        """Nothing would be written."""

    def _line(self, texts: Sequence[str]) -> str:
        quote = self._unquoted if self._is_plain else self._quoted
        return self._delimiter.join(map(quote, texts)) + "\n"

    def _quoted(self, text: str) -> str:
        if self._marks.isdisjoint(text) and text[:1] != '"' and (text or not self._is_single):
            return text
        return '"' + text.replace('"', '""') + '"'

    def _unquoted(self, text: str) -> str:
        if not self._marks.isdisjoint(text):
            raise OutsideError(
                "an output holds a tab or a line end, which tsv-plain has no way to write",
                "write JSON Lines, CSV or tsv-quoted; what was computed is kept",
            )
        if self._is_single and not text:
            raise OutsideError("an output is empty, which is no row of tsv-plain", "write JSON Lines or CSV")
        return text
