"""Tells whether a call would write over what it reads, or write two things to one place.

Files are the same if the system says so, whatever their names: links, ``./x`` and ``x``. Knows nothing of
what is in them, and opens none.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence

from reprobuild.errors import UsageError
from reprobuild.predict.forms import STANDARD

_STANDARD_OUTPUT = (STANDARD, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_Key = tuple[int | str, ...]
_STREAM: _Key = ("standard output",)


def demand_apart(inputs: Sequence[str], outputs: Mapping[str, str | None]) -> None:
    """Raise UsageError for a place to write that is an input, is in one, or is named twice.

    ``outputs``: option → path; None or nothing for what is not written. What is no file (a terminal, a pipe,
    ``/dev/null``) holds nothing that could be lost, and may be named several times; standard output may not.
    """
    written: dict[_Key, str] = {}
    places = {option: path for option, path in outputs.items() if path}
    for option, path in places.items():
        file, is_stream = _key(path, 1), path in _STANDARD_OUTPUT
        for key in (_STREAM if is_stream else (), file):
            if key in written:
                other = written[key]
                if key == _STREAM or path == places[other]:
                    shown = "standard output" if is_stream else path
                    raise UsageError(f"{shown} is named twice, by {other} and {option}", "name two places")
                raise UsageError(f"{option} {path} is the same file as {other}", "name two places")
            if key:
                written[key] = option
    for source in inputs:
        found = written.get(_key(source, 0))
        if found is not None:
            shown = "standard input" if source == STANDARD else source
            raise _overwriting(f"{found} {places[found]} is the input {shown}")
        if os.path.isfile(os.path.join(source, "state.json")):
            _demand_outside(source, places, written)


def _demand_outside(folder: str, places: Mapping[str, str], written: Mapping[_Key, str]) -> None:
    """Raise UsageError for a place to write that is in the folder of a saved dataset, or a file of it."""
    try:
        names = os.listdir(folder)
    except OSError:
        names = []
    keys = (_key(os.path.join(folder, name), 0) for name in names)
    found = next((written[key] for key in keys if key in written), None)
    inside = os.path.join(os.path.realpath(folder), "")
    for option, path in places.items():
        if option == found or (path != STANDARD and os.path.realpath(path).startswith(inside)):
            raise _overwriting(f"{option} {path} is in the folder of the input {folder}")


def _overwriting(what: str) -> UsageError:
    return UsageError(what, "name another file: what is read is never written over")


def _key(path: str, standard: int) -> _Key:
    """Give what is equal for two paths of one file, there or not; nothing for what is no file.

    ``standard``: the descriptor that ``-`` stands for.
    """
    try:
        found = os.fstat(standard) if path == STANDARD else os.stat(path)
    except (OSError, ValueError):
        return _missing_key(path)
    if stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode):
        return (found.st_dev, found.st_ino)
    return ()


def _missing_key(path: str) -> _Key:
    try:
        folder, name = os.path.split(os.path.realpath(path))
        found = os.stat(folder)
    except (OSError, ValueError):
        return (path,)
    return (found.st_dev, found.st_ino, name)
