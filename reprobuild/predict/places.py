"""Files that a call reads and writes, by their paths; ``-`` is standard input or output.

Knows nothing of what is in them. A plain file that is written gets its name when everything is in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import stat
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO

from reprobuild.errors import OutsideError, UsageError
from reprobuild.predict.draft import drafted
from reprobuild.predict.forms import STANDARD

Write = Callable[[bytes], None]


@contextlib.contextmanager
def opened(source: str) -> Iterator[BinaryIO]:
    """Open an input. Raises UsageError for what can't be read."""
    if source == STANDARD:
        if fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
            raise UsageError("standard input is closed", "name a file of records: --input FILE")
        yield sys.stdin.buffer
        return
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"the input {source} can't be read: {reason}",
            "name a file of records, or - for standard input",
        ) from None
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"the input {source} is a folder", "name a file of records")
    with open(descriptor, "rb") as file:
        yield file


@contextlib.contextmanager
def written(destination: str) -> Iterator[Write]:
    """Open an output, and give what writes to it. Raises OutsideError where that fails."""
    if destination == STANDARD:
        yield lambda data: _write(sys.stdout.buffer, data, destination)
        return
    if os.path.isdir(destination):
        raise UsageError(f"the output {destination} is a folder", "name a file")
    # A pipe or a device is opened by the name it was given: /dev/stdout leads to none that could be opened.
    plain = os.path.isfile(destination) or not os.path.exists(destination)
    path = os.path.realpath(destination) if plain else destination
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(drafted(path) if plain else _opened_as_it_is(path))
        except OSError as error:
            raise _unwritable(destination, error) from None
        # Unbuffered: blocks are large, and a full disk shows at the write that meets it.
        with open(descriptor, "wb", buffering=0, closefd=False) as file:
            yield lambda data: _write(file, data, destination)


@contextlib.contextmanager
def _opened_as_it_is(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(file: BinaryIO, block: bytes, destination: str) -> None:
    view = memoryview(block)
    try:
        while view:
            view = view[file.write(view) :]
        file.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(destination, error) from None


def _unwritable(destination: str, error: OSError) -> OutsideError:
    folder = os.path.dirname(destination)
    hint = f"mkdir -p {shlex.quote(folder)}" if isinstance(error, FileNotFoundError) and folder else ""
    return OutsideError(f"the output {destination} can't be written: {error.strerror}", hint)
