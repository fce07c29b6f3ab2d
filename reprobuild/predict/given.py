"""The records that Python code gives a model, taken as they come.

Knows nothing of what their fields may hold, but for paths, which Python has types for.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from reprobuild.errors import InputError
from reprobuild.predict.fields import word_for

Json = Any


def check_items(whom: str, items: object) -> None:
    """Raise InputError for what gives no records, one after the other; ``whom``: the model, for errors."""
    if isinstance(items, AsyncIterable):
        raise InputError(f"{whom} was given items that come asynchronously", "apredict_iter takes them")
    if isinstance(items, Mapping):
        raise InputError(
            f"{whom} was given one record where a list of them is needed",
            "predict(**record) takes one, and a list may hold it alone: [record]",
        )
    if isinstance(items, str | bytes) or not (
        isinstance(items, Iterable) or hasattr(type(items), "__getitem__")
    ):
        raise InputError(
            f"{whom} was given {word_for(items)} where a list of records is needed",
            "a record is a dict with a value for each field",
        )


def as_records(items: Iterable[Any], files: Sequence[str]) -> Iterator[Json]:
    """Give each mapping as a dict; ``files``: fields whose paths are given as texts."""
    for item in items:
        if not isinstance(item, Mapping):
            yield item
            continue
        record = dict(item)
        for name in files:
            if isinstance(value := record.get(name), os.PathLike):
                record[name] = os.fspath(value)
        yield record
