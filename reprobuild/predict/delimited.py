"""CSV and TSV, read so that no row is ever shifted: what may mean two things is refused.

CSV is that of RFC 4180, with a header; line ends are LF or CRLF; a byte order mark before it is passed over.
In TSV two habits meet, with quotation marks (as spreadsheets and pandas write it) and without: a value that
begins with one differs between them, so it is refused until ``tsv-quoted`` or ``tsv-plain`` is said. Knows
nothing of predictors.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from reprobuild.predict import cells
from reprobuild.predict.intake import ID, INPUT, Carried, Intake, Refuse, Rewrite
from reprobuild.predict.records import CHUNK_COUNT, CHUNK_SIZE, LONGEST_LINE

_WORDS = {
    "unexpected end of data": "a quotation mark is opened and never closed",
    "new-line character seen": "a carriage return stands alone (lines end in LF or CRLF)",
    "field larger than": f"a value is longer than {LONGEST_LINE} characters",
    "expected after": "something follows a closing quotation mark",
}


def read_delimited(
    file: BinaryIO,
    form: str,
    intake: Intake,
    refuse: Refuse,
    *,
    limit: int | None = None,
    rewrite: Rewrite | None = None,
) -> Iterator[list[bytes]]:
    """Give the canonical form of what is taken of each row, in chunks, in order.

    ``form``: ``csv``, ``tsv``, ``tsv-plain`` or ``tsv-quoted``. Raises what ``refuse`` makes, with the line
    that a row begins on.
    """
    rows = _Rows(file, form, refuse)
    header = next(rows, None)
    if header is None:
        raise refuse(1, "the file is empty; a first line with the names of the columns is needed")
    columns = _Columns(header[1], intake, refuse)
    chunk: list[tuple[int, list[str]]] = []
    for count, row in enumerate(rows if limit != 0 else (), start=1):
        chunk.append(row)
        if len(chunk) == CHUNK_COUNT or rows.size >= CHUNK_SIZE or count == limit:
            rows.size = 0
            yield columns.encode(chunk, intake, refuse, rewrite)
            chunk = []
            if count == limit:
                return
    if chunk:
        yield columns.encode(chunk, intake, refuse, rewrite)


class _Columns:
    """Which column of a table is which field."""

    def __init__(self, names: Sequence[str], intake: Intake, refuse: Refuse) -> None:
        self._width = len(names)
        self._names = names
        at = {name: index for index, name in reversed(list(enumerate(names)))}
        if len(at) < len(names):
            twice = next(name for index, name in enumerate(names) if at[name] != index)
            raise refuse(1, f"the column {ascii(twice)[:80]} is there twice")
        for _, source in intake.sources:
            if source not in at:
                raise refuse(1, intake.missing(source, names))
        self._fields = [
            (name, source, at[source], cells.reader(intake.fields.types[name]))
            for name, source in intake.sources
        ]
        self._id = at.get(intake.id_source)
        if not intake.keeps_input:
            intake.ignore(names)

    def encode(
        self,
        rows: Sequence[tuple[int, list[str]]],
        intake: Intake,
        refuse: Refuse,
        rewrite: Rewrite | None,
    ) -> list[bytes]:
        for line, row in rows:
            if len(row) != self._width:
                raise refuse(line, f"the row has {_values(len(row))}, the header {self._width}")
        records = [self._record(line, row, refuse) for line, row in rows]
        where = [line for line, _ in rows]
        encoded = intake.encode(records, where, refuse, rewrite)
        intake.commit(self._carried(rows, intake), len(rows))
        return encoded

    def _record(self, line: int, row: list[str], refuse: Refuse) -> dict[str, object]:
        record: dict[str, object] = {}
        for name, source, at, read in self._fields:
            try:
                record[name] = row[at] if read is None else read(row[at])
            except ValueError as error:
                raise refuse(line, f"the field {source} (column {at + 1}) {error}") from None
        return record

    def _carried(self, rows: Sequence[tuple[int, list[str]]], intake: Intake) -> list[Carried]:
        if self._id is None and not intake.keeps_input:
            return []
        found: list[Carried] = []
        for _, row in rows:
            carried: Carried = {}
            if self._id is not None:
                carried[ID] = row[self._id]
            if intake.keeps_input:
                carried[INPUT] = dict(zip(self._names, row, strict=True))
            found.append(carried)
        return found


class _Rows:
    """The rows of a table, each with the line it begins on, counted from 1."""

    def __init__(self, file: BinaryIO, form: str, refuse: Refuse) -> None:
        self._file = file
        self._form = form
        self._refuse = refuse
        self._read = 0
        self._odd = 0
        """The last line that ends in a carriage return too many."""
        self.size = 0
        """Characters read; whoever counts sets it back."""
        self._rows = self._quoted() if form in ("csv", "tsv-quoted") else self._plain()

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        return self

    def __next__(self) -> tuple[int, list[str]]:
        return next(self._rows)

    def _quoted(self) -> Iterator[tuple[int, list[str]]]:
        # The limit belongs to the whole process, so it is only ever raised.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
        delimiter = "," if self._form == "csv" else "\t"
        reader = csv.reader(self._lines(), delimiter=delimiter, strict=True)
        while True:
            begins = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                words = (text for known, text in _WORDS.items() if known in str(error))
                raise self._refuse(begins, next(words, str(error))) from None
            if self._odd == reader.line_num:
                raise self._refuse(begins, _WORDS["new-line character seen"])
            if not row:
                raise self._refuse(begins, "the line is empty")
            yield begins, row

    def _plain(self) -> Iterator[tuple[int, list[str]]]:
        for number, line in enumerate(self._lines(), start=1):
            text = line.removesuffix("\n").removesuffix("\r")
            if "\r" in text:
                raise self._refuse(number, _WORDS["new-line character seen"])
            if not text:
                raise self._refuse(number, "the line is empty")
            row = text.split("\t")
            if self._form == "tsv":
                for column, value in enumerate(row, start=1):
                    if value.startswith('"'):
                        raise self._refuse(
                            number,
                            f"the value in column {column} begins with a quotation mark: say --format "
                            "tsv-quoted where values are quoted, tsv-plain where it is part of the text",
                        )
            yield number, row

    def _lines(self) -> Iterator[str]:
        """Give lines with their ends, cut at LF alone."""
        parts: list[bytes] = []
        waiting = 0
        is_first = True
        while block := self._file.read(CHUNK_SIZE):
            if is_first:
                block = self._begun(block)
                is_first = False
            end = block.rfind(b"\n") + 1
            if not end:
                parts.append(block)
                waiting += len(block)
                if waiting > LONGEST_LINE:
                    raise self._refuse(self._read + 1, f"the line is longer than {LONGEST_LINE} bytes")
                continue
            yield from self._decoded(b"".join([*parts, block[:end]]))
            parts = [block[end:]]
            waiting = len(parts[0])
        yield from self._decoded(b"".join(parts))

    def _begun(self, block: bytes) -> bytes:
        if block.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise self._refuse(1, "the file is UTF-16; write it as UTF-8")
        return block.removeprefix(b"\xef\xbb\xbf")

    def _decoded(self, data: bytes) -> Iterator[str]:
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = self._read + 1 + data.count(b"\n", 0, error.start)
            raise self._refuse(line, "the line is not UTF-8") from None
        may_be_odd = text.count("\r") != text.count("\r\n") or "\r\r\n" in text
        for one in io.StringIO(text, newline="\n"):
            self._read += 1
            self.size += len(one)
            if may_be_odd and one.endswith(("\r\r\n", "\r")):
                self._odd = self._read
            yield one


def _values(count: int) -> str:
    return "1 value" if count == 1 else f"{count} values"
