"""Forms that records come in: a format and a compression, told by the ending of a file's name.

Knows nothing of how a form is read or written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from reprobuild.errors import UsageError
from reprobuild.value import Value

STANDARD = "-"
"""Standard input, standard output."""

_FORMATS: Mapping[str, str] = {
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "parquet": "parquet",
    "pq": "parquet",
    "arrow": "arrow",
    "feather": "arrow",
}
"""Ending → format."""
_SAID: Mapping[str, str] = {**_FORMATS, "tsv-plain": "tsv-plain", "tsv-quoted": "tsv-quoted"}
"""What may be said in the place of an ending."""
_PACKINGS: Mapping[str, str] = {
    "gz": "gzip",
    "gzip": "gzip",
    "bz2": "bzip2",
    "xz": "xz",
    "zst": "zstd",
    "zstd": "zstd",
}
"""Ending → compression."""
_OTHERS = frozenset(
    (
        *("7z", "avro", "bin", "db", "docx", "h5", "hdf5", "html", "lz4", "npy", "npz", "ods", "orc", "pdf"),
        *("pickle", "pkl", "pt", "rar", "safetensors", "sqlite", "tar", "tgz", "xls", "xlsx", "xml", "zip"),
    )
)
"""Endings of what is neither read nor written: a file that is called so holds no JSON Lines."""
_KNOWN = (
    "jsonl, csv, tsv, tsv-plain, tsv-quoted, parquet, arrow; the first five with .gz, .bz2, .xz, .zst too"
)


class Form(Value):
    """How the records of a file are written."""

    format: str = "jsonl"
    """``jsonl``, ``csv``, ``tsv``, ``tsv-plain``, ``tsv-quoted``, ``parquet``, ``arrow`` or ``dataset``."""
    packing: str = ""
    """``gzip``, ``bzip2``, ``xz``, ``zstd``, or nothing."""


def said_form(text: str, option: str) -> Form:
    """Read what was said in the place of an ending: ``csv``, ``jsonl.gz``. Raises UsageError."""
    first, _, last = text.lower().lstrip(".").partition(".")
    if first not in _SAID or (last and last not in _PACKINGS):
        raise UsageError(f"{option} {text}: there is no such format", f"one of {_KNOWN}")
    return _checked(Form(_SAID[first], _PACKINGS.get(last, "")), f"{option} {text}")


def form_of(path: str, option: str) -> Form:
    """Give the form that a path's ending says, JSON Lines where it says nothing; a folder is a dataset.

    ``option``: by what another form can be said. Raises UsageError for what is known to be no records.
    """
    if path == STANDARD:
        return Form()
    if os.path.isdir(path):
        return Form("dataset")
    before, _, last = os.path.basename(path).lower().rpartition(".")
    packing = _PACKINGS.get(last, "") if before else ""
    if packing:
        before, _, last = before.rpartition(".")
    if before and last in _OTHERS:
        raise UsageError(
            f"{path}: .{last} is no format of records", f"one of {_KNOWN}; whatever its name, say {option}"
        )
    return _checked(Form(_FORMATS.get(last, "jsonl") if before else "jsonl", packing), path)


def _checked(form: Form, shown: str) -> Form:
    if form.packing and form.format in ("parquet", "arrow"):
        raise UsageError(f"{shown}: {form.format} is compressed inside, not as a whole", "leave it as it is")
    return form
