"""Make a step's layer, or recall it: the one place where trees grow.

Knows nothing of recipes, locks or images; a derived step and the tree below it are enough. What was
made is remembered by a key of everything that decides it (DESIGN section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reprobuild.build import bytecode, configure, kinds
from reprobuild.build.place.files import store_files
from reprobuild.build.project import Project
from reprobuild.build.remembered import has_bodies, recall_layer, remember_layer
from reprobuild.build.run import RunSteps, tell_dropped
from reprobuild.build.written import NotThereError, WrittenSteps
from reprobuild.canonical import canonical_digest
from reprobuild.derivation.derive import ASSEMBLER, DerivedStep
from reprobuild.derivation.recipe import Recipe
from reprobuild.derivation.steps import Apt, Files, Run, Step, Wheels
from reprobuild.derivation.world import World
from reprobuild.derivation.written import Stage, Written
from reprobuild.digest import Digest
from reprobuild.events import OutputLine
from reprobuild.images.bytecode import without_stale
from reprobuild.store.store import Store
from reprobuild.tree import Entry, Layer, Tree, apply, difference, overlay


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
        self._folder = folder
        self._written = WrittenSteps(project.store, folder)
        self.runs = RunSteps(project, recipe, folder, self._written)
        """Runs the commands of its ``run`` steps."""

    @property
    def _store(self) -> Store:
        return self._project.store

    def recall(self, derived: DerivedStep, tree: Tree, world: World) -> Made | None:
        """Give what a step came to before, if everything of it is still in the store. No effects.

        ``world``: that of the steps before it.
        """
        step = derived.step
        if isinstance(step, Run):
            key = self.runs.key(derived, tree, world)
            layer = recall_layer(self._store, key)
            return None if layer is None else Made(layer, apply(tree, layer), True, (key,))
        if _is_installed(step):
            key = self._install_key(derived, tree)
            layer = recall_layer(self._store, key)
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
            compiled = recall_layer(self._store, key)
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
            layer = self.runs.make(derived, tree, world, below)
            return Made(layer, apply(tree, layer), False, (self.runs.key(derived, tree, world),))
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
            return derived.entries if has_bodies(self._store, derived.entries) else None
        layer = recall_layer(self._store, self._placement_key(derived, tree))
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
                remember_layer(group, key, "placement", layer, notes=list(placement.notes))
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
            if (recalled := recall_layer(self._store, key)) is not None:
                return recalled
            engine = self._project.engine
            with self._store.transaction() as group, engine.ground(layers) as ground:
                entries = bytecode.compile_batch(batch, self._store, engine, ground, group)
                layer = Layer(entries)
                remember_layer(group, key, "placement", layer)
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
            if (recalled := recall_layer(self._store, key)) is not None:
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
                remember_layer(group, key, "run", layer)
            tell_dropped(step, dropped, self._project.tell)
            return layer


def _is_installed(step: Step) -> bool:
    return isinstance(step, Apt) and step.configure
