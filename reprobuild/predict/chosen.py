"""What callers choose for a call, checked before anything is opened, built or read.

Knows nothing of calls: it takes values of any kind, from Python or the command line, and gives those that
make sense.
"""

from __future__ import annotations

import math
import os
from typing import Any, get_args

from reprobuild.errors import UsageError
from reprobuild.predict.call import CacheMode
from reprobuild.predict.worker import Limits
from reprobuild.settings import byte_size

SMALLEST_MEMORY = 16_000_000
"""Bytes: with less, what isolates a command and its shell are ended before the command says why; daemons
refuse less than 6 MiB."""


def memory_limit(value: object, word: str = "memory=") -> int:
    """Give the bytes of a limit: a number of them, or a text as ``byte_size`` reads it.

    ``word``: what errors call it, before its value. Raises UsageError.
    """
    example = f"for example {word}4G" if word.endswith(" ") else f"for example {word}'4G'"
    shown = value if word.endswith(" ") else repr(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UsageError(f"{word}{shown}: a number of bytes is needed, or a text that says it", example)
    try:
        size = byte_size(value) if isinstance(value, str) else value
    except ValueError:
        raise UsageError(f"{word}{shown}: no size in bytes", example) from None
    if size < SMALLEST_MEMORY:
        least = f"{SMALLEST_MEMORY // 1_000_000}MB"
        raise UsageError(f"{word}{shown}: a run needs at least {least} of memory", example)
    return size


def time_limit(value: object) -> float:
    """Give the seconds of a limit. Raises UsageError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UsageError(f"timeout={value!r}: a number of seconds above 0 is needed", "None: no limit")
    return value


def limits(timeout: object, memory: object) -> Limits:
    """Give the limits of each run, as ``load`` is told of them. Raises UsageError."""
    return Limits(
        None if timeout is None else time_limit(timeout), None if memory is None else memory_limit(memory)
    )


def check_choices(name: object, *, cache: object, jobs: object, keep_going: object, tell: object) -> None:
    """Raise UsageError for what ``load`` cannot be given."""
    if not isinstance(name, str):
        raise UsageError(f"load({name!r}): the name of a recipe is needed, or a tag", 'load("tutorial")')
    if cache not in get_args(CacheMode):
        raise UsageError(f"there is no cache mode {cache!r}", "use, refresh or off")
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 0:
        raise UsageError(f"jobs={jobs!r}: a whole number is needed", "1 or more; 0: one for each device")
    if not isinstance(keep_going, bool):
        raise UsageError(f"keep_going={keep_going!r}: True or False is needed")
    if not callable(tell):
        raise UsageError(f"tell={tell!r}: a function is needed, which is called with each event")


def folder_of_store(value: Any) -> str | None:
    """Give the store's folder as a text. Raises UsageError."""
    return None if value is None else _path("store", value)


def folders_of_recipes(value: Any) -> list[str] | None:
    """Give folders of recipes as texts: of one, or several. Raises UsageError for one that is not there."""
    if value is None:
        return None
    several = [value] if isinstance(value, str | os.PathLike) else value
    if not isinstance(several, list | tuple):
        raise UsageError(f"recipes={value!r}: a folder is needed, or a list of them")
    found = [_path("recipes", one) for one in several]
    for folder in found:
        if "\0" in folder or not os.path.isdir(os.path.expanduser(folder)):
            raise UsageError(f"recipes={folder!r}: there is no such folder", "name a folder of recipes")
    return found


def _path(word: str, value: Any) -> str:
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str):
        raise UsageError(f"{word}={value!r}: a folder is needed", "a text, or a pathlib.Path")
    return path
