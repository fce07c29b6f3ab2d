"""A Parquet file written row by row; the same rows give the same bytes, with the same pyarrow.

Knows nothing of predictors. pyarrow is an extra, imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow
from pyarrow import parquet

from reprobuild.predict.cells import json_cell
from reprobuild.predict.sinks import rows

GROUP_ROWS = 1 << 16
"""Rows of a row group, at most."""
GROUP_SIZE = 16 << 20
"""Bytes of outputs of a row group, about."""


class ParquetSink:
    """Lists of no declared type, objects, and what may be anything are columns of JSON."""

    def __init__(
        self, kinds: Mapping[str, str], beside: Iterator[bytes] | None, write: Callable[[bytes], None]
    ) -> None:
        """``kinds``: column → field type."""
        text, number, integer = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
        types = {
            "str": text,
            "file": text,
            "int": integer,
            "float": number,
            "bool": pyarrow.bool_(),
            "list[str]": pyarrow.list_(text),
            "list[int]": pyarrow.list_(integer),
            "list[float]": pyarrow.list_(number),
        }
        self._fractions = types["list[float]"]
        self._beside = beside
        self._as_json = [name for name, kind in kinds.items() if kind not in types]
        columns = [(name, types.get(kind) or pyarrow.json_(text)) for name, kind in kinds.items()]
        self._schema = pyarrow.schema(columns)
        self._rows: list[dict[str, Any]] = []
        self._size = 0
        self._place = _Place(write)
        self._writer = parquet.ParquetWriter(
            self._place, self._schema, compression="zstd", write_page_checksum=True
        )

    def write(self, block: bytes) -> None:
        """Take whole lines."""
        for size, row in rows(block, self._beside):
            for name in self._as_json:
                if name in row:
                    row[name] = json_cell(row[name])
            self._rows.append(row)
            self._size += size
            if len(self._rows) == GROUP_ROWS or self._size >= GROUP_SIZE:
                self._flush()

    def finish(self) -> None:
        """Write what is left, and the footer."""
        if self._rows:
            self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """Write nothing more: pyarrow would write a footer when it lets go of the file."""
        self._place.is_abandoned = True
        self._writer.close()

    def _flush(self) -> None:
        group, self._rows, self._size = self._rows, [], 0
        columns = []
        for field in self._schema:
            values = [row.get(field.name) for row in group]
            if field.type == pyarrow.float64():  # whole ones come as integers
                values = [None if value is None else float(value) for value in values]
            elif field.type == self._fractions:
                values = [None if value is None else [float(one) for one in value] for value in values]
            if isinstance(field.type, pyarrow.JsonType):
                stored = pyarrow.array(values, pyarrow.string())
                columns.append(pyarrow.ExtensionArray.from_storage(field.type, stored))
            else:
                columns.append(pyarrow.array(values, field.type))
        self._writer.write_table(pyarrow.Table.from_arrays(columns, schema=self._schema))


class _Place:
    """What pyarrow writes into: a file without a name, of which nothing is read."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._count = 0
        self.closed = False
        self.is_abandoned = False

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self._count

    def write(self, data: Any) -> int:
        block = bytes(data)
        if not self.is_abandoned:
            self._write(block)
        self._count += len(block)
        return len(block)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True
