"""Predictions from file to file: JSON Lines in, JSON Lines out, all of it or none.

Knows nothing of how a call is answered.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from reprobuild.errors import InputError, OutsideError, UsageError
from reprobuild.events import Tell, ignore
from reprobuild.predict.call import Call, Options, Summary
from reprobuild.predict.fields import Fields
from reprobuild.predict.records import read_chunks
from reprobuild.predict.staging import StagedFiles
from reprobuild.predict.target import Target

STANDARD = "-"
"""Standard input, standard output."""


def predict_file(
    target: Target,
    predictor: str,
    source: str,
    destination: str,
    *,
    options: Options | None = None,
    limit: int | None = None,
    tell: Tell = ignore,
) -> Summary:
    """Predict each line of a JSON Lines file; ``-`` is standard input or output.

    ``limit``: the first so many lines alone. A file is written under another name and then renamed:
    it is there whole, or as it was. Raises InputError for a line that does not fit, before anything
    is started; what ``Call.answer`` raises; OutsideError where the output can't be written.
    """
    started = time.perf_counter()
    call = Call(target, predictor, options or Options(), tell)
    fields = Fields(call.predictor.inputs)
    shown = "standard input" if source == STANDARD else source

    def refuse(line: int, reason: str) -> InputError:
        hint = f"{target.recipe}/{predictor} takes " + ", ".join(
            f"{name} ({kind})" for name, kind in fields.types.items()
        )
        return InputError(f"{shown}, line {line}: {reason}", hint)

    base = Path() if source == STANDARD else Path(source).parent
    staged = StagedFiles(fields, base, refuse) if fields.files else None
    rewrite = staged.rewrite if staged is not None else None
    with _opened(source) as file, _written(destination) as output:
        chunks = read_chunks(file, fields, refuse, limit=limit, rewrite=rewrite)
        for block in call.answer(chunks, lambda index: f"line {index + 1} of {shown}", staged):
            _write(output, block, destination)
    return call.summary(time.perf_counter() - started)


@contextlib.contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == STANDARD:
        if fcntl.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
            raise UsageError("standard input is closed", "name a file of JSON Lines: --input FILE")
        yield sys.stdin.buffer
        return
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(
            f"the input {source} can't be read: {error.strerror}",
            "name a file of JSON Lines, or - for standard input",
        ) from None
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError(f"the input {source} is a folder", "name a file of JSON Lines")
    with open(descriptor, "rb") as file:
        yield file


@contextlib.contextmanager
def _written(destination: str) -> Iterator[BinaryIO]:
    """Open the output; a plain file gets its name only when everything in it is written."""
    if destination == STANDARD:
        yield sys.stdout.buffer
        return
    path = os.path.realpath(destination)
    if os.path.isdir(path):
        raise UsageError(f"the output {destination} is a folder", "name a file")
    plain = not os.path.exists(path) or os.path.isfile(path)
    written = f"{path}.{os.getpid()}.part" if plain else path
    try:
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _unwritable(destination, error) from None
    try:
        # Unbuffered: blocks are large, and a full disk shows at the write that meets it.
        with open(descriptor, "wb", buffering=0) as file:
            yield cast(BinaryIO, file)
        if plain:
            os.replace(written, path)
    except BaseException:
        if plain:
            with contextlib.suppress(OSError):
                os.unlink(written)
        raise


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
