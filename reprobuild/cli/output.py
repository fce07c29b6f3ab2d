"""What goes to stdout: text or JSON documents; and errors, which go to stderr.

Knows nothing of verbs, nor of terminals.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from reprobuild.cli.text import visible
from reprobuild.errors import ReprobuildError

SCHEMA = 1
"""The version of every JSON document; raised when a field changes its meaning or goes."""


def document(**fields: Any) -> dict[str, Any]:
    """Give a JSON document: the schema's version first, then the fields."""
    return {"schema": SCHEMA, **fields}


def print_json(value: Mapping[str, Any]) -> None:
    """Print a document as one line."""
    print(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def print_text(text: str) -> None:
    """Print text for people, control characters made visible."""
    print(visible(text))


def print_error(error: ReprobuildError, *, as_json: bool) -> None:
    """Print an error: what, then the hint, to stderr; as a document on stdout too where JSON is wanted."""
    print(f"error: {visible(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"hint: {visible(error.hint)}", file=sys.stderr)
    if as_json:
        kind = type(error).__name__.removesuffix("Error")
        fields = {"kind": kind, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
        print_json(document(error=fields))


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Give rows as aligned columns, two spaces between; the last column is not padded."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = (
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    )
    return "\n".join(lines)
