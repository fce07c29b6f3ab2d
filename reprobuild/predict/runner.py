"""The worker of protocol ``files``: a command that is run once for each batch, JSON Lines in and out.

Knows nothing of caches and keys: it gets distinct records and gives outputs in their order, all of
them checked, or an error that says which is missing, extra or malformed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from reprobuild.derivation.predictors import Predictor
from reprobuild.engine.program import obstacle
from reprobuild.engine.protocol import Command, Engine, Result
from reprobuild.errors import (
    InputError,
    ItemFailedError,
    PredictionFailedError,
    RefusedFetchError,
)
from reprobuild.events import OutputLine, Tell
from reprobuild.predict.fields import Fields
from reprobuild.predict.macro import extra_records, read_macro
from reprobuild.predict.parameters import SEED, command_devices, fill_command, fresh_seed
from reprobuild.predict.records import read_chunks
from reprobuild.predict.spool import Spool
from reprobuild.predict.target import Target
from reprobuild.predict.worker import Accept, Batch, Fail, Limits, Ran
from reprobuild.tree import NORMAL_TIME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.gateway.gate import Gate

INPUT = "/in/input.jsonl"
FILES = "/in/files"
OUTPUT = "/out/output.jsonl"
TAIL_LINES = 20
"""Of what the command printed, in an error."""


class FilesWorker:
    """Runs the command once for each batch."""

    def __init__(
        self,
        target: Target,
        name: str,
        parameters: Mapping[str, Any],
        *,
        device: str,
        limits: Limits,
        tell: Tell,
    ) -> None:
        """Take what ``worker.start_worker`` takes."""
        self.refused = 0
        self._target = target
        self._predictor = target.predictor(name)
        self._shown = f"{target.recipe}/{name}"
        self._parameters = parameters
        self._device = device
        self._limits = limits
        self._tell = tell
        self._lock = threading.Lock()
        self._ending = -1
        """What ends the command at work; -1 where there is none."""
        self._is_closed = False

    def compute(self, batch: Batch, accept: Accept, fail: Fail | None = None) -> Ran:
        """Run the command on a batch; ``accept`` gets nothing before all outputs have been checked.

        ``fail`` is never called: what one command did for many records can't be told apart.
        """
        predictor, target = self._predictor, self._target
        parameters = dict(self._parameters)
        if predictor.random:
            parameters.setdefault(SEED, fresh_seed())
        text = fill_command(predictor, parameters, source=INPUT, destination=OUTPUT, device=self._device)
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
                timeout=self._limits.timeout,
                memory=self._limits.memory,
                devices=command_devices(self._device),
            )
            engine = target.engine()
            with self._at_work() as ending:
                result, gate = self._run(engine, command, ending)
            _check_result(self._shown, predictor, result, self._limits, gate, batch)
            with Spool(str(scratch)) as outputs:
                try:
                    _read_outputs(self._shown, predictor, taken / "output.jsonl", batch, result, outputs)
                except PredictionFailedError as error:
                    if gate.refused:
                        raise refused(self._shown, predictor, gate, error.message) from error
                    raise
                self._tell_of(gate)
                outputs.seek(0)
                for index, output in enumerate(outputs):
                    accept(index, output[:-1])
        return Ran(result.seconds, engine.name, len(gate.refused))

    def close(self) -> None:
        """End the command that is at work; nothing lives on between batches."""
        with self._lock:
            self._is_closed = True
            if self._ending >= 0:
                os.eventfd_write(self._ending, 1)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[int]:
        """Give a descriptor that ends a command. Raises PredictionFailedError where that was closed."""
        closed = PredictionFailedError(f"the predictor {self._shown} was closed before it had ended")
        with self._lock:
            if self._is_closed:
                raise closed
            self._ending = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            yield self._ending
        finally:
            with self._lock:
                os.close(self._ending)
                self._ending = -1
        if self._is_closed:
            raise closed

    def _run(self, engine: Engine, command: Command, ending: int) -> tuple[Result, Gate]:
        with engine.ground(self._target.layers) as ground:
            if problem := obstacle(ground, command):
                raise PredictionFailedError(
                    f"the predictor {self._shown} cannot start: {problem} in its image",
                    f"add what it needs to its recipe: reprobuild show {self._target.recipe}",
                )
            gate = self._target.gateway(self._predictor)
            tell = self._tell
            result = engine.run(
                ground, command, gateway=gate, output=lambda line: tell(line_told(line)), ending=ending
            )
        return result, gate

    def _tell_of(self, gate: Gate) -> None:
        """Say what was refused to a command that coped; raises RefusedFetchError where that is not wanted."""
        self.refused += len(gate.refused)
        if gate.refused or gate.unused:
            from reprobuild.build.refusals import tell_of_gate

            advice = mend(self._shown, self._predictor, gate)
            strict = self._target.strict_network
            tell_of_gate(f"the predictor {self._shown}", gate, self._tell, strict=strict, mend=advice)


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
            copy_checked(source, files / name, name[:64])
            made.append(files / name)
        made.append(files)
    for path in (*made, folder):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if owner != os.geteuid():
            os.chown(path, owner, owner)
        os.utime(path, (NORMAL_TIME, NORMAL_TIME))


def copy_checked(source: Path, copy: Path, expected: str) -> None:
    """Copy a file of the caller's. Raises InputError for one that has not the digest that it had."""
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


def _check_result(
    shown: str, predictor: Predictor, result: Result, limits: Limits, gate: Gate, batch: Batch
) -> None:
    ended = f"{_tail(result)}\nit was given {batch.described()}"
    if result.timed_out:
        raise PredictionFailedError(
            f"the predictor {shown} was ended after {limits.timeout:g} s{ended}"
            if limits.timeout is not None
            else f"the predictor {shown} ran out of time{ended}",
            "give it more time with --timeout, or fewer records at once",
        )
    if result.out_of_memory:
        raise PredictionFailedError(
            f"the predictor {shown} ran out of memory{ended}",
            "give it more with --memory, or fewer records at once",
        )
    if result.exit_code and gate.refused:
        raise refused(shown, predictor, gate, f"it ended with exit code {result.exit_code}{_tail(result)}")
    if result.exit_code:
        is_one_of_many = predictor.scope == "item" and batch.count > 1
        others = "; predict --keep-going finds the records that fail, and computes the others"
        raise PredictionFailedError(
            f"the predictor {shown} ended with exit code {result.exit_code}{ended}",
            f"reprobuild shell {shown.partition('/')[0]} opens a shell in its image"
            + (others if is_one_of_many else ""),
        )


def refused(shown: str, predictor: Predictor, gate: Gate, ended: str) -> RefusedFetchError:
    """Give the error of a predictor that failed after it was refused something."""
    from reprobuild.build.refusals import refused_error

    return refused_error(f"the predictor {shown}", gate, ended, mend(shown, predictor, gate))


def mend(shown: str, predictor: Predictor, gate: Gate) -> str:
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
    shown: str, predictor: Predictor, path: Path, batch: Batch, result: Result, outputs: Spool
) -> None:
    """Write the canonical form of each output to ``outputs``, if they are as many as the records."""

    def refuse(line: int, reason: str) -> PredictionFailedError:
        if line > batch.count:
            return _failed(shown, f"it wrote more than the {batch.count} records that it was given", result)
        what = f"its output for {batch.named(line - 1)} (line {line} of {OUTPUT}): {reason}"
        return ItemFailedError(_failed(shown, what, result).message, index=line - 1)

    count = 0
    last = b""
    with _open_output(shown, path, result) as whole:
        file = whole
        if extra_records(predictor):
            try:
                file, last = read_macro(whole)
            except ValueError as error:
                raise _failed(
                    shown, f"the last line of {OUTPUT} is not its result: {error}", result
                ) from None
        for chunk in read_chunks(file, Fields(predictor.outputs), refuse):
            count += len(chunk)
            if count > batch.count:
                raise refuse(count, "")
            outputs.write(b"\n".join(chunk) + b"\n")
    if count < batch.count:
        raise _failed(
            shown,
            f"it wrote {count} of {batch.count} outputs; the first that is missing is that for "
            f"{batch.named(count)}",
            result,
        )
    outputs.write(last)


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
    return last_lines(result.tail)


def last_lines(tail: Sequence[str]) -> str:
    """Give the end of an error: what was printed last."""
    lines = [plain(line) for line in tail[-TAIL_LINES:]]
    return "\nthe last lines it printed:\n  " + "\n  ".join(lines) if lines else "\nit printed nothing"


def line_told(line: bytes) -> OutputLine:
    """Give the event of a line that a predictor printed."""
    return OutputLine(line.decode("utf-8", "replace").rstrip("\r\n"))


def plain(text: str) -> str:
    """Give a line without the characters that a terminal would obey."""
    return "".join(
        character if character.isprintable() or character == "\t" else "\ufffd" for character in text
    )
