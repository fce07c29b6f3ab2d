"""The worker of protocol ``files``: a command that is run once for each batch, JSON Lines in and out.

Knows nothing of caches and keys: it gets distinct records and gives outputs in their order, all of
them checked, or an error that says which is missing, extra or malformed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from reprobuild.derivation.predictors import Predictor
from reprobuild.engine.protocol import Result
from reprobuild.errors import (
    BatchFailedError,
    ItemFailedError,
    LostError,
    PredictionFailedError,
    RefusedFetchError,
    ReprobuildError,
)
from reprobuild.events import OutputLine, Tell
from reprobuild.predict.fields import Fields
from reprobuild.predict.held import OUTPUT, HeldRun
from reprobuild.predict.macro import extra_records, read_macro
from reprobuild.predict.records import read_chunks
from reprobuild.predict.spool import Spool
from reprobuild.predict.target import Target
from reprobuild.predict.worker import Accept, Batch, Fail, Limits, Ran

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.gateway.gate import Gate

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
        ahead: bool = False,
    ) -> None:
        """Take what ``worker.start_worker`` takes."""
        self.refused = 0
        """Of the last run."""
        self._target = target
        self._predictor = target.predictor(name)
        self._shown = f"{target.recipe}/{name}"
        self._limits = limits
        self._tell = tell
        # What holds on to a run is not held by it.
        self._hold = functools.partial(
            HeldRun,
            target,
            name,
            parameters,
            device=device,
            limits=limits,
            output=lambda line: tell(line_told(line)),
        )
        self._is_ahead = ahead
        self._lock = threading.Lock()
        self._run: HeldRun | None = None
        """The one at work."""
        self._next: HeldRun | None = None
        """One that waits for records."""
        self._count = 0
        """How many batches there were."""
        self._is_closed = False

    @property
    def lives_on(self) -> bool:
        return self._is_ahead

    def compute(self, batch: Batch, accept: Accept, fail: Fail | None = None) -> Ran:
        """Run the command on a batch; ``accept`` gets nothing before all outputs have been checked.

        ``fail`` is never called: what one command did for many records can't be told apart.
        """
        self.refused = 0
        with self._ran(batch) as (run, result):
            gate = run.gate
            _check_result(self._shown, self._predictor, result, self._limits, gate, batch)
            with Spool(str(run.scratch)) as outputs:
                try:
                    _read_outputs(self._shown, self._predictor, run.output, batch, result, outputs)
                except PredictionFailedError as error:
                    if gate.refused:
                        raise refused(self._shown, self._predictor, gate, error.message) from error
                    raise
                self._tell_of(gate)
                outputs.seek(0)
                for index, output in enumerate(outputs):
                    accept(index, output[:-1])
            return Ran(result.seconds, run.engine, len(gate.refused))

    def close(self) -> None:
        """End the command that is at work, and the one that waits."""
        with self._lock:
            self._is_closed = True
            run, waiting, self._next = self._run, self._next, None
        if run is not None:
            run.end()
        if waiting is not None:
            waiting.close()

    @contextlib.contextmanager
    def _ran(self, batch: Batch) -> Iterator[tuple[HeldRun, Result]]:
        """Give a run that has ended, and how; what it left is there for the ``with`` block."""
        run = self._take()
        try:
            try:
                result = self._go(run, batch)
            except LostError:
                run.close()
                run = self._take(fresh=True)
                result = self._go(run, batch)
            yield run, result
        finally:
            with self._lock:
                self._run = None
                self._count += 1
            run.close()

    def _take(self, *, fresh: bool = False) -> HeldRun:
        """Give a run that has not begun. Raises PredictionFailedError where this is closed."""
        with self._lock:
            self._check_open()
            run, self._next = self._next, None
            if run is not None and run.is_usable and not fresh:
                self._run = run
                return run
        if run is not None:
            run.close()
        run = self._hold()
        try:
            with self._lock:
                self._check_open()
                self._run = run
        except BaseException:
            run.close()
            raise
        return run

    def _go(self, run: HeldRun, batch: Batch) -> Result:
        run.go(batch)
        self._prepare()
        try:
            result = run.result()
        except ReprobuildError:
            self._check_open()
            raise
        self._check_open()
        return result

    def _check_open(self) -> None:
        if self._is_closed:
            raise PredictionFailedError(f"the predictor {self._shown} was closed before it had ended")

    def _prepare(self) -> None:
        """Have another run wait for the next records, where this is not the first: then others may follow."""
        if not self._is_ahead or not self._count:
            return
        # What goes wrong here, the next one says.
        with self._lock, contextlib.suppress(ReprobuildError, OSError, RuntimeError):
            if not self._is_closed:
                self._next = self._hold(ahead=True)

    def _tell_of(self, gate: Gate) -> None:
        """Say what was refused to a command that coped; raises RefusedFetchError where that is not wanted."""
        self.refused = len(gate.refused)
        if gate.refused or gate.unused:
            from reprobuild.build.refusals import tell_of_gate

            advice = mend(self._shown, self._predictor, gate)
            strict = self._target.strict_network
            tell_of_gate(f"the predictor {self._shown}", gate, self._tell, strict=strict, mend=advice)


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
        raise (BatchFailedError if is_one_of_many else PredictionFailedError)(
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
