"""Take a derivation's image from where somebody has put it, instead of building it.

A substituter is asked for the derivation's tag; what it gives counts only if it is what the lock says that
the derivation comes to: image ID and every ``diff_id``. So nobody need be trusted. Whatever is wrong is told,
and the image is built. Knows nothing of building.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from reprobuild.build.derive import Derived
from reprobuild.build.image import (
    PULLED,
    Realised,
    image_from_record,
    image_record,
    name_of,
    pulled_key,
    recall_image,
    with_status,
)
from reprobuild.build.plan import Plan, PlannedPull, PlannedStep, make_plan, missing_exchanges
from reprobuild.build.project import Project
from reprobuild.canonical import canonical
from reprobuild.derivation.image_reference import DOCKER_HUB, RegistryReference, read_reference
from reprobuild.derivation.lockfile import Output
from reprobuild.derivation.predictor_codec import predictors_to_json
from reprobuild.derivation.predictors import Json
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, OfflineError, RecipeError, UpstreamError, UsageError
from reprobuild.events import Note, StepFinished, StepStarted, Warned
from reprobuild.images.image import Config, LayerReference
from reprobuild.value import Value, replace

if TYPE_CHECKING:
    from reprobuild.build.carrier import Carrier
    from reprobuild.build.published import Announced, Published
    from reprobuild.store.transaction import Transaction

BUILT_INSTEAD = "it is built instead"
ASKED = 1
"""Times that a substituter is asked before it counts as silent: building does without."""
NOT_FOR_ALL = (401, 403)
"""What registries answer for a repository that is not there, or not for whoever asks."""


class Offer(Value):
    """An image that a substituter has, and that is the lock's by its ID."""

    published: Published
    carrier: Carrier


class Kept(Value):
    """An image that is in the store already, of nobody's recipe so far, and that is the lock's by its ID."""

    realised: Realised
    config: Config


@contextmanager
def offered(project: Project, derived: Derived) -> Iterator[Offer | Kept | None]:
    """Give where the derivation's image is, if it is somewhere: in the store, or with a substituter.

    Asks nobody where the lock does not say what would have to come. Raises UsageError for a substituter that
    is no namespace of a registry.
    """
    name = f"{derived.recipe.name}:{derived.tag.rpartition(':')[2]}"
    references = references_to(project, name)
    if project.settings.offline:
        references = []
    output = derived.output
    if output is None:
        if references:
            name = f"{derived.recipe.name}{derived.recipe.sets}"
            problem = "recipe.lock does not say what it comes to, so nothing could be checked"
            hint = f"reprobuild lock {name} writes that down"
            project.tell(Warned(f"{name} is not pulled: {problem}", hint))
        yield None
    elif (kept := _kept(project, derived, output)) is not None:
        yield kept
    else:
        with ExitStack() as stack:
            found = (_ask(project, reference, derived, output, stack) for reference in references)
            yield next((one for one in found if one is not None), None)


def take(project: Project, derived: Derived, offer: Offer | Kept) -> Realised | None:
    """Record what is offered as the derivation's, brought into the store if need be.

    None where it is not what it was to be.
    """
    started = time.monotonic()
    try:
        found = _adopt(project, derived, offer) if isinstance(offer, Kept) else _pull(project, derived, offer)
    except (UpstreamError, OfflineError, CheckFailedError, RecipeError) as error:
        project.tell(Warned(error.message, BUILT_INSTEAD))
        return None
    return replace(found, seconds=round(time.monotonic() - started, 3))


def plan(project: Project, derived: Derived) -> Plan:
    """Say what realizing a derivation would do: pull it, or build what is missing of it."""
    if recall_image(project.store, derived.derivation.input_hash) is None:
        with offered(project, derived) as offer:
            if offer is not None:
                return _plan_of(project, derived, offer)
    return make_plan(project, derived)


def _plan_of(project: Project, derived: Derived, offer: Offer | Kept) -> Plan:
    pull = None
    if isinstance(offer, Offer):
        from reprobuild.build.pulled_layers import missing_layers

        missing = missing_layers(project.store, offer.published)
        pull = PlannedPull(offer.published.where, len(missing), sum(one.size for one in missing))
    return Plan(
        derived.recipe.name,
        derived.tag,
        derived.derivation.input_hash,
        tuple(PlannedStep(one.step.title, "reuse" if pull is None else "pull") for one in derived.steps),
        tuple(missing_exchanges(project, derived)),
        pull=pull,
    )


def _kept(project: Project, derived: Derived, output: Output) -> Kept | None:
    """Give an image that was pulled or imported by its tag alone, if the lock confirms it."""
    store = project.store
    found = recall_image(store, pulled_key(output.image_id, derived.derivation.input_hash))
    if found is None:
        return None
    try:
        config = Config.parse(store.blobs.read(found.image_id))
        _check_config(config, found.tag, derived, output)
    except CheckFailedError as error:
        project.tell(Warned(f"{found.tag} ({found.isolation}): {error.message}", BUILT_INSTEAD))
        return None
    return Kept(found, config)


def references_to(project: Project, name: str) -> list[RegistryReference]:
    """Give where substituters would have an image, ``tutorial:1.0-0123456789ab``, in their order.

    None for a name that no registry takes, with capitals for one. Raises UsageError for a substituter that is
    no namespace of a registry.
    """
    return references_at(project.settings.substituters, name)


def references_at(namespaces: Sequence[str], name: str) -> list[RegistryReference]:
    """Give where namespaces of registries would have an image; see ``references_to``."""
    namespaces = [text.rstrip("/") for text in namespaces]
    for text in namespaces:
        _check_namespace(text)
    try:
        found = [read_reference(f"{text}/{name}") for text in namespaces]
    except ValueError:
        return []
    return [one for one in found if isinstance(one, RegistryReference)]


def _check_namespace(text: str) -> None:
    hint = 'write a registry and a namespace: substituters = ["docker.io/user"]'
    try:
        found = read_reference(f"{text}/name:tag")
    except ValueError as error:
        raise UsageError(f"the substituter {text!r}: {error}", hint) from None
    if not isinstance(found, RegistryReference) or (
        found.registry == DOCKER_HUB and found.repository.startswith("library/")
    ):
        raise UsageError(f"the substituter {text!r} is no namespace of a registry", hint)


def _ask(
    project: Project, reference: RegistryReference, derived: Derived, output: Output, stack: ExitStack
) -> Offer | None:
    """Ask one substituter; say what is wrong with what it has."""
    from reprobuild.build.carrier import RegistryCarrier
    from reprobuild.build.published import announced, read_published
    from reprobuild.fetch.registry_refusal import RegistryError
    from reprobuild.registry.repository import Repository

    if reference.registry in project.silent:
        return None
    repository = stack.enter_context(Repository(reference, project.settings, tell=project.tell))
    carrier = RegistryCarrier(repository, project.settings)
    try:
        found = announced(carrier, reference.tag, str(reference), attempts=ASKED)
        if found is None:
            return None
        _check_identity(found, output)
        published = read_published(carrier, found)
        _check_config(published.config, published.where, derived, output)
    except RegistryError as error:
        if error.status in NOT_FOR_ALL:
            project.tell(Note(f"{reference.name} is not there, or not for whoever asks: {error.message}"))
        else:
            _tell_silent(project, reference, error)
        return None
    except (UpstreamError, OfflineError) as error:
        _tell_silent(project, reference, error)
        return None
    except (CheckFailedError, RecipeError) as error:
        project.tell(Warned(error.message, BUILT_INSTEAD))
        return None
    return Offer(published, carrier)


def _tell_silent(project: Project, reference: RegistryReference, error: UpstreamError | OfflineError) -> None:
    """Say that a substituter does not answer, and ask its registry no more in this run."""
    project.silent.add(reference.registry)
    project.tell(
        Warned(
            f"the substituter {reference.registry} does not answer: {error.message}",
            "images are built without it; --offline asks no substituter",
        )
    )


def _check_identity(found: Announced, output: Output) -> None:
    if found.image_id != output.image_id:
        raise CheckFailedError(
            f"{found.where} is another image than recipe.lock says\n"
            f"  expected  {output.image_id}\n  got       {found.image_id}"
        )


def _check_config(config: Config, where: str, derived: Derived, output: Output) -> None:
    """See that the image that the lock names is one of this recipe.

    That it is the one which the lock names its digest says; a lock that was edited may name any.
    """
    if config.diff_ids != tuple(layer.diff_id for layer in output.layers):
        raise CheckFailedError(f"{where} has other layers than recipe.lock says")
    world = derived.world
    own: dict[str, Json] = {
        "platform": derived.platform,
        "work folder": world.workdir,
        "predictors": predictors_to_json(derived.recipe.image.predictors),
        "settings": dict(world.dockerfile.config),
        "environment": dict(world.env),
    }
    theirs: dict[str, Json] = {
        "platform": config.platform,
        "work folder": config.workdir,
        "predictors": dict(config.predictors),
        "settings": dict(config.more),
        "environment": {name: config.env.get(name) for name in world.env},
    }
    if wrong := [name for name in own if canonical(own[name]) != canonical(theirs[name])]:
        raise CheckFailedError(f"{where}: its {' and '.join(wrong)} are not the recipe's")


def _adopt(project: Project, derived: Derived, kept: Kept) -> Realised:
    found = kept.realised
    titles = [layer.step for layer in derived.output.layers] if derived.output is not None else []
    layers = [
        LayerReference(layer.listing, layer.diff_id, layer.size, title)
        for layer, title in zip(found.layers, titles, strict=True)
    ]
    with project.store.transaction() as group:
        record = _record(group, derived, kept.config, layers, engine=found.engine, isolation=found.isolation)
    return image_from_record(record)


def _pull(project: Project, derived: Derived, offer: Offer) -> Realised:
    from reprobuild.build.pulled_layers import bring_layers

    store, published = project.store, offer.published
    titles = [layer.step for layer in derived.output.layers] if derived.output is not None else []
    with store.transaction() as group:
        pulled = bring_layers(store, group, offer.carrier, published, titles, project.tell)
        group.add_bytes(published.body)
        isolation = f"pulled from {published.where}@{published.announced.digest}"
        record = _record(group, derived, published.config, pulled.layers, engine=PULLED, isolation=isolation)
    name, count = derived.recipe.name, len(titles)
    for index, (title, is_new) in enumerate(zip(titles, pulled.is_new, strict=True), start=1):
        project.tell(StepStarted(name, index, count, title))
        project.tell(StepFinished(name, index, count, title, PULLED if is_new else "reused", 0.0))
    found = with_status(image_from_record(record), pulled.is_new)
    return replace(found, fetched_bytes=pulled.received)


def _record(
    group: Transaction,
    derived: Derived,
    config: Config,
    layers: Sequence[LayerReference],
    *,
    engine: str,
    isolation: str,
) -> dict[str, Json]:
    """Record an image that was not built here as the derivation's."""
    pins = {pin.sha256 for pin in derived.pins}
    record = image_record(
        name_of(derived),
        derived.derivation.input_hash,
        config=derived.output.image_id if derived.output is not None else Digest.of(config.encode()),
        layers=layers,
        platform=config.platform,
        env=config.env,
        workdir=config.workdir,
        predictors=config.predictors,
        blobs=[group.add_bytes(derived.derivation.canonical), *(pin for pin in pins if group.has(pin))],
        engine=engine,
        isolation=isolation,
    )
    group.record(derived.derivation.input_hash, record)
    return record
