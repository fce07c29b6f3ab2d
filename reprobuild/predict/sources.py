"""The inputs of a call, one after the other, each in its own form: chunks of records, and their names.

Knows nothing of predictors and outputs. Nothing of an input is held longer than its chunk.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from reprobuild.errors import InputError
from reprobuild.predict.forms import STANDARD, Form
from reprobuild.predict.intake import Intake, Refuse, Rewrite
from reprobuild.predict.packing import MAGIC, PackingError, unpacked
from reprobuild.predict.places import opened
from reprobuild.predict.records import read_chunks
from reprobuild.predict.staging import StagedFiles

if TYPE_CHECKING:
    from reprobuild.predict.embedded import EmbeddedFiles

COLUMNS = ("parquet", "arrow", "dataset")
"""Formats that have rows, and no lines."""
_BINARY = ((b"PAR1", "Parquet", "parquet"), (b"ARROW1", "Arrow", "arrow"))


class Sources:
    """Inputs in their order."""

    def __init__(
        self,
        sources: Sequence[tuple[str, Form]],
        intake: Intake,
        *,
        staged: StagedFiles | None,
        folder: str | None,
        hint: str,
        embedded: EmbeddedFiles | None = None,
    ) -> None:
        """``staged``: takes the files that records name; ``folder``: where a file is made if need be;
        ``hint``: what helps where a record does not fit; ``embedded``: takes files that columns hold."""
        self._sources = sources
        self._intake = intake
        self._staged = staged
        self._folder = folder
        self._hint = hint
        self._embedded = embedded
        self._starts: list[int] = []
        self._names: list[str] = []

    def chunks(self, limit: int | None = None) -> Iterator[list[bytes]]:
        """Give canonical records, of all inputs, in chunks. Raises InputError, UsageError."""
        count = 0
        for path, form in self._sources:
            if limit is not None and count >= limit:
                return
            shown = "standard input" if path == STANDARD else path
            word = "line" if form.format == "jsonl" else "row" if form.format in COLUMNS else "record"
            self._starts.append(count)
            self._names.append(f"{word} {{}} of {shown}")
            left = None if limit is None else limit - count
            for chunk in self._read(path, form, shown, left):
                yield chunk
                count += len(chunk)

    def label(self, index: int) -> str:
        """Give what people call a record: ``line 3 of in.jsonl``."""
        place = bisect_right(self._starts, index) - 1
        return self._names[place].replace("{}", str(index - self._starts[place] + 1), 1)

    def _read(self, path: str, form: Form, shown: str, limit: int | None) -> Iterator[list[bytes]]:
        word = "row" if form.format in COLUMNS else "line"

        def refuse(line: int, reason: str) -> InputError:
            where = f"{shown}, {word} {line}" if line else shown
            return InputError(f"{where}: {reason}", self._hint)

        folder = Path() if path == STANDARD else Path(path).parent
        rewrite = None if self._staged is None else self._staged.within(folder, refuse)
        try:
            if form.format in COLUMNS:
                yield from self._read_columns(path, form, shown, refuse, limit, rewrite)
                return
            with opened(path) as file:
                lines = unpacked(file, form.packing) if form.packing else _looked_at(file, form, refuse)
                if form.format == "jsonl":
                    chunks = read_chunks(
                        lines, self._intake.fields, refuse, limit=limit, rewrite=rewrite, intake=self._intake
                    )
                else:
                    from reprobuild.predict.delimited import read_delimited

                    chunks = read_delimited(
                        lines, form.format, self._intake, refuse, limit=limit, rewrite=rewrite
                    )
                yield from chunks
        except PackingError as error:
            raise refuse(0, str(error)) from None
        except RecursionError:
            raise refuse(0, "lists or objects are nested too deeply") from None

    def _read_columns(
        self, path: str, form: Form, shown: str, refuse: Refuse, limit: int | None, rewrite: Rewrite | None
    ) -> Iterator[list[bytes]]:
        from reprobuild.predict.columns import dataset_files, demand_arrow, read_columns

        def read(file: BinaryIO | str) -> Iterator[list[bytes]]:
            return read_columns(
                file,
                form.format,
                self._intake,
                refuse,
                limit=limit,
                rewrite=rewrite,
                embedded=self._embedded,
            )

        if form.format == "dataset":
            dataset_files(path, refuse)  # before pyarrow is asked for: it may be another folder
        demand_arrow(shown)
        if form.format == "dataset":
            yield from read(path)
            return
        with opened(path) as file, self._sought(file) as whole:
            yield from read(whole)

    @contextlib.contextmanager
    def _sought(self, file: BinaryIO) -> Iterator[BinaryIO]:
        """Give a file that can be sought in: what comes through a pipe is written down first."""
        if file.seekable():
            yield file
            return
        from tempfile import TemporaryFile

        with TemporaryFile(dir=self._folder) as copy:
            while block := file.read(1 << 20):
                copy.write(block)
            copy.seek(0)
            yield copy


def _looked_at(file: BinaryIO, form: Form, refuse: Refuse) -> BinaryIO:
    """Give a file back, unless it begins as something else than lines does."""
    peek = getattr(file, "peek", None)
    head: bytes = peek(16) if peek is not None else b""
    for magic, what, ending in MAGIC:
        if head.startswith(magic):
            text = f"it is compressed ({what}): give its name the ending .{ending}, or --format"
            raise refuse(0, f"{text} {form.format}.{ending}")
    for magic, what, ending in _BINARY:
        if head.startswith(magic):
            raise refuse(0, f"it is {what}: give its name the ending .{ending}, or --format {ending}")
    return file
