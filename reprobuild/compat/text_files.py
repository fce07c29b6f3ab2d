"""Files of texts and of JSON Lines, in and out; folders that vanish.

Knows nothing of what is in them. UTF-8 whatever the locale; lines end at ``\\n`` alone, so a text that
holds one is refused where a line is a text.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from reprobuild.compat.texts import Text
from reprobuild.compat.texts import flatten as as_one
from reprobuild.errors import InputError


def write_to_text_file(items: Iterable[Text], file_path: str, separator: str | None = None) -> None:
    """Write one text a line. Raises InputError for a text with a line end in it: it would be two."""
    with _written(file_path) as file:
        for index, item in enumerate(items):
            text = as_one(item, separator)
            if "\n" in text or "\r" in text:
                raise InputError(
                    f"item {index} holds a line end, and would be more than one line of {file_path}",
                    "write_to_jsonl_file keeps it",
                )
            file.write(f"{text}\n")


def write_to_jsonl_file(
    items: Iterable[Any], key: str, file_path: str, flatten: bool = False, separator: str | None = None
) -> None:
    """Write ``{key: item}`` for each item, one a line; ``flatten``: lists of texts as one text."""
    with _written(file_path) as file:
        for item in items:
            file.write(json.dumps({key: as_one(item, separator) if flatten else item}) + "\n")


def read_jsonl_file(file_path: str, single_line: bool = False) -> list[Any]:
    """Give the JSON values of a file, one a line, or, with ``single_line``, one right after the other.

    Raises InputError, naming the line.
    """
    if single_line:
        return list(_values(Path(file_path).read_text(encoding="utf-8"), file_path))
    found = []
    with open(file_path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise InputError(f"{file_path}, line {number}: no JSON: {error.msg}") from None
    return found


class TemporaryDirectory:
    """A folder for a ``with`` block, which gets its path; gone at the end, unless ``persist``."""

    def __init__(self, root: str | None = None, persist: bool = False) -> None:
        """``root``: the folder that it is made in."""
        self.root = root
        self.persist = persist
        self.path = ""

    def __enter__(self) -> str:
        self.path = tempfile.mkdtemp(dir=self.root)
        return self.path

    def __exit__(self, *exception: object) -> None:
        if not self.persist:
            # What can't be removed must not hide why the block ended.
            shutil.rmtree(self.path, ignore_errors=exception[0] is not None)


@contextmanager
def _written(file_path: str) -> Iterator[TextIO]:
    os.makedirs(os.path.dirname(file_path) or ".", exist_ok=True)
    with open(file_path, "w", encoding="utf-8", newline="\n") as file:
        yield file


def _values(text: str, file_path: str) -> Iterator[Any]:
    decoder, space = json.JSONDecoder(), re.compile(r"\s*")
    place = _after(space, text, 0)
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise InputError(f"{file_path}, character {error.pos + 1}: no JSON: {error.msg}") from None
        yield value
        place = _after(space, text, place)


def _after(space: re.Pattern[str], text: str, place: int) -> int:
    found = space.match(text, place)
    return found.end() if found else place
