"""One process of a predictor of protocol ``stream``: how it is started, given records, heard and ended.

Knows nothing of batches and of what answers look like: lines go in, lines come out.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from reprobuild.derivation.predictors import Predictor
from reprobuild.engine.lines import LONGEST_KEPT, LONGEST_PIECE
from reprobuild.engine.protocol import Command, Dialogue, Engine, Result
from reprobuild.errors import PredictionFailedError
from reprobuild.events import Tell
from reprobuild.predict.conversation import Conversation
from reprobuild.predict.in_folder import FILES, INSIDE, InFolder, takes_files
from reprobuild.predict.parameters import SEED, command_devices, fill_command, fresh_seed
from reprobuild.predict.records import LONGEST_LINE
from reprobuild.predict.runner import TAIL_LINES, line_told
from reprobuild.predict.target import Target
from reprobuild.predict.worker import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.gateway.gate import Gate


class Given(NamedTuple):
    """A record that a process was given."""

    place: int
    """Its index in its batch."""
    record: bytes
    """In canonical form, without line end."""


class EndedError(Exception):
    """A process has ended, or has to be; ``how``: in words, with what is to be done in ``hint``."""

    def __init__(self, how: str, hint: str = "", *, is_clean: bool = False, is_late: bool = False) -> None:
        super().__init__(how)
        self.how = how
        self.hint = hint
        self.is_clean = is_clean
        """Whether it ended by itself, and well."""
        self.is_late = is_late
        """Whether it lives, and has let the time pass."""


class Process:
    """A process from its start to its end; used by one thread, but for ``close``."""

    def __init__(
        self,
        target: Target,
        name: str,
        parameters: Mapping[str, Any],
        files: Mapping[str, Path],
        *,
        device: str,
        limits: Limits,
        tell: Tell,
    ) -> None:
        """Start it; ``files``: those of its first records, as a batch has them. Raises InputError."""
        predictor = target.predictor(name)
        self._shown = f"{target.recipe}/{name}"
        self._tell = tell
        self.gate = target.gateway(predictor)
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        """What it printed last, but for answers."""
        self.out: dict[int, Given] = {}
        """The records that it has not answered yet, by their numbers, in order."""
        self.size = 0
        """Bytes of theirs."""
        self.count = 0
        """Records that it was given: the number of the next."""
        self.has_answered = False
        self._pending = bytearray()
        self._rest: list[bytes] = []
        self._has_said_all = False
        filled = dict(parameters)
        if predictor.random:
            filled.setdefault(SEED, fresh_seed())
        engine = target.engine()
        self.engine = engine.name
        self._given: InFolder | None = None
        with ExitStack() as stack:
            if takes_files(predictor):
                self._given = InFolder(stack.enter_context(target.scratch("predict")), has_files=True)
                self._given.add_files(files)
            command = Command(
                argv=("/bin/sh", "-c", _fill(predictor, filled, device)),
                env=target.env,
                workdir=target.workdir,
                inputs={} if self._given is None else {INSIDE: self._given.path},
                threads=predictor.threads,
                memory=limits.memory,
                devices=command_devices(device),
            )
            # It holds on to nothing of this object, so that nobody holding that is its end.
            run = functools.partial(_run, stack.pop_all(), target, name, engine, command, self.gate)
        self._conversation = Conversation(run)

    @property
    def is_usable(self) -> bool:
        """Whether it lives, and is this process's own."""
        return self._conversation.is_mine and not self._conversation.has_ended

    @property
    def is_idle(self) -> bool:
        """Whether it has answered everything."""
        return not self.out and not self._pending and self.is_usable

    @property
    def unsent(self) -> int:
        """Bytes that it has not taken yet."""
        return len(self._pending)

    def bring(self, files: Mapping[str, Path]) -> None:
        """Have files there for it, beside those that are. Raises InputError, EngineError."""
        if self._given is None or self._given.has(files):
            return
        self._conversation.wait_until_begun()
        new = self._given.add_files(files)
        self._conversation.show([f"{FILES}/{name}" for name in new])

    def wait_until_begun(self) -> None:
        """Wait until its command begins, or has ended."""
        self._conversation.wait_until_begun()

    def say(self, line: bytes) -> None:
        """Have a line sent."""
        self._pending += line

    def give(self, given: Given) -> None:
        """Have a record sent, with the next number."""
        self._pending += b'{"_id":%d,%b\n' % (self.count, given.record[1:])
        self.out[self.count] = given
        self.size += len(given.record)
        self.count += 1

    def answered(self, number: int) -> Given | None:
        """Take the record of a number out; None where it is not out."""
        given = self.out.pop(number, None)
        if given is not None:
            self.size -= len(given.record)
            self.has_answered = True
        return given

    def hear(self, deadline: float | None) -> list[bytes]:
        """Send what it takes; wait for what it says, and give the lines of its standard output.

        Raises EndedError where it has ended, and said all; TimeoutError after the deadline, a time of
        ``time.monotonic``; PredictionFailedError where it was closed meanwhile or can't start; EngineError.
        """
        if self._has_said_all:
            raise self._ended()
        with memoryview(self._pending) as view:
            sent, said = self._conversation.exchange(view, deadline)
        del self._pending[:sent]
        for line in said.printed:
            self.log(line)
        lines = self._cut(said.output)
        if said.is_last:
            self._has_said_all = True
            lines += [line for line in [b"".join(self._rest)] if line]
            if not lines:
                raise self._ended()
        return lines

    def log(self, line: bytes) -> None:
        """Tell a line that is no answer."""
        self._tell(line_told(line[:LONGEST_PIECE]))
        self.tail.append(line[:LONGEST_KEPT].decode("utf-8", "replace").rstrip("\r\n"))

    def close(self) -> None:
        """End it, and wait until it has ended; safe to call twice, and from any thread."""
        self._conversation.close()

    def _cut(self, output: bytes) -> list[bytes]:
        """Give the lines that are whole now."""
        whole, end, rest = output.rpartition(b"\n")
        if not end:
            self._rest.append(rest)
            if sum(map(len, self._rest)) > LONGEST_LINE:
                raise PredictionFailedError(
                    f"the predictor {self._shown} failed: it wrote a line longer than {LONGEST_LINE} bytes"
                )
            return []
        lines = b"".join([*self._rest, whole]).split(b"\n")
        self._rest = [rest]
        return lines

    def _ended(self) -> EndedError | PredictionFailedError:
        if self._conversation.is_hung_up:
            return PredictionFailedError(f"the predictor {self._shown} was closed before it had answered")
        result = self._conversation.result()
        if result.out_of_memory:
            return EndedError("it ran out of memory", "give it more with --memory")
        hint = f"reprobuild shell {self._shown.partition('/')[0]} opens a shell in its image"
        return EndedError(f"it ended with exit code {result.exit_code}", hint, is_clean=not result.exit_code)


def _fill(predictor: Predictor, parameters: Mapping[str, Any], device: str) -> str:
    return fill_command(predictor, parameters, source="", destination="", device=device)


def _run(
    stack: ExitStack,
    target: Target,
    name: str,
    engine: Engine,
    command: Command,
    gate: Gate,
    dialogue: Dialogue,
    output: Callable[[bytes], None],
    ending: int,
) -> Result:
    with stack, engine.ground(target.layers) as ground:
        how = {"output": output, "dialogue": dialogue, "ending": ending}
        return target.run(name, engine, ground, command, gate, **how)
