"""What is recorded of a recipe: keys in its lock, exchanges in its predictors, bodies beside its lock.

Knows nothing of how exchanges come about or are answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace as with_fields

from reprobuild.canonical import canonical_digest
from reprobuild.derivation.exchange import read
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.predictor_codec import predictors_to_json
from reprobuild.derivation.predictors import Predictor
from reprobuild.derivation.recipe import Recipe
from reprobuild.digest import Digest
from reprobuild.value import replace

PREDICTOR = "predictor"
"""The kind, in keys of a lock, of what a predictor fetches."""
SMALL = 1024 * 1024
"""Bytes of a body up to which it is kept beside the lock, so that it outlives its server."""
LARGEST = 64 * 1024 * 1024
"""Bytes up to which it is kept there if its server would not give it again."""


def predictor_key(name: str, predictor: Predictor, platform: str) -> str:
    """Give the key in the lock of what a predictor's examples fetch on a platform."""
    value = predictors_to_json({name: replace(predictor, exchanges=(), tolerance=0.0, macro="")})[name]
    asked = [
        {"items": [given for given, _ in one["items"]], "parameters": one["parameters"]}
        for one in value["examples"]
    ]
    digest = canonical_digest({**value, "examples": asked})
    return f"{PREDICTOR} {name} #{digest.short} on {platform}"


def with_exchanges(recipe: Recipe, exchanges: Mapping[str, Sequence[Pin]]) -> Recipe:
    """Give a recipe whose recorded predictors have what was recorded of them, by their names."""
    if not exchanges:
        return recipe
    predictors = {
        name: replace(one, exchanges=tuple(pin.content for pin in exchanges.get(name, ())))
        for name, one in recipe.image.predictors.items()
    }
    return with_fields(recipe, image=with_fields(recipe.image, predictors=predictors))


def exchanges_of(sources: Mapping[str, Iterable[Pin]]) -> list[Pin]:
    """Give all recorded exchanges of a lock's sources."""
    return [pin for pins in sources.values() for pin in pins if "status" in pin.hashed]


def url_of(pin: Pin) -> str:
    """Give the URL of an exchange."""
    return pin.name.partition(" ")[2]


def is_given_again(pin: Pin) -> bool:
    """Tell whether a plain request, by anybody, is likely to give an exchange's body again."""
    exchange = read(pin)
    return exchange.is_repeatable and "content-encoding" not in exchange.headers


def kept_beside(pins: Iterable[Pin]) -> dict[Digest, int]:
    """Give the bodies that belong into ``recorded/`` with their sizes: small ones, and those that cannot be
    had again."""
    return {pin.sha256: pin.size for pin in pins if pin.size <= (SMALL if is_given_again(pin) else LARGEST)}
