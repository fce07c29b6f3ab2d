"""Pin a ``run`` step with ``network="recorded"``: run it, record what it fetches, replay that and compare.

Knows nothing of HTTP: ``gateway`` records and replays. Pins that do not give the same layer again are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reprobuild.build.check import compare_layers, difference_lines
from reprobuild.build.derive import derived_step
from reprobuild.build.refusals import allowing, demand_reached, tell_of_gate
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.recorded import LARGEST, is_given_again
from reprobuild.derivation.steps import Fetched, Run
from reprobuild.errors import BuildFailedError, CheckFailedError, RecipeError, RefusedFetchError
from reprobuild.events import Note, Tell
from reprobuild.lock.kinds import resolver
from reprobuild.lock.resolver import Context
from reprobuild.tree import Layer

STEADY = "make the command do the same each time: fixed versions, no times, no random names"


def resolve(step: Run, context: Context) -> tuple[Pin, ...]:
    """Give the exchanges of a step, whose bodies are in the store then.

    Raises BuildFailedError where its command fails, RefusedFetchError where it asks for what it may not
    have, UpstreamError where its servers cannot be reached, CheckFailedError where a replay does not give the
    same layer, and what resolving its answers raises.
    """
    from reprobuild.gateway.gate import recording

    growth = context.growth
    assert growth is not None
    answers = [answer(url, source, context) for url, source in step.answers.items()]
    gate = recording(
        context.store,
        context.settings,
        tell=context.tell,
        answers=answers,
        ports=step.ports,
        reset=step.refusal == "reset",
    )
    derived = derived_step(step, (), context.recipe_folder)
    layer = growth.assembler.runs.record(derived, growth.tree, growth.world, growth.layers, gate)
    known = {(pin.name, pin.sha256): pin.found for pin in answers}
    pins = tuple(replace(pin, found=known.get((pin.name, pin.sha256), pin.found)) for pin in gate.pins)
    what = f"{step.where}: {step.title}"
    if context.compared_with is not None:
        demand_reached(what, gate, context.compared_with)
        return pins
    mend = allowing(gate, "reprobuild lock NAME")
    tell_of_gate(what, gate, context.tell, strict=context.settings.strict_network, mend=mend)
    tell_of_record(what, pins, gate.notes, context.tell)
    _check_replay(step, what, pins, layer, context)
    return pins


def answer(url: str, source: Fetched, context: Context) -> Pin:
    """Give the exchange by which a source's one file answers a URL; the file is in the store then.

    Raises RecipeError for a source of several files, and what resolving it raises.
    """
    pins = resolver(source.kind).resolve(source, context)
    if len(pins) != 1:
        raise RecipeError(
            f"{source.where}: {source.title} has {len(pins)} files, and one is needed to answer {url}"
        )
    (pin,) = pins
    found = {**pin.found, "path": pin.name}
    headers = {"content-length": str(pin.size), "content-type": "application/octet-stream"}
    return Pin(f"GET {url}", pin.size, pin.sha256, {"status": 200, "headers": headers}, found)


def tell_of_record(what: str, pins: Sequence[Pin], notes: Sequence[str], tell: Tell) -> None:
    """Tell what a person should hear of what was recorded."""
    for note in notes:
        tell(Note(f"{what}: {note}"))
    for pin in pins:
        if pin.size > LARGEST and not is_given_again(pin):
            tell(
                Note(
                    f"{what}: {pin.name}: {pin.size:,} bytes that its server would not give again are too "
                    "many to keep beside the lock; keep them elsewhere: reprobuild export NAME --sources DIR"
                )
            )


def _check_replay(step: Run, what: str, pins: tuple[Pin, ...], recorded: Layer, context: Context) -> None:
    """Make the step from its pins alone, and compare. Raises CheckFailedError."""
    growth = context.growth
    assert growth is not None
    exchanges = "exchange" if len(pins) == 1 else "exchanges"
    context.tell(Note(f"{what}: {len(pins)} {exchanges} recorded, replaying them"))
    try:
        derived = derived_step(step, pins, context.recipe_folder)
        made = growth.assembler.make(derived, growth.tree, growth.world, growth.layers)
    except (RefusedFetchError, BuildFailedError) as error:
        raise CheckFailedError(
            f"{what}: it ran while its exchanges were recorded, and fails when they are replayed; nothing is "
            f"written\n{error.message}",
            STEADY,
        ) from error
    differences = list(compare_layers(step.title, context.store, recorded, context.store, made.layer))
    if differences:
        lines = "\n".join(difference_lines(differences))
        raise CheckFailedError(
            f"{what}: recorded and replayed at once, its layer is not the same; nothing is written\n{lines}",
            STEADY,
        )
