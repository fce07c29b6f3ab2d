"""Make a step's layer, or recall it: the one place where trees grow.

Knows nothing of recipes, locks or images; a derived step and the tree below it are enough. What was
made is remembered by a key of everything that decides it (DESIGN section 5).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reprobuild.build import bytecode, configure, kinds
from reprobuild.build.accounts import Read, home_of
from reprobuild.build.capture import StoreCapture
from reprobuild.build.mounts import Mounted, mount_keys, mounted
from reprobuild.build.place.files import store_files
from reprobuild.build.project import Project
from reprobuild.build.refusals import allowing, refused_error, tell_of_gate, unreached_error
from reprobuild.build.written import NotThereError, WrittenSteps
from reprobuild.canonical import canonical_digest
from reprobuild.derivation.derive import ASSEMBLER, DerivedStep
from reprobuild.derivation.predictors import Json
from reprobuild.derivation.recipe import Recipe
from reprobuild.derivation.steps import Apt, Files, Run, Step, Wheels
from reprobuild.derivation.world import World
from reprobuild.derivation.written import Stage, Written
from reprobuild.digest import Digest
from reprobuild.engine.program import obstacle
from reprobuild.engine.protocol import Command, Result, thread_environment
from reprobuild.errors import BuildFailedError
from reprobuild.events import Note, OutputLine
from reprobuild.images.bytecode import without_stale
from reprobuild.images.normal_form import Dropped
from reprobuild.store.store import Store
from reprobuild.store.transaction import Transaction
from reprobuild.tree import Entry, Layer, Tree, apply, difference, overlay

if TYPE_CHECKING:
    from reprobuild.gateway.gate import Gate

SHOWN_LINES = 30
"""Lines of a failed command's output that its error shows."""


@dataclass(frozen=True, slots=True)
class Made:
    """A step's layer and the tree that it makes."""

    layer: Layer
    tree: Tree
    is_reused: bool
    records: tuple[Digest, ...] = ()
    """Keys of what is remembered of it."""


class Assembler:
    """Makes the steps of an image, one on another."""

    def __init__(self, project: Project, recipe: Recipe, folder: Path) -> None:
        self._project = project
        self._recipe = recipe.name
        self._sets = recipe.sets
        self._steps = recipe.image.steps
        self._folder = folder
        self._written = WrittenSteps(project.store, folder)

    @property
    def _store(self) -> Store:
        return self._project.store

    def recall(self, derived: DerivedStep, tree: Tree, world: World) -> Made | None:
        """Give what a step came to before, if everything of it is still in the store. No effects.

        ``world``: that of the steps before it.
        """
        step = derived.step
        if isinstance(step, Run):
            key = self._run_key(derived, tree, world)
            layer = self._recall_layer(key)
            return None if layer is None else Made(layer, apply(tree, layer), True, (key,))
        if _is_installed(step):
            key = self._install_key(derived, tree)
            layer = self._recall_layer(key)
            return None if layer is None else Made(layer, apply(tree, layer), True, (key,))
        if isinstance(step, Written):
            try:
                return self._made(step, tree, *self._written.recall(derived, tree, world), is_reused=True)
            except NotThereError:
                return None
        built = self._built(derived, tree, None)
        entries = None if built is None else self._recall_placed(built[0], tree)
        if built is None or entries is None:
            return None
        derived = built[0]
        placed = without_stale(tree, overlay(tree, entries))
        records = [*built[1], *self._placement_records(derived, tree)]
        for batch in self._to_compile(derived, placed, entries):
            key = self._bytecode_key(batch)
            compiled = self._recall_layer(key)
            if compiled is None:
                return None
            placed = overlay(placed, compiled.entries)
            records.append(key)
        return Made(difference(tree, placed), placed, True, tuple(records))

    def make(self, derived: DerivedStep, tree: Tree, world: World, below: Sequence[Layer]) -> Made:
        """Make a step's layer on a tree, which the layers ``below`` make, in the world before it.

        Everything that the step pins is in the store. Raises BuildFailedError, RefusedFetchError,
        CheckFailedError for pinned bytes that are not what they should be, EngineError.
        """
        step = derived.step
        if isinstance(step, Run):
            key = self._run_key(derived, tree, world)
            layer = self._run(derived, tree, world, below)
            return Made(layer, apply(tree, layer), False, (key,))
        if _is_installed(step):
            layer = self._install(derived, tree, below)
            return Made(layer, apply(tree, layer), False, (self._install_key(derived, tree),))
        if isinstance(step, Written):
            return self._made(step, tree, *self._written.make(derived, tree, world), is_reused=False)
        built = self._built(derived, tree, below)
        assert built is not None
        derived = built[0]
        entries = self._place(derived, tree)
        placed = without_stale(tree, overlay(tree, entries))
        records = [*built[1], *self._placement_records(derived, tree)]
        for batch in self._to_compile(derived, placed, entries):
            records.append(self._bytecode_key(batch))
            # The tree below will do where it has the interpreter: it is laid out for other steps anyway.
            layers = below if batch.runs_on(tree) else [*below, difference(tree, placed)]
            placed = overlay(placed, self._compile(batch, layers).entries)
        return Made(difference(tree, placed), placed, False, tuple(records))

    def _made(
        self, step: Step, tree: Tree, grown: Tree, records: Sequence[Digest], *, is_reused: bool
    ) -> Made:
        """Give what a step of a Dockerfile made: a stage's end changes nothing, another tree begins."""
        layer = Layer(()) if isinstance(step, Stage) else difference(tree, grown)
        return Made(layer, grown, is_reused, tuple(records))

    # Placing: a function of the pins and a few facts of the tree below.

    def _placement_key(self, derived: DerivedStep, tree: Tree) -> Digest:
        facts = kinds.placer(derived.step.kind).facts(derived.step, tree, self._store)
        return canonical_digest({"placement": ASSEMBLER, "step": dict(derived.value), "facts": facts})

    def _placement_records(self, derived: DerivedStep, tree: Tree) -> list[Digest]:
        return [] if isinstance(derived.step, Files) else [self._placement_key(derived, tree)]

    def _recall_placed(self, derived: DerivedStep, tree: Tree) -> tuple[Entry, ...] | None:
        if isinstance(derived.step, Files):
            return derived.entries if self._has_bodies(derived.entries) else None
        layer = self._recall_layer(self._placement_key(derived, tree))
        return None if layer is None else layer.entries

    def _place(self, derived: DerivedStep, tree: Tree) -> tuple[Entry, ...]:
        if isinstance(derived.step, Files):
            with self._store.transaction() as group:
                store_files(derived.step, self._folder, derived.entries, group)
            return derived.entries
        key = self._placement_key(derived, tree)
        with self._store.lock(f"make-{key.hex}"):
            if (recalled := self._recall_placed(derived, tree)) is not None:
                return recalled
            placer = kinds.placer(derived.step.kind)
            facts = placer.facts(derived.step, tree, self._store)
            with self._store.transaction() as group:
                placement = placer.place(derived.step, derived.pins, facts, self._store, group)
                layer = Layer(placement.entries)
                self._remember(group, key, "placement", layer, {"notes": list(placement.notes)})
            return layer.entries

    # Source archives: built into wheels, which are then placed like others.

    def _built(
        self, derived: DerivedStep, tree: Tree, below: Sequence[Layer] | None
    ) -> tuple[DerivedStep, tuple[Digest, ...]] | None:
        """Give a step with wheels in place of archives, and the keys of what was built.

        ``below``: layers that make the tree; None: nothing is built, and None comes back where it would be.
        """
        step = derived.step
        if not isinstance(step, Wheels) or not step.build:
            return derived, ()
        from reprobuild.build import wheel_build
        from reprobuild.build.place.python import find_python

        where = str(step.where)
        pins = [pin for pin in derived.pins if wheel_build.is_placed(pin)]
        builds = wheel_build.source_builds(derived.pins, find_python(tree, step.python, where), where)
        for build in builds:
            made = wheel_build.recall_wheel(build, self._project, tree)
            if made is None and below is None:
                return None
            pins.append(made or wheel_build.make_wheel(build, self._project, tree, below or ()))
        pins.sort(key=lambda pin: pin.name)
        value = {**derived.value, "pins": [pin.content for pin in pins]}
        return replace(derived, pins=tuple(pins), value=value), tuple(build.key(tree) for build in builds)

    # Byte code: made by the image's own Python.

    def _to_compile(
        self, derived: DerivedStep, tree: Tree, entries: Sequence[Entry]
    ) -> tuple[bytecode.Batch, ...]:
        return bytecode.batches(tree, entries) if isinstance(derived.step, Apt | Wheels) else ()

    def _bytecode_key(self, batch: bytecode.Batch) -> Digest:
        return canonical_digest({"bytecode": ASSEMBLER, **batch.key})

    def _compile(self, batch: bytecode.Batch, layers: Sequence[Layer]) -> Layer:
        key = self._bytecode_key(batch)
        with self._store.lock(f"make-{key.hex}"):
            if (recalled := self._recall_layer(key)) is not None:
                return recalled
            with self._store.transaction() as group, self._store.checkouts.lay_out(layers) as checkout:
                entries = bytecode.compile_batch(batch, self._store, self._project.engine, checkout, group)
                layer = Layer(entries)
                self._remember(group, key, "placement", layer, {})
            return layer

    # Installing: what the tree's own dpkg does, a function of the packages and the whole tree below.

    def _install_key(self, derived: DerivedStep, tree: Tree) -> Digest:
        value = {"install": ASSEMBLER, "tree": str(tree.digest), "step": dict(derived.value)}
        return canonical_digest({**value, "script": Digest.of(configure.SCRIPT.encode()).hex})

    def _install(self, derived: DerivedStep, tree: Tree, below: Sequence[Layer]) -> Layer:
        step = derived.step
        assert isinstance(step, Apt)
        key = self._install_key(derived, tree)
        with self._store.lock(f"make-{key.hex}"):
            if (recalled := self._recall_layer(key)) is not None:
                return recalled
            with self._store.transaction() as group:
                layer, dropped = configure.install(
                    step,
                    derived.pins,
                    tree,
                    below,
                    what=f"{self._recipe}: {step.where}: {step.title}",
                    store=self._store,
                    engine=self._project.engine,
                    group=group,
                    output=lambda line: self._project.tell(OutputLine(line.decode(errors="replace"))),
                )
                self._remember(group, key, "run", layer, {})
            self._tell_dropped(step, dropped)
            return layer

    # Running: a function of the whole tree below and the command.

    def _run_key(self, derived: DerivedStep, tree: Tree, world: World) -> Digest:
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

    def _run(self, derived: DerivedStep, tree: Tree, world: World, below: Sequence[Layer]) -> Layer:
        step = derived.step
        assert isinstance(step, Run)
        key = self._run_key(derived, tree, world)
        with self._store.lock(f"make-{key.hex}"):
            if (recalled := self._recall_layer(key)) is not None:
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
                self._remember(group, key, "run", layer, {"seconds": round(seconds, 3)})
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
        with self._store.checkouts.lay_out(below) as checkout, ExitStack() as stack:
            home = home_variable(world, tree, self._store.blobs.read)
            mounts = stack.enter_context(
                mounted(derived, tree, world.dockerfile, self._written, self._store, self._folder)
            )
            command = run_command(step, world, home, mounts)
            if problem := obstacle(checkout, command):
                raise BuildFailedError(
                    f"{self._name_of(step)}: {problem} in the tree before this step",
                    'put a step that brings it before this one, such as apt("bookworm", "dash")',
                )
            capture = StoreCapture(group, authority=gate.certificate)
            result = self._project.engine.run(
                checkout,
                command,
                gateway=gate,
                capture=capture,
                output=lambda line: self._project.tell(OutputLine(line.decode(errors="replace"))),
            )
        self._check(step, result, gate, is_recording=is_recording)
        normal = capture.normal_form(tree, owners=step.owners)
        self._tell_dropped(step, normal.dropped)
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

    def _tell_dropped(self, step: Step, dropped: Sequence[Dropped]) -> None:
        for one in dropped:
            self._project.tell(Note(f"{step.title}: /{one.path} is not kept: {one.reason}"))

    # What is remembered.

    def _recall_layer(self, key: Digest) -> Layer | None:
        record = self._store.realisations.get(key)
        if record is None:
            return None
        listing = Digest.parse(record["layer"])
        if not self._store.blobs.has(listing):
            return None
        layer = Layer.parse(self._store.blobs.read(listing))
        return layer if self._has_bodies(layer.entries) else None

    def _has_bodies(self, entries: Sequence[Entry]) -> bool:
        has = self._store.blobs.has
        return all(entry.digest is None or has(entry.digest) for entry in entries)

    def _remember(
        self, group: Transaction, key: Digest, kind: str, layer: Layer, more: Mapping[str, Json]
    ) -> None:
        listing = group.add_bytes(layer.listing)
        group.record(key, {"kind": kind, "layer": str(listing), "blobs": [str(listing)], **more})


def _is_installed(step: Step) -> bool:
    return isinstance(step, Apt) and step.configure


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
