"""Records read from JSON Lines, fast and strictly, in chunks of bounded size.

Knows nothing of predictors and keys. Refuses, naming line and reason: what is no JSON object, NaN
and infinities, integers past 2^53-1, lone surrogates, duplicate keys, empty lines, a byte order
mark, and fields that are missing, unknown or of another type.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from reprobuild.canonical import LARGEST_INTEGER
from reprobuild.predict.fields import FEW, Fields, Json, Unfit

CHUNK_SIZE = 1 << 20
"""Bytes of lines taken at a time."""
CHUNK_COUNT = 8192
"""Records taken at a time, at most."""
FEW_BYTES = 1 << 16
"""Bytes of lines up to which strictness costs less than importing what is fast."""
LONGEST_LINE = 1 << 28
"""Bytes; a longer line is refused instead of filling the memory."""

Refuse = Callable[[int, str], Exception]
"""Makes the error for a line (counted from 1) and a reason."""
Rewrite = Callable[[Json, int], Json]
"""Gives the record that takes a record's place (files by digest); the line is for its errors."""


def read_chunks(
    file: BinaryIO,
    fields: Fields,
    refuse: Refuse,
    *,
    limit: int | None = None,
    rewrite: Rewrite | None = None,
) -> Iterator[list[bytes]]:
    """Give the canonical form of each line of a JSON Lines file, in chunks, in order.

    ``limit``: the first so many lines alone. Raises what ``refuse`` makes.
    """
    first = 1
    for lines in _chunks_of_lines(file, limit, refuse):
        yield _encode_lines(lines, first, fields, refuse, rewrite)
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
    lines: list[bytes], first: int, fields: Fields, refuse: Refuse, rewrite: Rewrite | None
) -> list[bytes]:
    if len(lines) <= FEW and sum(map(len, lines)) <= FEW_BYTES:
        records, encoded = _encode_strictly(lines, first, fields, refuse)
    else:
        records, encoded = _encode_fast(lines, first, fields, refuse)
    if rewrite is None:
        return encoded
    try:
        return fields.encode([rewrite(record, first + n) for n, record in enumerate(records)])
    except Unfit as error:
        raise refuse(first + error.index, error.reason) from None


def _encode_fast(
    lines: list[bytes], first: int, fields: Fields, refuse: Refuse
) -> tuple[list[Json], list[bytes]]:
    """Do many lines at once with a parser that is fast; what it may have got wrong is done strictly."""
    import orjson

    try:
        records = [orjson.loads(line) for line in lines]
        encoded = fields.encode(records)
    except (orjson.JSONDecodeError, Unfit):
        return _encode_strictly(lines, first, fields, refuse)
    if _may_hide(lines, encoded, fields, records):
        return _encode_strictly(lines, first, fields, refuse)
    return records, encoded


def _may_hide(lines: list[bytes], encoded: list[bytes], fields: Fields, records: list[Json]) -> bool:
    """Whether lines could hold what a fast parser loses: duplicate keys, integers read as floats.

    A duplicate key makes the written form lose at least the two quotation marks of the key. A
    quotation mark inside a text is written ``\\"`` in both forms, unless a line has it as
    ``\\u0022``: then lines have fewer marks, which could make up for lost ones. So equal counts
    over lines without that escape prove that no key was lost. Integers past 64 bits come as floats.
    """
    joined = b"\n".join(lines)
    if joined.count(b'"') != b"\n".join(encoded).count(b'"') or b"\\u0022" in joined:
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
    lines: list[bytes], first: int, fields: Fields, refuse: Refuse
) -> tuple[list[Json], list[bytes]]:
    """Do it again line by line with a parser that tells everything; raises for the first fault."""
    records: list[Json] = []
    encoded: list[bytes] = []
    for number, line in enumerate(lines, start=first):
        try:
            record = parse_strictly(line)
            encoded += fields.encode([record])
            records.append(record)
        except Unfit as error:
            raise refuse(number, error.reason) from None
        except ValueError as error:
            raise refuse(number, str(error)) from None
        except RecursionError:
            raise refuse(number, "lists or objects are nested too deeply") from None
    return records, encoded


def parse_strictly(line: bytes) -> Json:
    """Parse one JSON text; raises ValueError, in words, for what has no canonical form."""
    if not line.strip():
        raise ValueError("the line is empty")
    if line.startswith(b"\xef\xbb\xbf"):
        raise ValueError("a byte order mark stands before the record; write the file as UTF-8 without one")
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError("the file is UTF-16; write it as UTF-8")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"the line is not UTF-8 (byte {error.start + 1})") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_bounded_integer,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} (character {error.colno})") from None
    _check_texts(value)
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {ascii(name)[:80]} is there twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _bounded_integer(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) > LARGEST_INTEGER:
        raise ValueError(f"the integer {digits[:40]} is past 2^53-1; write it as a text")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {digits[:40]} is larger than a double can hold")
    return value


def _check_texts(value: Json) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            code = ord(value[error.start])
            raise ValueError(f"a text holds the lone surrogate \\u{code:04x}") from None
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_texts(name)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)
