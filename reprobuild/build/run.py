"""Runs the commands of ``run`` steps, or recalls what they changed: a function of the whole tree below.

Knows nothing of the steps before, but for the tree and the world that they make.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from reprobuild.build.accounts import Read, home_of
from reprobuild.build.capture import StoreCapture
from reprobuild.build.mounts import Mounted, mount_keys, mounted
from reprobuild.build.project import Project
from reprobuild.build.refusals import allowing, refused_error, tell_of_gate, unreached_error
from reprobuild.build.remembered import recall_layer, remember_layer
from reprobuild.build.written import WrittenSteps
from reprobuild.canonical import canonical_digest
from reprobuild.derivation.derive import ASSEMBLER, DerivedStep
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.recipe import Recipe
from reprobuild.derivation.steps import Run, Step
from reprobuild.derivation.world import World
from reprobuild.digest import Digest
from reprobuild.engine.program import obstacle
from reprobuild.engine.protocol import Command, Result, thread_environment
from reprobuild.errors import BuildFailedError
from reprobuild.events import Note, OutputLine, Tell
from reprobuild.images.normal_form import Dropped
from reprobuild.store.store import Store
from reprobuild.store.transaction import Transaction
from reprobuild.tree import Layer, Tree, difference

if TYPE_CHECKING:
    from reprobuild.gateway.gate import Gate

SHOWN_LINES = 30
"""Lines of a failed command's output that its error shows."""


class RunSteps:
    """Runs the commands of an image's ``run`` steps."""

    def __init__(self, project: Project, recipe: Recipe, folder: Path, written: WrittenSteps) -> None:
        """``written``: keeps the trees of the stages that commands may see."""
        self._project = project
        self._recipe = recipe.name
        self._sets = recipe.sets
        self._steps = recipe.image.steps
        self._folder = folder
        self._written = written

    @property
    def _store(self) -> Store:
        return self._project.store

    def key(self, derived: DerivedStep, tree: Tree, world: World) -> Digest:
        """Give the key of what a command changes: the whole tree below, and all else that it sees."""
        return canonical_digest(
            {
                "run": ASSEMBLER,
                "tree": str(tree.digest),
                "step": dict(derived.value),
                "env": dict(world.env),
                "workdir": world.workdir,
                **self._dockerfile_key(derived, tree, world),
            }
        )

    def _dockerfile_key(self, derived: DerivedStep, tree: Tree, world: World) -> dict[str, Json]:
        """Give what a command of a Dockerfile sees beside what every command does."""
        step, stated = derived.step, world.dockerfile
        if not isinstance(step, Run) or not step.setting:
            return {"user": stated.user} if stated.user else {}
        return {
            "workdir": stated.workdir,
            "variables": dict(stated.variables),
            "user": stated.user,
            "shell": list(stated.shell) if step.shell else [],
            "mounts": mount_keys(derived, tree, stated, self._written),
        }

    def make(self, derived: DerivedStep, tree: Tree, world: World, below: Sequence[Layer]) -> Layer:
        """Run a step's command, or recall what it changed. Raises as ``Assembler.make`` does."""
        step = derived.step
        assert isinstance(step, Run)
        key = self.key(derived, tree, world)
        with self._store.lock(f"make-{key.hex}"):
            if (recalled := recall_layer(self._store, key)) is not None:
                return recalled
            gate = self._gate(derived)
            with self._store.transaction() as group:
                layer, seconds = self._execute(derived, tree, world, below, gate, group)
                tell_of_gate(
                    self._name_of(step),
                    gate,
                    self._project.tell,
                    strict=self._project.settings.strict_network,
                )
                remember_layer(group, key, "run", layer, seconds=round(seconds, 3))
            return layer

    def _gate(self, derived: DerivedStep) -> Gate:
        """Give what answers on the network of a step: what was recorded of it, or nothing."""
        from reprobuild.gateway.gate import refusing, replaying

        step = derived.step
        assert isinstance(step, Run)
        reset = step.refusal == "reset"
        if step.network:
            return replaying(self._store, derived.pins, ports=step.ports, reset=reset)
        return refusing(self._store, reset=reset)

    def record(
        self, derived: DerivedStep, tree: Tree, world: World, below: Sequence[Layer], gate: Gate
    ) -> Layer:
        """Run a step's command with a gateway that records; give the layer, of which nothing is remembered.

        Raises BuildFailedError and RefusedFetchError where the command fails, EngineError.
        """
        with self._store.transaction() as group:
            layer, _ = self._execute(derived, tree, world, below, gate, group, is_recording=True)
            group.add_bytes(layer.listing)
        return layer

    def _execute(
        self,
        derived: DerivedStep,
        tree: Tree,
        world: World,
        below: Sequence[Layer],
        gate: Gate,
        group: Transaction,
        *,
        is_recording: bool = False,
    ) -> tuple[Layer, float]:
        """Run a command; give what it changed, whose bodies are in the group then, and its seconds."""
        step = derived.step
        assert isinstance(step, Run)
        engine = self._project.engine
        with engine.ground(below) as ground, ExitStack() as stack:
            home = home_variable(world, tree, self._store.blobs.read)
            mounts = stack.enter_context(
                mounted(derived, tree, world.dockerfile, self._written, self._store, self._folder)
            )
            command = run_command(step, world, home, mounts)
            if problem := obstacle(ground, command):
                raise BuildFailedError(
                    f"{self._name_of(step)}: {problem} in the tree before this step",
                    'put a step that brings it before this one, such as apt("bookworm", "dash")',
                )
            capture = StoreCapture(group, authority=gate.certificate)
            result = engine.run(
                ground,
                command,
                gateway=gate,
                capture=capture,
                output=lambda line: self._project.tell(OutputLine(line.decode(errors="replace"))),
            )
        self._check(step, result, gate, is_recording=is_recording)
        normal = capture.normal_form(tree, owners=step.owners)
        tell_dropped(step, normal.dropped, self._project.tell)
        return difference(tree, normal.tree), result.seconds

    def _check(self, step: Run, result: Result, gate: Gate, *, is_recording: bool) -> None:
        """Raise where a command failed: for what it was refused, or else for how it ended."""
        if result.exit_code == 0:
            return
        shown = "\n".join(f"  {line}" for line in result.tail[-SHOWN_LINES:])
        how = (
            "was stopped for its memory"
            if result.out_of_memory
            else f"ended with exit code {result.exit_code}"
        )
        if gate.unreached and not gate.refused:
            raise unreached_error(self._name_of(step), gate.unreached, f"the command {how}:\n{shown}")
        shown = "\n".join([shown, *(f"  {note}" for note in gate.notes)])
        if gate.refused:
            lock = f"reprobuild lock {self._recipe}{self._sets}"
            mend = allowing(gate, lock) if is_recording else ""
            if step.network and not is_recording:
                again = f"{lock} --update {shlex.quote(step.which)}"
                mend = f"if it has to fetch that, record it anew: {again}"
            raise refused_error(self._name_of(step), gate, f"the command {how}:\n{shown}", mend)
        number = self._steps.index(step) + 1
        raise BuildFailedError(
            f"{self._name_of(step)}: {how}\n{shown}".rstrip(),
            f"look around in the tree before it: reprobuild shell {self._recipe}{self._sets} --at {number}",
        )

    def _name_of(self, step: Run) -> str:
        return f"{self._recipe}: {step.where}: {step.title}"


def run_command(step: Run, world: World, home: Mapping[str, str], mounts: Mounted | None = None) -> Command:
    """Give the command of a ``run`` step in the world of the steps before it.

    ``home``: as ``home_variable`` gives it; ``mounts``: what it sees beside the tree.
    """
    stated = world.dockerfile
    argv, workdir, variables = step.command, step.workdir or world.workdir, world.env
    if step.setting:
        workdir, variables = stated.workdir, {**world.env, **stated.variables, **world.own}
    if step.shell and stated.shell:
        argv = (*stated.shell, argv[-1])
    return Command(
        argv=argv,
        env={**home, **variables, **thread_environment(step.threads), **step.env},
        workdir=workdir,
        inputs=mounts.inputs if mounts is not None else {},
        empty=mounts.empty if mounts is not None else (),
        threads=step.threads,
        owners=step.owners,
    )


def home_variable(world: World, tree: Tree, read: Read) -> dict[str, str]:
    """Give ``HOME`` where a Dockerfile's ``USER`` is not root: as ``/etc/passwd`` has it."""
    user = world.dockerfile.user
    return {"HOME": home_of(user, tree, read)} if user else {}


def tell_dropped(step: Step, dropped: Sequence[Dropped], tell: Tell) -> None:
    """Tell which files of what a step made are not kept, and why."""
    for one in dropped:
        tell(Note(f"{step.title}: /{one.path} is not kept: {one.reason}"))
