"""Images of the store: written down as realisations, and read back.

Knows nothing of how layers are made. What writing needs is imported there: each prediction reads one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from reprobuild.canonical import canonical_digest
from reprobuild.derivation.predictor_codec import predictors_from_json, predictors_to_json
from reprobuild.derivation.predictors import Json, Predictor
from reprobuild.digest import Digest
from reprobuild.engine.protocol import ENVIRONMENT
from reprobuild.store.diff_ids import diff_key, measured_diff_id
from reprobuild.store.store import Store
from reprobuild.tree import Layer
from reprobuild.value import NOTHING, Value, replace

if TYPE_CHECKING:
    from reprobuild.build.derive import Derived
    from reprobuild.images.image import LayerReference


PULLED = "pulled"
"""The engine of an image that was built elsewhere, and the status of its layers."""
NAME_FIELDS = ("recipe", "version", "tag", "options")
"""Fields of a realisation that are in no hash: an image may have several sets of them."""


class RealisedLayer(Value):
    """A layer of a realised image."""

    step: str
    """The title of the step that it came from."""
    listing: Digest
    diff_id: Digest
    size: int
    """Bytes of its tar stream."""
    status: str = "reused"
    """``reused``, ``built`` or ``pulled``."""


class Realised(Value):
    """An image that is in the store, and how it came there."""

    recipe: str
    version: str
    tag: str
    options: Mapping[str, Json]
    input_hash: Digest
    image_id: Digest
    derivation: Digest
    """The blob of the canonical derivation."""
    layers: tuple[RealisedLayer, ...]
    env: Mapping[str, str]
    """Everything that a command in the image finds in its environment."""
    workdir: str
    predictors: Mapping[str, Predictor]
    engine: str
    isolation: str
    fetched_bytes: int = 0
    seconds: float = 0.0

    @property
    def is_reused(self) -> bool:
        """Tell whether nothing had to be built."""
        return all(layer.status == "reused" for layer in self.layers)

    def to_json(self) -> dict[str, Json]:
        """Give what ``realize --json`` prints of it (DESIGN section 13)."""
        return {
            "schema": 1,
            "recipe": self.recipe,
            "version": self.version,
            "tag": self.tag,
            "input_hash": str(self.input_hash),
            "image_id": str(self.image_id),
            "engine": self.engine,
            "isolation": self.isolation,
            "layers": [
                {
                    "diff_id": str(layer.diff_id),
                    "step": layer.step,
                    "size": layer.size,
                    "status": layer.status,
                }
                for layer in self.layers
            ],
            "fetched_bytes": self.fetched_bytes,
            "seconds": self.seconds,
        }


def read_layers(store: Store, realised: Realised) -> list[Layer]:
    """Give an image's layers, lowest first."""
    return [Layer.parse(store.blobs.read(layer.listing)) for layer in realised.layers]


def recall_image(store: Store, input_hash: Digest) -> Realised | None:
    """Give the image of a derivation if the store has it whole."""
    record = store.realisations.get(input_hash)
    if record is None or record.get("kind") != "image":
        return None
    if not all(store.blobs.has(Digest.parse(blob)) for blob in record["blobs"]):
        return None
    return image_from_record(record)


def image_from_record(record: Mapping[str, Json]) -> Realised:
    """Read an image's realisation."""
    return Realised(
        recipe=record["recipe"],
        version=record["version"],
        tag=record["tag"],
        options=record["options"],
        input_hash=Digest.parse(record["input_hash"]),
        image_id=Digest.parse(record["image_id"]),
        derivation=Digest.parse(record["derivation"]),
        layers=tuple(
            RealisedLayer(
                layer["step"], Digest.parse(layer["layer"]), Digest.parse(layer["diff_id"]), layer["size"]
            )
            for layer in record["layers"]
        ),
        env=record["env"],
        workdir=record["workdir"],
        predictors=predictors_from_json(record["predictors"]),
        engine=record["engine"],
        isolation=record["isolation"],
    )


def pulled_key(image_id: Digest, input_hash: Digest) -> Digest:
    """Give the key of an image that somebody says to be of a derivation, and no lock has confirmed."""
    return canonical_digest({"image": str(image_id), "input": str(input_hash), "pulled": 1})


def with_status(realised: Realised, is_new: Sequence[bool], status: str = PULLED) -> Realised:
    """Give an image whose layers say which of them came now, and how."""
    pairs = zip(realised.layers, is_new, strict=True)
    layers = tuple(replace(layer, status=status if new else "reused") for layer, new in pairs)
    return replace(realised, layers=layers)


def images_of_record(record: Mapping[str, Json]) -> Iterator[Realised]:
    """Read an image's realisation under each of its names: neither name nor version is in the input hash."""
    first = image_from_record(record)
    yield first
    for name in record.get("names", ()):
        yield replace(first, **{field: name[field] for field in NAME_FIELDS})


def named(store: Store, realised: Realised, derived: Derived) -> Realised:
    """Give an image under the name that a derivation has, which its record says from now on too."""
    name = name_of(derived)
    record = store.realisations.get(realised.input_hash)
    if record is not None and (known := with_name(record, name)) != record:
        store.realisations.put(realised.input_hash, known)
    return replace(realised, **name)


def with_name(record: Mapping[str, Json], name: Mapping[str, Json]) -> Mapping[str, Json]:
    """Give a realisation that says a name too, beside those that it says already."""
    known = [{field: record[field] for field in NAME_FIELDS}, *record.get("names", ())]
    return record if name in known else {**record, "names": [*known[1:], dict(name)]}


def write_image(
    store: Store,
    derived: Derived,
    layers: Sequence[tuple[str, Layer]],
    records: Iterable[Digest],
    *,
    home: Mapping[str, str] = NOTHING,
    engine: str,
    isolation: str,
) -> Realised:
    """Write an image down: config, diff_ids, and the realisation that makes them count.

    ``layers``: the titles of their steps and the layers, lowest first, none of them empty;
    ``records``: the keys of what is remembered of the steps; ``home``: where its user is at home.
    """
    from concurrent.futures import ThreadPoolExecutor

    from reprobuild.images.image import LayerReference, make_image

    predictors = predictors_to_json(derived.recipe.image.predictors)
    env = {**ENVIRONMENT, **home, **derived.world.env}
    with store.transaction() as group:
        for _, layer in layers:
            group.add_bytes(layer.listing)
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            measured = list(pool.map(lambda layer: measured_diff_id(store, group, layer[1]), layers))
        references = [
            LayerReference(layer.digest, found, size, title)
            for (title, layer), (found, size) in zip(layers, measured, strict=True)
        ]
        image = make_image(
            references,
            platform=derived.platform,
            env=env,
            workdir=derived.world.workdir,
            predictors=predictors,
            more=derived.world.dockerfile.config,
        )
        config = group.add_bytes(image.config)
        derivation = group.add_bytes(derived.derivation.canonical)
        pins = {pin.sha256 for pin in derived.pins}
        sources = [digest for digest in pins if group.has(digest)]
        record = image_record(
            name_of(derived),
            derived.derivation.input_hash,
            config=config,
            layers=references,
            platform=derived.platform,
            env=env,
            workdir=derived.world.workdir,
            predictors=predictors,
            blobs=(derivation, *sources),
            records=records,
            engine=engine,
            isolation=isolation,
        )
        group.record(derived.derivation.input_hash, record)
    return image_from_record(record)


def image_record(
    name: Mapping[str, Json],
    input_hash: Digest,
    *,
    config: Digest,
    layers: Sequence[LayerReference],
    platform: str,
    env: Mapping[str, str],
    workdir: str,
    predictors: Mapping[str, Json],
    blobs: Iterable[Digest],
    records: Iterable[Digest] = (),
    engine: str,
    isolation: str,
) -> dict[str, Json]:
    """Give the realisation of an image, whose listings and blobs are in the store.

    ``name``: the NAME_FIELDS; ``blobs``: what else it needs: its derivation, what it pins.
    """
    listings = [layer.layer_digest for layer in layers]
    diffs = [diff_key(listing) for listing in listings]
    return {
        "kind": "image",
        "blobs": sorted({str(blob) for blob in (config, *listings, *blobs)}),
        "records": sorted({str(key) for key in (*records, *diffs)}),
        **name,
        "platform": platform,
        "input_hash": str(input_hash),
        "image_id": str(config),
        "config": str(config),
        "derivation": str(input_hash),
        "layers": [layer.to_json() for layer in layers],
        "env": dict(env),
        "workdir": workdir,
        "predictors": dict(predictors),
        "engine": engine,
        "isolation": isolation,
    }


def name_of(derived: Derived) -> dict[str, Json]:
    """Give what a derivation is called: the NAME_FIELDS of its realisation."""
    return {
        "recipe": derived.recipe.name,
        "version": derived.recipe.version,
        "tag": derived.tag,
        "options": dict(derived.recipe.chosen),
    }
