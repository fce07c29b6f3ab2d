"""Runs a predictor of protocol ``files`` once: records in as JSON Lines, one record out for each.

Knows nothing of caches and keys: it gets distinct records and gives outputs in their order, all of
them checked, or an error that says which is missing, extra or malformed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from reprobuild.derivation.predictors import Predictor
from reprobuild.engine.program import obstacle
from reprobuild.engine.protocol import Command, Result
from reprobuild.errors import InputError, NotBuiltError, PredictionFailedError, RefusedFetchError
from reprobuild.events import OutputLine, Tell
from reprobuild.predict.fields import Fields
from reprobuild.predict.parameters import CPU, fill_command
from reprobuild.predict.records import read_chunks
from reprobuild.predict.spool import Spool
from reprobuild.predict.target import Target
from reprobuild.tree import NORMAL_TIME
from reprobuild.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.gateway.gate import Gate

INPUT = "/in/input.jsonl"
FILES = "/in/files"
OUTPUT = "/out/output.jsonl"
TAIL_LINES = 20
"""Of what the command printed, in an error."""


class Limits(Value):
    """What a command may use."""

    timeout: float | None = None
    """Seconds."""
    memory: int | None = None
    """Bytes."""


NO_LIMITS = Limits()


class Batch(Value):
    """Records for one run of a command."""

    records: Spool
    """Canonical JSON Lines, to be read from the start."""
    count: int
    files: Mapping[str, Path]
    """Name below ``/in/files`` → file of the host that had this digest (the name's first 64 digits)."""
    labels: Callable[[int], str]
    """Says what the caller calls a record of the batch, by its index: ``line 7 of in.jsonl``."""


class Ran(Value):
    """How a run went that gave all its outputs."""

    seconds: float
    engine: str
    refused: int = 0
    """How many things it asked the network for, did not get, and coped without."""


def check_built(predictor: Predictor) -> None:
    """Raise NotBuiltError for a protocol that this release does not have."""
    if predictor.protocol == "stream":
        raise NotBuiltError("predictors of protocol 'stream' are not built yet", 'use protocol="files"')


def run_batch(
    target: Target,
    name: str,
    parameters: Mapping[str, Any],
    batch: Batch,
    limits: Limits,
    tell: Tell,
    accept: Callable[[list[bytes]], None],
) -> Ran:
    """Run the command on a batch; ``accept`` gets the canonical outputs in chunks, in order.

    ``accept`` has had all of them if and only if this returns. Raises PredictionFailedError,
    RefusedFetchError, EngineError.
    """
    predictor = target.predictor(name)
    shown = f"{target.recipe}/{name}"
    text = fill_command(predictor, parameters, source=INPUT, destination=OUTPUT, device=CPU)
    with target.scratch("predict") as scratch:
        given, taken = scratch / "in", scratch / "out"
        _stage(given, batch, scratch.stat().st_uid)
        taken.mkdir(mode=0o755)
        command = Command(
            argv=("/bin/sh", "-c", text),
            env=target.env,
            workdir=target.workdir,
            inputs={"/in": given},
            outputs={"/out": taken},
            threads=predictor.threads,
            timeout=limits.timeout,
            memory=limits.memory,
        )
        engine = target.engine()
        with engine.ground(target.layers) as ground:
            if problem := obstacle(ground, command):
                raise PredictionFailedError(
                    f"the predictor {shown} cannot start: {problem} in its image",
                    f"add what it needs to its recipe: reprobuild show {shown.partition('/')[0]}",
                )
            gate = target.gateway(predictor)
            result = engine.run(ground, command, gateway=gate, output=lambda line: tell(_line_told(line)))
        _check_result(shown, predictor, result, limits, gate)
        try:
            _read_outputs(shown, predictor, taken / "output.jsonl", batch, result, accept)
        except PredictionFailedError as error:
            if gate.refused:
                raise _refused(shown, predictor, gate, error.message) from error
            raise
        if gate.refused or gate.unused:
            from reprobuild.build.refusals import tell_of_gate

            mend = _mend(shown, predictor, gate)
            tell_of_gate(f"the predictor {shown}", gate, tell, strict=target.strict_network, mend=mend)
    return Ran(result.seconds, engine.name, len(gate.refused))


def _stage(folder: Path, batch: Batch, owner: int) -> None:
    """Lay the folder out that becomes ``/in``: owned by the uid that is 0 inside, all of one normal time."""
    folder.mkdir(mode=0o755)
    with open(folder / "input.jsonl", "xb") as file:
        batch.records.seek(0)
        while block := batch.records.read(1 << 20):
            file.write(block)
    made = [folder / "input.jsonl"]
    if batch.files:
        files = folder / "files"
        files.mkdir()
        for name, source in batch.files.items():
            _copy_checked(source, files / name, name[:64])
            made.append(files / name)
        made.append(files)
    for path in (*made, folder):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if owner != os.geteuid():
            os.chown(path, owner, owner)
        os.utime(path, (NORMAL_TIME, NORMAL_TIME))


def _copy_checked(source: Path, copy: Path, expected: str) -> None:
    import shutil

    from reprobuild.digest import Digest

    try:
        shutil.copyfile(source, copy)
        with open(copy, "rb", buffering=0) as file:
            digest, _ = Digest.of_file(file)
    except OSError as error:
        raise InputError(f"{source} can't be read: {error.strerror}") from None
    if digest.hex != expected:
        raise InputError(f"{source} changed while its prediction was prepared", "run predict again")


def _check_result(shown: str, predictor: Predictor, result: Result, limits: Limits, gate: Gate) -> None:
    if result.timed_out:
        raise PredictionFailedError(
            f"the predictor {shown} was ended after {limits.timeout:g} s{_tail(result)}"
            if limits.timeout is not None
            else f"the predictor {shown} ran out of time{_tail(result)}",
            "give it more time with --timeout, or fewer records at once",
        )
    if result.out_of_memory:
        raise PredictionFailedError(
            f"the predictor {shown} ran out of memory{_tail(result)}",
            "give it more with --memory, or fewer records at once",
        )
    if result.exit_code and gate.refused:
        raise _refused(shown, predictor, gate, f"it ended with exit code {result.exit_code}{_tail(result)}")
    if result.exit_code:
        raise PredictionFailedError(
            f"the predictor {shown} ended with exit code {result.exit_code}{_tail(result)}",
            f"reprobuild shell {shown.partition('/')[0]} opens a shell in its image",
        )


def _refused(shown: str, predictor: Predictor, gate: Gate, ended: str) -> RefusedFetchError:
    from reprobuild.build.refusals import refused_error

    return refused_error(f"the predictor {shown}", gate, ended, _mend(shown, predictor, gate))


def _mend(shown: str, predictor: Predictor, gate: Gate) -> str:
    """Give what to do about a refusal where the predictor is recorded; else ``""``."""
    if not predictor.network:
        return ""
    from reprobuild.build.refusals import allowing

    recipe, _, name = shown.partition("/")
    lock = f"reprobuild lock {recipe}"
    again = f"{lock} --update 'predictor {name}'"
    examples = f"what its examples ask for is recorded: add one that asks for that, then: {again}"
    return allowing(gate, lock) or examples


def _read_outputs(
    shown: str,
    predictor: Predictor,
    path: Path,
    batch: Batch,
    result: Result,
    accept: Callable[[list[bytes]], None],
) -> None:
    def refuse(line: int, reason: str) -> PredictionFailedError:
        if line > batch.count:
            return _failed(shown, f"it wrote more than the {batch.count} records that it was given", result)
        return _failed(
            shown, f"its output for {batch.labels(line - 1)} (line {line} of {OUTPUT}): {reason}", result
        )

    count = 0
    with _open_output(shown, path, result) as file:
        for chunk in read_chunks(file, Fields(predictor.outputs), refuse):
            count += len(chunk)
            if count > batch.count:
                raise refuse(count, "")
            accept(chunk)
    if count < batch.count:
        raise _failed(
            shown,
            f"it wrote {count} of {batch.count} outputs; the first that is missing is that for "
            f"{batch.labels(count)}",
            result,
        )


def _open_output(shown: str, path: Path, result: Result) -> BinaryIO:
    """Open what the command left, following no link and waiting for no pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise _failed(shown, f"it ended well, and wrote no {OUTPUT}", result) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _failed(shown, f"{OUTPUT} is no plain file", result)
    return open(descriptor, "rb")


def _failed(shown: str, what: str, result: Result) -> PredictionFailedError:
    return PredictionFailedError(f"the predictor {shown} failed: {what}{_tail(result)}")


def _tail(result: Result) -> str:
    lines = [plain(line) for line in result.tail[-TAIL_LINES:]]
    return "\nthe last lines it printed:\n  " + "\n  ".join(lines) if lines else "\nit printed nothing"


def _line_told(line: bytes) -> OutputLine:
    return OutputLine(line.decode("utf-8", "replace").rstrip("\r\n"))


def plain(text: str) -> str:
    """Give a line without the characters that a terminal would obey."""
    return "".join(
        character if character.isprintable() or character == "\t" else "\ufffd" for character in text
    )
