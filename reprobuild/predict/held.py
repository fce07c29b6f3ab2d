"""One run of a predictor's command, made ready before its records are there, and held back until they are.

Knows nothing of what outputs look like.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext, suppress
from typing import Any

from reprobuild.engine.protocol import Command, Dialogue, Engine, Ground, Result
from reprobuild.engine.ready import ready
from reprobuild.predict.conversation import Conversation
from reprobuild.predict.in_folder import INPUT, INSIDE, InFolder, takes_files
from reprobuild.predict.parameters import SEED, command_devices, fill_command, fresh_seed
from reprobuild.predict.target import Target
from reprobuild.predict.worker import Batch, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.gateway.gate import Gate

OUTPUT = "/out/output.jsonl"


class HeldRun:
    """A run that begins with ``go``, if ever; used by one thread, but for ``end``."""

    def __init__(
        self,
        target: Target,
        name: str,
        parameters: Mapping[str, Any],
        *,
        device: str,
        limits: Limits,
        output: Callable[[bytes], None],
        ahead: bool = False,
    ) -> None:
        """Begin to make it ready, in a thread; ``output`` gets each line that the command prints, there.

        ``ahead``: the tree is laid out in that thread, too, if that must be done; else first, here, where it
        can be interrupted. Raises what ``Engine.ground`` raises, and OutsideError where the disk refuses.
        """
        predictor = target.predictor(name)
        filled = dict(parameters)
        if predictor.random:
            filled.setdefault(SEED, fresh_seed())
        text = fill_command(predictor, filled, source=INPUT, destination=OUTPUT, device=device)
        engine = target.engine()
        self.engine = engine.name
        self.gate = target.gateway(predictor)
        with ExitStack() as stack:
            self.scratch = stack.enter_context(target.scratch("predict"))
            self._given = InFolder(self.scratch, has_files=takes_files(predictor))
            taken = self.scratch / "out"
            taken.mkdir(mode=0o755)
            self.output = taken / "output.jsonl"
            """Where its outputs are, when it has ended well."""
            command = Command(
                argv=("/bin/sh", "-c", text),
                env=target.env,
                workdir=target.workdir,
                inputs={INSIDE: self._given.path},
                outputs={"/out": taken},
                threads=predictor.threads,
                timeout=limits.timeout,
                memory=limits.memory,
                devices=command_devices(device),
            )
            ground = None if ahead else stack.enter_context(engine.ground(target.layers))
            # It holds on to nothing of this object, so that nobody holding that is its end.
            there = target, name, engine, ground, command, self.gate, output
            self._conversation = Conversation(functools.partial(_run, *there))
            self._stack = stack.pop_all()

    @property
    def is_usable(self) -> bool:
        """Whether it is, or will be, ready, and is this process's own."""
        return self._conversation.is_mine and not self._conversation.has_ended

    def go(self, batch: Batch) -> None:
        """Let it begin with a batch. Raises InputError where a file of the caller's has changed."""
        self._given.add_files(batch.files)
        self._given.add_records(batch.records)
        with suppress(ValueError):  # it was ended meanwhile, and ``result`` says so
            self._conversation.exchange(memoryview(b"\n"), None)

    def result(self) -> Result:
        """Give how it ended, once it has. Raises what the engine raises, and PredictionFailedError."""
        return self._conversation.result()

    def end(self) -> None:
        """End the command, begun or not, and wait until it has ended."""
        self._conversation.close()

    def close(self) -> None:
        """End it, and remove what it left."""
        self.end()
        if self._conversation.is_mine:
            self._stack.close()


def _run(
    target: Target,
    name: str,
    engine: Engine,
    ground: Ground | None,
    command: Command,
    gate: Gate,
    output: Callable[[bytes], None],
    dialogue: Dialogue,
    _: Callable[[bytes], None],
    ending: int,
) -> Result:
    def hold() -> bool:
        # The pipe that leads to a command which is spoken with carries the word to begin here.
        return ending not in ready(dialogue.stdin.fileno(), ending)

    with nullcontext(ground) if ground is not None else engine.ground(target.layers) as laid_out:
        return target.run(name, engine, laid_out, command, gate, output=output, ending=ending, hold=hold)
