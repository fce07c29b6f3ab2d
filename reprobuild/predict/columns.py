"""Parquet, Arrow files and datasets' folders on disk, read by pyarrow in batches of bounded size.

pyarrow is an extra, imported when it is needed. A folder is one that ``datasets.Dataset.save_to_disk`` wrote:
``state.json`` names its Arrow streams in their order. Knows nothing of predictors.
"""

from __future__ import annotations

import datetime
import decimal
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from reprobuild.errors import UsageError
from reprobuild.predict.fields import Unfit
from reprobuild.predict.intake import ID, INPUT, Carried, Intake, Refuse, Rewrite, checked_id
from reprobuild.predict.strict import Json, parse_strictly

if TYPE_CHECKING:
    import pyarrow

    from reprobuild.predict.embedded import EmbeddedFiles

ROWS = 8192
"""Rows taken at a time, at most."""
SIZE = 8 << 20
"""Bytes of rows taken at a time, as far as sizes are known beforehand."""
EXTRA = "parquet"
SAVED = "write it with Dataset.save_to_disk, then --input FOLDER"


def demand_arrow(shown: str) -> None:
    """Raise UsageError, naming the extra, where pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{shown} needs pyarrow, which can't be imported here ({error})",
            f"pip install 'reprobuild[{EXTRA}]'",
        ) from None


def read_columns(
    file: BinaryIO | str,
    form: str,
    intake: Intake,
    refuse: Refuse,
    *,
    limit: int | None = None,
    rewrite: Rewrite | None = None,
    embedded: EmbeddedFiles | None = None,
) -> Iterator[list[bytes]]:
    """Give the canonical form of what is taken of each row, in chunks, in order.

    ``file``: one that can be sought in, of ``form`` ``parquet`` or ``arrow``, or the path of a ``dataset``;
    ``embedded``: takes files that stand in columns as bytes.
    Raises what ``refuse`` makes, with the row counted from 1 (0: the whole file), UsageError without pyarrow.
    """
    import pyarrow

    done = 0
    try:
        for batch in _batches(file, form, intake, refuse):
            if limit is not None and done + len(batch) > limit:
                batch = batch.slice(0, limit - done)
            if len(batch):
                yield _encode(batch, done + 1, intake, refuse, rewrite, embedded)
            done += len(batch)
            if done == limit:
                return
    except (pyarrow.ArrowException, OSError, EOFError, ValueError, OverflowError, MemoryError) as error:
        what = " ".join(str(error).split())[:300] or type(error).__name__
        raise refuse(0, f"after row {done}: {what}" if done else f"it is no {form} file: {what}") from None


def _batches(
    file: BinaryIO | str, form: str, intake: Intake, refuse: Refuse
) -> Iterator[pyarrow.RecordBatch]:
    if isinstance(file, str):
        yield from _dataset(file, intake, refuse)
    elif form == "parquet":
        yield from _parquet(file, intake, refuse)
    else:
        yield from _arrow(file, intake, refuse)


def _parquet(file: BinaryIO, intake: Intake, refuse: Refuse) -> Iterator[pyarrow.RecordBatch]:
    from pyarrow import parquet

    # Pages are read as they are needed: a row group may be as large as the file.
    with parquet.ParquetFile(
        file, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
    ) as opened:
        names = _columns(opened.schema_arrow.names, intake, refuse)
        rows = opened.metadata.num_rows
        groups = range(opened.metadata.num_row_groups)
        size = sum(opened.metadata.row_group(group).total_byte_size for group in groups)
        count = max(1, min(ROWS, SIZE * rows // max(size, 1)))
        yield from opened.iter_batches(count, columns=names, use_threads=False)


def _arrow(file: BinaryIO, intake: Intake, refuse: Refuse) -> Iterator[pyarrow.RecordBatch]:
    from pyarrow import ipc

    is_stream = file.read(6) != b"ARROW1"
    file.seek(0)
    with ipc.open_stream(file) if is_stream else ipc.open_file(file) as opened:
        names = _columns(opened.schema.names, intake, refuse)
        batches = opened if is_stream else map(opened.get_batch, range(opened.num_record_batches))
        for batch in batches:
            count = max(1, min(ROWS, SIZE * len(batch) // max(batch.get_total_buffer_size(), 1)))
            for start in range(0, len(batch), count):
                yield batch.slice(start, count).select(names)


def _dataset(folder: str, intake: Intake, refuse: Refuse) -> Iterator[pyarrow.RecordBatch]:
    for path in dataset_files(folder, refuse):
        with open(path, "rb") as file:
            yield from _arrow(file, intake, refuse)


def dataset_files(folder: str, refuse: Refuse) -> list[str]:
    """Give the paths of a saved dataset's Arrow files, in order. Raises what ``refuse`` makes."""
    state = _document(os.path.join(folder, "state.json"), refuse)
    if state is None:
        splits = _document(os.path.join(folder, "dataset_dict.json"), refuse)
        if splits is not None:
            names = [str(name) for name in splits.get("splits", ())]
            named = ", ".join(os.path.join(folder, name) for name in names)
            raise refuse(0, f"it has splits; name one of them: {named}")
        raise refuse(0, f"the folder is no saved dataset (it has no state.json); {SAVED}")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise refuse(0, f"the dataset is a selection of rows that an old release saved; {SAVED}")
    files = state.get("_data_files")
    files = files if isinstance(files, list) else [None]
    found = [one.get("filename") if isinstance(one, dict) else None for one in files]
    if not all(map(_is_plain, found)):
        raise refuse(0, f"its state.json does not name its files; {SAVED}")
    return [os.path.join(folder, str(name)) for name in found]


def _document(path: str, refuse: Refuse) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise refuse(0, f"its {os.path.basename(path)} can't be read: {error}") from None
    if not isinstance(found, dict):
        raise refuse(0, f"its {os.path.basename(path)} is no JSON object")
    return found


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and bool(name) and os.path.basename(name) == name and "\0" not in name


def _columns(names: list[str], intake: Intake, refuse: Refuse) -> list[str]:
    """Give the columns that are needed, each once."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise refuse(0, f"the column {ascii(twice)[:80]} is there twice")
    for _, source in intake.sources:
        if source not in names:
            raise refuse(0, intake.missing(source, names))
    if intake.keeps_input:
        return names
    intake.ignore(names)
    wanted = {*(source for _, source in intake.sources), intake.id_source}
    return [name for name in names if name in wanted]


def _encode(
    batch: pyarrow.RecordBatch,
    first: int,
    intake: Intake,
    refuse: Refuse,
    rewrite: Rewrite | None,
    embedded: EmbeddedFiles | None,
) -> list[bytes]:
    columns = {
        name: _values(column, name, first, refuse)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    fields = [name for name, _ in intake.sources]
    taken = [columns[source] for _, source in intake.sources]
    if embedded is not None:
        is_file = [intake.fields.types[name] == "file" for name in fields]
        taken = [
            list(map(embedded.path, column)) if file else column
            for column, file in zip(taken, is_file, strict=True)
        ]
    records = [dict(zip(fields, row, strict=True)) for row in zip(*taken, strict=True)]
    encoded = intake.encode(records, range(first, first + len(records)), refuse, rewrite)
    intake.commit(_carried(columns, first, intake, refuse), len(records))
    return encoded


def _values(column: pyarrow.Array, name: str, first: int, refuse: Refuse) -> list[Json]:
    import pyarrow

    try:
        _check(column)
        values: list[Json] = column.to_pylist()
        if str(column.type) == "extension<arrow.json>":
            return [None if value is None else parse_strictly(value.encode()) for value in values]
        return values
    except pyarrow.ArrowInvalid:
        raise
    except ValueError as error:  # texts that are no UTF-8, structs with a name twice, no JSON
        for index in range(len(column)):
            try:
                value = column[index].as_py()
                if str(column.type) == "extension<arrow.json>" and value is not None:
                    parse_strictly(value.encode())
            except ValueError as inner:
                raise refuse(first + index, f"the field {name}: {inner}") from None
        raise refuse(first, f"the field {name}: {error}") from None


def _check(column: pyarrow.Array) -> None:
    """Raise ArrowInvalid for what a damaged file left: pyarrow itself would follow offsets anywhere."""
    import pyarrow

    try:
        column.validate(full=True)
    except pyarrow.ArrowInvalid:
        # A text that is no UTF-8 can be looked at: then its row is found.
        if column.type not in (pyarrow.string(), pyarrow.large_string()):
            raise
        column.cast(pyarrow.binary() if column.type == pyarrow.string() else pyarrow.large_binary()).validate(
            full=True
        )


def _carried(columns: dict[str, list[Json]], first: int, intake: Intake, refuse: Refuse) -> list[Carried]:
    has_id = intake.id_source in columns
    if not has_id and not intake.keeps_input:
        return []
    found: list[Carried] = []
    for index, row in enumerate(zip(*columns.values(), strict=True)):
        record = dict(zip(columns, row, strict=True))
        carried: Carried = {}
        try:
            if has_id:
                carried[ID] = checked_id(record[intake.id_source])
            if intake.keeps_input:
                carried[INPUT] = {name: _plain(value, name) for name, value in record.items()}
        except Unfit as error:
            raise refuse(first + index, error.reason) from None
        found.append(carried)
    return found


def _plain(value: Json, name: str) -> Json:
    """Give the JSON value of what stands in a column that is passed on; raises Unfit."""
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, name) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise Unfit(0, f"the field {name}: {value} is no JSON number")
    if isinstance(value, int) and abs(value) > 2**53 - 1:
        raise Unfit(0, f"the field {name}: the integer {value} is past 2^53-1")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise Unfit(0, f"the field {name}: {type(value).__name__} is no JSON value")
