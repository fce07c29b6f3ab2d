"""An engine for tests that runs commands on the host itself, without any isolation.

Knows nothing of trees: the folders that a command should see inside are put into its text instead.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Predictor, predictor
from reprobuild.digest import Digest
from reprobuild.engine.lines import Lines
from reprobuild.engine.protocol import Capture, Command, Dialogue, Gateway, Gpu, Isolation, Result
from reprobuild.errors import EngineError
from reprobuild.gateway.refusal import Refusal
from reprobuild.predict.key import run_id
from reprobuild.predict.target import Target
from reprobuild.store.stack import Found

if TYPE_CHECKING:
    from reprobuild.engine.protocol import Ground
    from reprobuild.gateway.gate import Gate
    from reprobuild.tree import Layer

WORKDIR = "/app"


@dataclass
class HostEngine:
    """Counts its runs and keeps what they were given."""

    name: str = "host"
    commands: list[Command] = field(default_factory=list)
    inputs: list[bytes] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Those that were spoken with."""
    outcome: Mapping[str, Any] = field(default_factory=dict)
    """Replaces fields of each Result."""
    gate: HostGate = field(default_factory=lambda: HostGate())

    def probe(self) -> Isolation:
        return Isolation("host", False, "it isolates nothing")

    def gpu(self, number: str) -> Gpu:
        raise EngineError(f"there is no GPU {number} here")

    @contextlib.contextmanager
    def ground(self, layers: Sequence[Layer | Digest]) -> Iterator[Ground]:
        yield HostGround()

    def run(
        self,
        ground: Ground,
        command: Command,
        *,
        gateway: Gateway | None = None,
        capture: Capture | None = None,
        output: Callable[[bytes], None] | None = None,
        stdin: BinaryIO | None = None,
        dialogue: Dialogue | None = None,
        ending: int | None = None,
        hold: Callable[[], bool] | None = None,
    ) -> Result:
        if hold is not None and not hold():
            return Result(128 + signal.SIGKILL, 0.0)
        self.commands.append(command)
        if dialogue is not None:
            assert ending is not None
            return self._converse(command, dialogue, output, ending)
        text = command.argv[-1]
        for inside, outside in (*command.inputs.items(), *command.outputs.items()):
            text = text.replace(inside + "/", f"{outside}/")
            if inside in command.inputs:
                self.inputs.append((outside / "input.jsonl").read_bytes())
        began = time.perf_counter()
        printed, code = _run_to_its_end([*command.argv[:-1], text], command.env, ending)
        lines = printed.splitlines(keepends=True)
        for line in lines if output else ():
            assert output is not None
            output(line)
        tail = tuple(line.decode("utf-8", "replace").rstrip("\n") for line in lines[-100:])
        return Result(
            **{
                "exit_code": code,
                "seconds": time.perf_counter() - began,
                "tail": tail,
                **self.outcome,
            }
        )

    def _converse(
        self, command: Command, dialogue: Dialogue, output: Callable[[bytes], None] | None, ending: int
    ) -> Result:
        text = command.argv[-1]
        for inside, outside in command.inputs.items():
            text = text.replace(inside + "/", f"{outside}/")
        lines = Lines(*([output] if output else []))
        began = time.perf_counter()
        with dialogue.stdin:
            process = subprocess.Popen(
                [*command.argv[:-1], text],
                env={"PATH": "/usr/local/bin:/usr/bin:/bin", **command.env},
                stdin=dialogue.stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        self.processes.append(process)
        dialogue.begin(lambda _: None)
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            takers = {process.stdout.fileno(): dialogue.hear, process.stderr.fileno(): lines.feed}
            while takers:
                ready, _, _ = select.select([ending, *takers], [], [])
                if ending in ready:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    break
                for descriptor in ready:
                    data = os.read(descriptor, 1 << 16)
                    if data:
                        takers[descriptor](data)
                    else:
                        del takers[descriptor]
        lines.close()
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        seconds = time.perf_counter() - began
        return Result(**{"exit_code": code, "seconds": seconds, "tail": lines.tail, **self.outcome})


def _run_to_its_end(argv: Sequence[str], env: Mapping[str, str], ending: int | None) -> tuple[bytes, int]:
    """Give what a command printed, and its exit code."""
    printed = bytearray()
    with subprocess.Popen(
        argv,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.fileno()
        watched = [output] if ending is None else [output, ending]
        try:
            while True:
                ready, _, _ = select.select(watched, [], [], 60)
                if ready != [output]:
                    break
                if not (data := os.read(output, 1 << 16)):
                    return bytes(printed), process.wait()
                printed += data
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return bytes(printed), 128 - process.returncode


class HostGround:
    """A tree in which everything is there, as far as anyone asks: a program, or the folder to work in."""

    def look(self, path: str) -> Found:
        return Found(path, stat.S_IFDIR if path == WORKDIR else stat.S_IFREG | 0o755, "")


@dataclass
class HostGate:
    """A gateway that nothing reaches, and what it says that it refused."""

    refused: Sequence[Refusal] = ()
    unused: Sequence[Pin] = ()
    word: str = "predictor"


REVERSE = (
    'python3 -c "import json, sys\n'
    "with open(sys.argv[2], 'w') as out:\n"
    "    for line in open(sys.argv[1]):\n"
    "        print(json.dumps({'output': json.loads(line)['text'][::-1]}), file=out)"
    '" {input} {output}'
)


def reverser(scope: Any = "item", **more: Any) -> Predictor:
    """Make a predictor that reverses texts."""
    return predictor(REVERSE, **{"inputs": {"text": str}, "outputs": {"output": str}, "scope": scope, **more})


def make_target(folder: Path, engine: HostEngine, /, **predictors: Predictor) -> Target:
    """Make a target whose commands run on the host; ``default`` reverses texts unless given."""

    @contextlib.contextmanager
    def scratch(prefix: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as name:
            yield Path(name)

    layer = Digest.of(b"a layer")
    return Target(
        recipe="tutorial",
        input_hash=Digest.of(b"a derivation"),
        image_id=Digest.of(b"an image"),
        run_id=run_id([layer], {"A": "b"}, WORKDIR),
        env={"A": "b"},
        workdir=WORKDIR,
        predictors={"default": reverser(), **predictors},
        store=folder / "store",
        layers=[layer],
        engine=lambda: engine,
        scratch=scratch,
        gateway=lambda _: cast("Gate", engine.gate),
    )
