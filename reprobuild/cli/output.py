"""What goes to stdout: text or JSON documents; and errors, which go to stderr.

Knows nothing of verbs, nor of terminals.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reprobuild.cli.text import visible
from reprobuild.errors import OutsideError, ReprobuildError

SCHEMA = 1
"""The version of every JSON document; raised when a field changes its meaning or goes."""


def document(**fields: Any) -> dict[str, Any]:
    """Give a JSON document: the schema's version first, then the fields."""
    return {"schema": SCHEMA, **fields}


def print_json(value: Mapping[str, Any]) -> None:
    """Print a document as one line. Raises OutsideError where it cannot be written."""
    with _writing():
        print(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def print_text(text: str) -> None:
    """Print text for people, control characters made visible. Raises OutsideError as ``print_json``."""
    with _writing():
        print(visible(text))


def flush() -> None:
    """Bring out what was printed. Raises OutsideError where it cannot be written."""
    with _writing():
        sys.stdout.flush()


def discard() -> None:
    """Send what is still to be printed nowhere: Python would complain while it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def allow_any_text() -> None:
    """Let characters that the locale's encoding lacks be written as ``\\u2192`` instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard()
        raise OutsideError(f"standard output can't be written: {error.strerror}") from None


def print_error(error: ReprobuildError, *, as_json: bool) -> None:
    """Print an error: what, then the hint, to stderr; as a document on stdout too where JSON is wanted."""
    print(f"error: {visible(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"hint: {visible(error.hint)}", file=sys.stderr)
    if as_json:
        # Where nothing can be printed, stderr has said it.
        kind = type(error).__name__.removesuffix("Error")
        fields = {"kind": kind, "message": error.message, "hint": error.hint, "exit_code": error.exit_code}
        with contextlib.suppress(OutsideError):
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
