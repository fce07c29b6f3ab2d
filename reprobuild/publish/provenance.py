"""Where an image comes from: SLSA provenance v1 in an in-toto statement v1.

Formats: slsa.dev/spec/v1.0/provenance, in-toto/attestation spec/v1/statement.md; the type of build is
specified in ``docs/publishing.md``. The same for the same derivation and realisation: no times, no host.
Knows nothing of registries.
"""

from __future__ import annotations

from collections.abc import Iterable

from reprobuild import __version__
from reprobuild.build.derive import Derived
from reprobuild.build.image import Realised
from reprobuild.canonical import canonical
from reprobuild.derivation.predictors import Json
from reprobuild.digest import Digest
from reprobuild.publish.materials import Material

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:reprobuild:build:1"
"""What the parameters below mean, and how to build by them again."""
BUILDER = "urn:reprobuild:builder:unnamed"
"""Who built it, where nobody says: anybody; the image can be checked without knowing."""


def provenance(
    derived: Derived,
    realised: Realised,
    materials: Iterable[Material],
    *,
    manifest: Digest,
    builder: str = "",
) -> bytes:
    """Give the statement about an image.

    ``manifest``: of the image as it is published; ``builder``: who built it, an URI.
    """
    name = f"{realised.recipe}:{realised.version}-{realised.input_hash.short}"
    recipe = derived.recipe
    return canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": name, "digest": {"sha256": manifest.hex}},
                {"name": f"{name} (image ID)", "digest": {"sha256": realised.image_id.hex}},
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {
                        "recipe": recipe.name,
                        "version": recipe.version,
                        "options": dict(recipe.chosen),
                        "platform": derived.platform,
                    },
                    "internalParameters": {
                        "assembler": derived.lock.assembler,
                        "engine": realised.engine,
                        "isolation": realised.isolation,
                    },
                    "resolvedDependencies": [
                        {
                            "name": "derivation",
                            "digest": {"sha256": realised.input_hash.hex},
                            "annotations": {"size": len(derived.derivation.canonical)},
                        },
                        *map(_dependency, materials),
                    ],
                },
                "runDetails": {
                    "builder": {"id": builder or BUILDER, "version": {"reprobuild": __version__}},
                    "metadata": {"invocationId": str(realised.input_hash)},
                    "byproducts": [_layer(step.step, step.diff_id, step.size) for step in realised.layers],
                },
            },
        }
    )


def _dependency(one: Material) -> dict[str, Json]:
    return {
        "name": one.pin.name,
        "uri": one.uri,
        "digest": {"sha256": one.pin.sha256.hex, **({"gitCommit": one.commit} if one.commit else {})},
        "annotations": {"size": one.pin.size, "source": one.source},
    }


def _layer(step: str, diff_id: Digest, size: int) -> dict[str, Json]:
    return {"name": step, "digest": {"sha256": diff_id.hex}, "annotations": {"size": size}}
