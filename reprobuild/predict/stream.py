"""The worker of protocol ``stream``: a process that loads its model once and answers many records.

Each record goes to the process with a number, and its answer comes back with that, so none can be taken
for another's. Knows nothing of caches and keys, nor of how a process is run.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reprobuild.errors import ItemFailedError, PredictionFailedError
from reprobuild.events import Tell
from reprobuild.predict.answers import Answers, NoAnswerError
from reprobuild.predict.fields import Fields
from reprobuild.predict.process import EndedError, Given, Process
from reprobuild.predict.runner import last_lines, mend, refused
from reprobuild.predict.target import Target
from reprobuild.predict.worker import Accept, Batch, Fail, Limits, Ran

WINDOW = 64
"""Records that a process is given before it has answered the first of them (scope ``item``)."""
WINDOW_SIZE = 1 << 15
"""Bytes of records that are on their way at once, unless one alone is larger: a pipe holds them, however they
are cut. What carries them to a container may wait until they are read (Podman's conmon), and takes no answers
meanwhile."""
UNSENT = 1 << 20
"""Bytes of a batch that wait here to be sent."""


class StreamWorker:
    """Speaks with a process that lives on between batches: started with the first, and anew if need be."""

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
        self.predictor = target.predictor(name)
        self.shown = f"{target.recipe}/{name}"
        self.limits = limits
        self.has_answered = False
        """Whether any process has answered: then one that dies does so for its record, not at its start."""
        self._target = target
        self._name = name
        self._parameters = parameters
        self._device = device
        self._tell = tell
        self._process: Process | None = None
        self._lock = threading.Lock()
        self._is_closed = False
        self._refused = 0
        """To processes that have ended."""
        self._told = 0

    @property
    def refused(self) -> int:
        """How many things were asked of the network so far, and not got."""
        process = self._process
        return self._refused + (len(process.gate.refused) if process is not None else 0)

    @property
    def lives_on(self) -> bool:
        return True

    def compute(self, batch: Batch, accept: Accept, fail: Fail | None = None) -> Ran:
        """Give the outputs as they come. A record that fails leaves the process as it is.

        What is on its way then is waited for. A process that dies, or lets the time pass, is ended; where it
        had several records, another is given those one by one, to find which of them was to blame.
        """
        began = time.perf_counter()
        if self.predictor.random and self.predictor.scope == "batch":
            self.end()  # what it has drawn before would count
        exchange = _Exchange(self, batch, accept, fail)
        try:
            exchange.go()
        except BaseException:
            if self._process is not None and not self._process.is_idle:
                self.end()
            raise
        self._tell_of_network()
        return Ran(time.perf_counter() - began, exchange.engine, self.refused)

    def close(self) -> None:
        """End the process, and wait until it has ended."""
        with self._lock:
            self._is_closed = True
        self.end()

    # For an exchange.

    def process(self, files: Mapping[str, Path]) -> Process:
        """Give the process that lives, or a new one; the files are there for it."""
        process = self._process
        if process is None or not process.is_usable:
            self.end()
            with self._lock:
                if self._is_closed:
                    raise PredictionFailedError(f"the predictor {self.shown} is closed")
                process = self._process = Process(
                    self._target,
                    self._name,
                    self._parameters,
                    files,
                    device=self._device,
                    limits=self.limits,
                    tell=self._tell,
                )
        process.bring(files)
        return process

    def end(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.close()
            self._refused += len(process.gate.refused)

    def check_network(self, process: Process, ended: str = "") -> None:
        """Raise RefusedFetchError where what a process was refused is to blame, or is not allowed.

        ``ended``: how it failed; empty: it goes on.
        """
        if (ended or self._target.strict_network) and process.gate.refused:
            self.end()
            why = ended or "it coped without, which --strict-network does not allow"
            raise refused(self.shown, self.predictor, process.gate, why)

    def _tell_of_network(self) -> None:
        """Say what a process was refused since that was last said, and coped without."""
        process = self._process
        if process is None or self.refused == self._told:
            return
        from reprobuild.build.refusals import tell_of_gate

        self._told = self.refused
        tell_of_gate(
            f"the predictor {self.shown}",
            process.gate,
            self._tell,
            strict=self._target.strict_network,
            mend=mend(self.shown, self.predictor, process.gate),
            is_over=False,
        )


class _Exchange:
    """One batch: its records out, their answers in."""

    def __init__(self, worker: StreamWorker, batch: Batch, accept: Accept, fail: Fail | None) -> None:
        self.engine = ""
        self._worker = worker
        self._batch = batch
        self._accept = accept
        self._is_whole = worker.predictor.scope == "batch"
        self._fail = None if self._is_whole else fail
        self._answers = Answers(Fields(worker.predictor.outputs))
        self._source = _Source(batch)
        self._suspects: deque[Given] = deque()
        """Records of a process that died, each to be given alone; the likeliest last."""
        self._is_careful = False
        """Whether what is out was given alone, for that."""
        self._failure: ItemFailedError | None = None
        """That is to be raised once nothing is on its way."""
        self._deadline: float | None = None

    def go(self) -> None:
        """Do it. Raises as ``Worker.compute`` does."""
        process = self._begin()
        while True:
            self._give(process)
            if not process.out:
                break
            try:
                lines = self._hear(process)
            except EndedError as ended:
                self._after(process, ended)
                if self._failure is not None or not (self._suspects or self._source.waiting):
                    break
                process = self._begin()
                continue
            for line in lines:
                self._take(process, line)
        if self._failure is not None:
            self._worker.check_network(process, self._failure.message)
            raise self._failure

    def _begin(self) -> Process:
        process = self._worker.process(self._batch.files)
        self.engine = process.engine
        if self._worker.limits.timeout is not None:
            process.wait_until_begun()  # how long an engine takes is not the predictor's
        if self._is_whole:
            process.say(b'{"_batch":%d}\n' % self._batch.count)
        return process

    def _give(self, process: Process) -> None:
        """Give a process as many records as may be on their way."""
        if not process.out:
            self._set_deadline()
            self._is_careful = bool(self._suspects)
        while self._failure is None:
            waiting = self._suspects or self._source.waiting
            if not waiting or not self._has_room(process, waiting[0]):
                return
            process.give(waiting.popleft())

    def _has_room(self, process: Process, given: Given) -> bool:
        if self._is_whole:
            return process.unsent < UNSENT
        if self._is_careful or not process.out:
            return not process.out
        return len(process.out) < WINDOW and process.size + len(given.record) <= WINDOW_SIZE

    def _set_deadline(self) -> None:
        limit = self._worker.limits.timeout
        self._deadline = None if limit is None else time.monotonic() + limit

    def _hear(self, process: Process) -> list[bytes]:
        try:
            return process.hear(self._deadline)
        except TimeoutError:
            start = "" if process.has_answered else " of its start"
            how = f"it gave no answer within {self._worker.limits.timeout:g} s{start}"
            raise EndedError(how, "give it more time with --timeout", is_late=True) from None

    def _take(self, process: Process, line: bytes) -> None:
        try:
            answer = self._answers.read(line)
        except NoAnswerError as error:
            raise self._broken(process, str(error)) from None
        if answer is None:
            process.log(line)
            return
        given = process.answered(answer.number)
        if given is None:
            was_given = 0 <= answer.number < process.count
            what = "answered twice" if was_given else "answered, and never given to it"
            raise self._broken(process, f"record {answer.number} was {what}")
        self._worker.has_answered = True
        self._worker.check_network(process)
        if not self._is_whole:
            self._set_deadline()
        if answer.failure:
            self._blame(process, given, answer.failure)
        else:
            self._accept(given.place, answer.output)

    def _blame(self, process: Process, given: Given, why: str, hint: str = "") -> None:
        """Let a record fail, and the others go on if they may."""
        if self._fail is not None:
            self._fail(given.place, why)
        elif self._failure is None:
            message = self._message(process, f"{self._batch.named(given.place)}: {why}")
            self._failure = ItemFailedError(message, hint, index=given.place)

    def _after(self, process: Process, ended: EndedError) -> None:
        """Find who is to blame for the end of a process. Raises where that is no record."""
        worker, out = self._worker, list(process.out.values())
        worker.end()
        worker.check_network(process, self._message(process, ended.how))
        first = self._batch.named(out[0].place)
        if self._failure is not None:
            raise self._failure
        if not worker.has_answered and (ended.is_late or self._fail is None or len(out) == 1):
            how = f"{ended.how}, and had not answered anything; it was given {first}"
            raise PredictionFailedError(self._message(process, how), ended.hint)
        if self._is_whole or ended.is_clean:
            how = f"{ended.how}, and had not answered {len(out)} of its records; the first is {first}"
            hint = ended.hint
            if ended.is_clean:
                hint = "a predictor of protocol 'stream' answers until its standard input ends"
            raise PredictionFailedError(self._message(process, how), hint)
        if len(out) == 1 and (self._is_careful or ended.is_late or not process.has_answered):
            self._blame(process, out[0], ended.how, ended.hint)
        else:
            self._suspects.extend([*out[1:], out[0]])

    def _broken(self, process: Process, what: str) -> PredictionFailedError:
        """Give the error of a process that can't be understood, and end it."""
        self._worker.end()
        return PredictionFailedError(self._message(process, what))

    def _message(self, process: Process, what: str) -> str:
        return f"the predictor {self._worker.shown} failed: {what}{last_lines(list(process.tail))}"


class _Source:
    """The records of a batch in their order, wherever others read in it meanwhile."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._next = 0
        self._place = 0
        self._waiting: deque[Given] = deque()

    @property
    def waiting(self) -> deque[Given]:
        """Records that were not given yet, to be taken from the left; empty where all were."""
        if not self._waiting and self._next < self._batch.count:
            self._batch.records.seek(self._place)
            for line in self._batch.records.readlines(UNSENT):
                self._waiting.append(Given(self._next, line.rstrip(b"\n")))
                self._place += len(line)
                self._next += 1
        return self._waiting
