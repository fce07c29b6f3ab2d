"""Pin what a predictor with ``network="recorded"`` fetches: run its examples, record, replay, compare.

Knows nothing of HTTP nor of the examples' own outputs, which ``test`` compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reprobuild.build.project import Project
from reprobuild.build.refusals import demand_reached, unreached_error
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictors import Json, Predictor
from reprobuild.derivation.recipe import Recipe
from reprobuild.derivation.recorded import PREDICTOR, predictor_key
from reprobuild.digest import Digest
from reprobuild.engine.protocol import ENVIRONMENT
from reprobuild.errors import CheckFailedError, PredictionFailedError, RefusedFetchError
from reprobuild.lock.run import STEADY, tell_of_record
from reprobuild.predict.call import Options
from reprobuild.predict.key import run_id
from reprobuild.predict.model import Model
from reprobuild.predict.parameters import SEED
from reprobuild.predict.target import Target

if TYPE_CHECKING:
    from reprobuild.build.realize import Growth
    from reprobuild.gateway.gate import Gate


def resolve(
    project: Project,
    recipe: Recipe,
    folder: Path,
    growth: Growth,
    name: str,
    compared_with: Sequence[Pin] | None = None,
) -> tuple[Pin, ...]:
    """Give the exchanges of a predictor's examples, whose bodies are in the store then.

    ``growth``: the whole image; ``compared_with``: what is locked, where they are only compared with it.
    Raises PredictionFailedError where an example fails, UpstreamError where it cannot reach its servers,
    RefusedFetchError, CheckFailedError where a replay gives other outputs.
    """
    from reprobuild.gateway.gate import recording, replaying

    predictor = recipe.image.predictors[name]
    what = f"predictor {recipe.name}/{name}"
    reset = predictor.refusal == "reset"
    gates: list[Gate] = []

    def record(_: Predictor) -> Gate:
        gates.append(
            recording(project.store, project.settings, tell=project.tell, reset=reset, word=PREDICTOR)
        )
        return gates[-1]

    try:
        recorded = _outputs(_target(project, recipe, growth, name, record), name, folder, project)
    except PredictionFailedError as error:
        if gates and gates[-1].unreached:
            raise unreached_error(what, gates[-1].unreached, error.message) from error
        raise
    pins = merged(gate.pins for gate in gates)
    if compared_with is not None:
        for gate in gates:
            demand_reached(what, gate, compared_with)
        return pins
    notes = dict.fromkeys(note for gate in gates for note in gate.notes)
    tell_of_record(what, pins, tuple(notes), project.tell)

    def replay(_: Predictor) -> Gate:
        return replaying(project.store, pins, reset=reset, word=PREDICTOR)

    try:
        replayed = _outputs(_target(project, recipe, growth, name, replay), name, folder, project)
    except (RefusedFetchError, PredictionFailedError) as error:
        raise CheckFailedError(
            f"{what}: its examples ran while their exchanges were recorded, and fail when they are replayed; "
            f"nothing is written\n{error.message}",
            STEADY,
        ) from error
    for index, (one, other) in enumerate(zip(recorded, replayed, strict=True), start=1):
        if one != other:
            raise CheckFailedError(
                f"{what}: recorded and replayed at once, example {index} does not give the same; nothing is "
                f"written\n  recorded {ascii(one)[:500]}\n  replayed {ascii(other)[:500]}",
                STEADY,
            )
    return pins


def merged(recorded: Iterable[Sequence[Pin]]) -> tuple[Pin, ...]:
    """Give the exchanges of several runs as those of one: what they share stands once.

    A request that was answered otherwise in a later run has its answers in turn.
    """
    found: dict[str, list[Pin]] = {}
    for pins in recorded:
        for pin in pins:
            turns = found.setdefault(f"{pin.name} {sorted(pin.hashed.get('request', {}).items())}", [])
            if pin not in turns:
                turns.append(pin)
    flat = [pin for turns in found.values() for pin in turns]
    return tuple(sorted(flat, key=lambda pin: pin.name.partition(" ")[::-1]))


def _outputs(target: Target, name: str, folder: Path, project: Project) -> list[list[Json]]:
    predictor = target.predictor(name)
    found = []
    for example in predictor.examples:
        seeded = {SEED: 0, **example.parameters} if predictor.random else dict(example.parameters)
        # What lives on has its exchanges recorded when it has ended.
        with Model(target, name, Options(cache="off"), tell=project.tell, folder=folder) as model:
            found.append(model.predict_batch([given for given, _ in example.items], **seeded))
    return found


def _target(
    project: Project, recipe: Recipe, growth: Growth, name: str, gateway: Callable[[Predictor], Gate]
) -> Target:
    """Give the image that is not written yet, as far as running a predictor needs it."""
    store, layers, world = project.store, list(growth.layers), growth.world
    predictor = recipe.image.predictors[name]
    key = Digest.of(predictor_key(name, predictor, project.platform).encode())
    env = {**ENVIRONMENT, **world.env}
    return Target(
        recipe=recipe.name,
        input_hash=key,
        image_id=key,
        run_id=run_id([layer.digest for layer in layers], env, world.workdir),
        env=env,
        workdir=world.workdir,
        predictors={name: predictor},
        store=store.root,
        layers=layers,
        engine=lambda: project.engine,
        scratch=store.scratch,
        gateway=gateway,
        strict_network=project.settings.strict_network,
    )
