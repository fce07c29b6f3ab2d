"""A published image comes into the store of somebody who has no recipe of it.

All that it says of itself is held together: layers, config, manifest, tag, derivation. Whether it is what
its derivation comes to only a lock can say, or building it; until then it is nobody's realisation. Knows
nothing of what carried it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from reprobuild.build import recipes
from reprobuild.build.carrier import Wanted
from reprobuild.build.companions import LARGEST_TEXT, Companions, read_companions
from reprobuild.build.derive import lock_of
from reprobuild.build.image import (
    NAME_FIELDS,
    Realised,
    image_from_record,
    image_record,
    pulled_key,
    with_name,
    with_status,
)
from reprobuild.build.project import Project
from reprobuild.build.published import NOT_OURS, Announced, Published, read_published
from reprobuild.build.pulled_layers import Pulled, bring_layers
from reprobuild.derivation.lockfile import LockError, pin_from_json
from reprobuild.derivation.predictors import Json, Predictor
from reprobuild.derivation.recipe import is_version
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, UpstreamError, UsageError
from reprobuild.events import Warned
from reprobuild.images.artifact import (
    BODIES_TYPE,
    DERIVATION_TYPE,
    LOCK_TYPE,
    PREDICTIONS_TYPE,
    PROVENANCE_TYPE,
    SBOM_TYPE,
    SOURCE_TYPE,
)
from reprobuild.images.manifest import Descriptor
from reprobuild.images.tar_reader import read_tar
from reprobuild.publish.sources import PIN
from reprobuild.tree import Layer, Tree, TreeError, apply
from reprobuild.value import Value, replace

if TYPE_CHECKING:
    from reprobuild.build.carrier import Carrier
    from reprobuild.store.store import Store


class Received(Value):
    """An image that is in the store now, with what is known of it."""

    realised: Realised
    manifest: Digest
    confirmed_by: tuple[str, ...]
    """Recipes of the project whose locks say that this is what their derivation comes to."""
    has_derivation: bool
    """Whether the derivation came too, and is the one of the input hash."""


def receive(
    project: Project, carrier: Carrier, found: Announced, tag: str, *, how: str, everything: bool = False
) -> Received:
    """Take an image into the store under a tag, where ``gc`` keeps it.

    ``how``: ``pulled`` or ``imported``; ``everything``: whether pinned files that came with it are kept too.
    Raises CheckFailedError for whatever contradicts itself or what was built here, RecipeError for predictors
    that make no sense, UsageError for another platform, UpstreamError.
    """
    started = time.monotonic()
    published = read_published(carrier, found)
    if published.config.platform != project.platform:
        raise UsageError(
            f"{found.where} is for {published.config.platform}, and this is {project.platform}",
            "take it on a machine of that platform",
        )
    _compare_with_built(project.store, found)
    companions = _companions(project, carrier, found)
    name = _name(published, companions, tag)
    key = pulled_key(found.image_id, found.input_hash)
    with project.store.transaction() as group:
        titles = _titles(published, companions)
        pulled = bring_layers(project.store, group, carrier, published, titles, project.tell)
        _check_stack(project.store, published, pulled)
        wanted = companions.contents() if everything else _small(companions)
        wanted = (*wanted, *_answers(published, companions))
        _bring(project, carrier, [one for one in wanted if one.media_type != PREDICTIONS_TYPE])
        blobs = [one.digest for one in wanted if group.has(one.digest)]
        blobs += [group.add_bytes(body) for body in (found.body, *(one.body for one in companions.artifacts))]
        record = image_record(
            name,
            found.input_hash,
            config=group.add_bytes(published.body),
            layers=pulled.layers,
            platform=published.config.platform,
            env=published.config.env,
            workdir=published.config.workdir,
            predictors=published.config.predictors,
            blobs=blobs,
            engine=how,
            isolation=f"{how} from {found.where}@{found.digest}",
        )
        record |= {
            "manifest": str(found.digest),
            "artifacts": [str(one.digest) for one in companions.artifacts],
        }
        group.record(key, _with_names(project.store, key, record, name))
    project.store.roots.set(tag, [key], how)
    _warn_of_answers(project, published)
    realised = with_status(image_from_record(record), pulled.is_new)
    return Received(
        replace(realised, fetched_bytes=pulled.received, seconds=round(time.monotonic() - started, 3)),
        found.digest,
        tuple(_confirming(project, found)),
        companions.derivation is not None,
    )


def _bring(project: Project, carrier: Carrier, blobs: Sequence[Descriptor]) -> None:
    """Bring what goes with an image into the store; what is there is not asked for."""
    wanted = {}
    for one in blobs:
        if not project.store.blobs.has(one.digest):
            # An archive is read for the files in it, and is no more needed than a compressed layer.
            take = partial(_take_bodies, project.store) if one.media_type == BODIES_TYPE else None
            wanted[one.digest] = Wanted(_title(one), one.digest, one.size, take)
    if wanted:
        carrier.bring(list(wanted.values()), project.store, project.tell)


def _small(companions: Companions) -> tuple[Descriptor, ...]:
    """Give what goes with every image: its lock, where it comes from, what is in it."""
    found = companions.contents(LOCK_TYPE, DERIVATION_TYPE, PROVENANCE_TYPE, SBOM_TYPE)
    return tuple(one for one in found if one.size <= LARGEST_TEXT)


def _take_bodies(store: Store, file: BinaryIO) -> None:
    """Read an archive of files, each named by its digest."""
    with store.transaction() as group:
        for member, body in read_tar(file):
            digest, _ = group.add_stream(body)
            if member.path != digest.hex:
                raise CheckFailedError(f"an archive of sources has {digest} under the name {member.path!r}")


def _title(one: Descriptor) -> str:
    return one.annotations.get(PIN) or one.digest.short


def _compare_with_built(store: Store, found: Announced) -> None:
    """Raise CheckFailedError where the inputs that an image says to be of came to another image here."""
    record = store.realisations.get(found.input_hash)
    if record is not None and record.get("image_id") not in (None, str(found.image_id)):
        raise CheckFailedError(
            f"{found.where} is not what its inputs came to here\n"
            f"  here  {record['image_id']}, {record.get('isolation')}\n  there {found.image_id}",
            "whoever published it built it otherwise; reprobuild audit checks what is here",
        )


def _companions(project: Project, carrier: Carrier, found: Announced) -> Companions:
    """Read what came with an image; without it the image is as good."""
    try:
        return read_companions(carrier, found)
    except UpstreamError as error:
        project.tell(
            Warned(f"what was published beside {found.where} cannot be had: {error.message}", error.hint)
        )
        return Companions()


def _titles(published: Published, companions: Companions) -> list[str]:
    """Give what people call the steps that made an image's layers."""
    listed = companions.output.layers if companions.output is not None else ()
    if tuple(layer.diff_id for layer in listed) == published.config.diff_ids:
        return [layer.step for layer in listed]
    return [f"layer {number}" for number in range(1, len(published.layers) + 1)]


def _name(published: Published, companions: Companions, tag: str) -> dict[str, Json]:
    """Give what the image is called from now on."""
    if not recipes.is_name(published.name) or not is_version(published.version):
        raise CheckFailedError(
            f"{published.where}: its manifest names no recipe and version: "
            f"{published.name!r}, {published.version!r}",
            NOT_OURS,
        )
    options = dict(companions.output.options) if companions.output is not None else {}
    return {"recipe": published.name, "version": published.version, "tag": tag, "options": options}


def _with_names(
    store: Store, key: Digest, record: Mapping[str, Json], name: Mapping[str, Json]
) -> Mapping[str, Json]:
    """Give a realisation that says all names which the image has had."""
    before = store.realisations.get(key)
    if before is None:
        return record
    known = {field: before[field] for field in NAME_FIELDS}
    return with_name({**record, **known, "names": before.get("names", [])}, name)


def _check_stack(store: Store, published: Published, pulled: Pulled) -> None:
    """See that each layer fits those below it: a lock would have said so."""
    tree = Tree()
    for one in pulled.layers:
        try:
            tree = apply(tree, Layer.parse(store.blobs.read(one.layer_digest)))
        except TreeError as error:
            raise CheckFailedError(f"{published.where}: {one.step}: {error.message}", NOT_OURS) from None


def _exchanges(predictor: Predictor) -> set[Digest]:
    return {pin_from_json(one).sha256 for one in predictor.exchanges}


def _answers(published: Published, companions: Companions) -> tuple[Descriptor, ...]:
    """Give those of the sources that recorded predictors are answered with."""
    needed = set[Digest]().union(*map(_exchanges, published.predictors.values()))
    return tuple(one for one in companions.contents(SOURCE_TYPE) if one.digest in needed)


def _warn_of_answers(project: Project, published: Published) -> None:
    has = project.store.blobs.has
    for name, predictor in published.predictors.items():
        if not all(map(has, _exchanges(predictor))):
            project.tell(
                Warned(
                    f"{published.where}: the predictor {name} is answered with what was recorded of it, and "
                    "that was not published",
                    "reprobuild publish --with-sources publishes it; files by digest: reprobuild import PATH",
                )
            )


def _confirming(project: Project, found: Announced) -> Iterator[str]:
    """Give the recipes whose locks say that this image is what its inputs come to."""
    for name in recipes.names(project.settings.recipes):
        try:
            lock = lock_of(project.recipe_folder(name), name)
        except LockError:
            continue
        outputs = [] if lock is None else [one for listed in lock.outputs.values() for one in listed]
        if any((one.image_id, one.input_hash) == (found.image_id, found.input_hash) for one in outputs):
            yield name
