"""Records read from JSON Lines, fast and strictly, in chunks of bounded size.

Knows nothing of predictors and keys. Refuses, naming line and reason: what is no JSON object, NaN
and infinities, integers past 2^53-1, lone surrogates, duplicate keys, empty lines, a byte order
mark, and fields that are missing, unknown or of another type.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from reprobuild.canonical import LARGEST_INTEGER
from reprobuild.predict.fields import FEW, Fields, Json, Unfit
from reprobuild.predict.intake import Carried, Intake, Refuse, Rewrite
from reprobuild.predict.strict import check, parse_loosely, parse_strictly

CHUNK_SIZE = 1 << 20
"""Bytes of lines taken at a time."""
CHUNK_COUNT = 8192
"""Records taken at a time, at most."""
FEW_BYTES = 1 << 16
"""Bytes of lines up to which strictness costs less than importing what is fast."""
LONGEST_LINE = 1 << 28
"""Bytes; a longer line is refused instead of filling the memory."""


def read_chunks(
    file: BinaryIO,
    fields: Fields,
    refuse: Refuse,
    *,
    limit: int | None = None,
    rewrite: Rewrite | None = None,
    intake: Intake | None = None,
) -> Iterator[list[bytes]]:
    """Give the canonical form of each line of a JSON Lines file, in chunks, in order.

    ``limit``: the first so many lines alone; ``intake``: says what is taken of each record, instead of the
    whole. Raises what ``refuse`` makes.
    """
    first = 1
    for lines in _chunks_of_lines(file, limit, refuse):
        yield _encode_lines(lines, first, fields, refuse, rewrite, intake)
        first += len(lines)


def encode_records(
    records: Iterable[Json], fields: Fields, refuse: Refuse, *, rewrite: Rewrite | None = None
) -> Iterator[list[bytes]]:
    """Give the canonical form of each record that Python code made, in chunks, in order.

    ``refuse`` gets the record's index, from 0.
    """
    iterator = iter(records)
    first = 0
    while chunk := list(itertools.islice(iterator, CHUNK_COUNT)):
        try:
            encoded = fields.encode(chunk)
            if rewrite is not None:
                encoded = fields.encode([rewrite(record, first + n) for n, record in enumerate(chunk)])
        except Unfit as error:
            raise refuse(first + error.index, error.reason) from None
        yield encoded
        first += len(chunk)


def _chunks_of_lines(file: BinaryIO, limit: int | None, refuse: Refuse) -> Iterator[list[bytes]]:
    """Give lines in lists of about ``CHUNK_SIZE`` bytes and at most ``CHUNK_COUNT`` lines."""
    rest = b""
    count = 0
    while limit is None or count < limit:
        block = file.read(CHUNK_SIZE)
        if not block:
            if rest:
                yield [rest]
            return
        block = rest + block if rest else block
        end = block.rfind(b"\n") + 1
        if not end:
            if len(block) > LONGEST_LINE:
                raise refuse(count + 1, f"the line is longer than {LONGEST_LINE} bytes")
            rest = block if len(block) < CHUNK_SIZE else _to_line_end(file, block, count, refuse)
            if rest.endswith(b"\n"):
                yield [rest]
                count += 1
                rest = b""
            continue
        rest = block[end:]
        lines = block[: end - 1].split(b"\n")
        if limit is not None:
            lines = lines[: limit - count]
        count += len(lines)
        for start in range(0, len(lines), CHUNK_COUNT):
            yield lines[start : start + CHUNK_COUNT]


def _to_line_end(file: BinaryIO, begun: bytes, count: int, refuse: Refuse) -> bytes:
    """Read on to the end of a long line: in parts, so that the work stays proportional to its size."""
    parts = [begun]
    size = len(begun)
    while part := file.readline(CHUNK_SIZE):
        parts.append(part)
        size += len(part)
        if size > LONGEST_LINE:
            raise refuse(count + 1, f"the line is longer than {LONGEST_LINE} bytes")
        if part.endswith(b"\n"):
            break
    return b"".join(parts)


def _encode_lines(
    lines: list[bytes],
    first: int,
    fields: Fields,
    refuse: Refuse,
    rewrite: Rewrite | None,
    intake: Intake | None,
) -> list[bytes]:
    if len(lines) <= FEW and sum(map(len, lines)) <= FEW_BYTES:
        records, encoded, carried = _encode_strictly(lines, first, fields, refuse, intake)
    else:
        records, encoded, carried = _encode_fast(lines, first, fields, refuse, intake)
    if intake is not None:
        intake.commit(carried, len(lines))
    if rewrite is None:
        return encoded
    try:
        return fields.encode([rewrite(record, first + n) for n, record in enumerate(records)])
    except Unfit as error:
        raise refuse(first + error.index, error.reason) from None


Encoded = tuple[list[Json], list[bytes], list[Carried]]
"""Records as the predictor has them, their canonical forms, and what goes past it: empty for nothing."""


def _encode_fast(
    lines: list[bytes], first: int, fields: Fields, refuse: Refuse, intake: Intake | None
) -> Encoded:
    """Do many lines at once with a parser that is fast; what it may have got wrong is done strictly."""
    import orjson

    carried: list[Carried] = []
    try:
        whole = [orjson.loads(line) for line in lines]
        if intake is None or intake.is_exact(whole):
            records = whole
            encoded = written = fields.encode(records)
        else:
            records, carried = map(list, zip(*map(intake.take, whole), strict=True))
            encoded = fields.encode(records)
            written = [orjson.dumps(whole)]
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, Unfit):
        return _encode_strictly(lines, first, fields, refuse, intake)
    keeps_input = intake is not None and intake.keeps_input
    if _may_hide(lines, written, fields, records) or (keeps_input and any(map(_has_large_float, whole))):
        return _encode_strictly(lines, first, fields, refuse, intake)
    return records, encoded, carried


def _may_hide(lines: list[bytes], written: list[bytes], fields: Fields, records: list[Json]) -> bool:
    """Whether lines could hold what a fast parser loses: duplicate keys, integers read as floats.

    A duplicate key makes the written form lose at least the two quotation marks of the key. A
    quotation mark inside a text is written ``\\"`` in both forms, unless a line has it as
    ``\\u0022``: then lines have fewer marks, which could make up for lost ones. So equal counts
    over lines without that escape prove that no key was lost. Integers past 64 bits come as floats.
    """
    joined = b"\n".join(lines)
    if joined.count(b'"') != b"\n".join(written).count(b'"') or b"\\u0022" in joined:
        return True
    kinds = set(fields.types.values())
    if kinds <= {"str", "bool", "file", "list[str]", "int", "list[int]"}:
        return False
    return any(_has_large_float(record) for record in records)


def _has_large_float(value: Json) -> bool:
    if isinstance(value, float):
        return abs(value) > LARGEST_INTEGER
    if isinstance(value, dict):
        return any(map(_has_large_float, value.values()))
    return isinstance(value, list) and any(map(_has_large_float, value))


def _encode_strictly(
    lines: list[bytes], first: int, fields: Fields, refuse: Refuse, intake: Intake | None
) -> Encoded:
    """Do it again line by line with a parser that tells everything; raises for the first fault."""
    records: list[Json] = []
    encoded: list[bytes] = []
    carried: list[Carried] = []
    for number, line in enumerate(lines, start=first):
        try:
            if intake is None:
                record = parse_strictly(line)
            else:
                record, beside = intake.take(parse_loosely(line))
                check(record)
                check(beside)
                carried.append(beside)
            encoded += fields.encode([record])
            records.append(record)
        except Unfit as error:
            raise refuse(number, error.reason) from None
        except ValueError as error:
            raise refuse(number, str(error)) from None
        except RecursionError:
            raise refuse(number, "lists or objects are nested too deeply") from None
    return records, encoded, carried
