"""Where an image is published: the repository and the tag that a recipe has in a registry's namespace.

Knows nothing of what is there already.
"""

from __future__ import annotations

from reprobuild.build.derive import Derived
from reprobuild.derivation.image_reference import (
    DOCKER_HUB,
    DOCKER_HUB_NAMES,
    RegistryReference,
    read_reference,
)
from reprobuild.errors import UsageError

EXAMPLE = "write a registry and a namespace: --to docker.io/USER"


def destination(to: str, derived: Derived) -> RegistryReference:
    """Give where an image belongs below a namespace: ``docker.io/user/tutorial:1.0-0123456789ab``.

    ``to``: a registry, and what its repositories begin with: ``docker.io/user``, ``localhost:5000``,
    ``registry.example/team/models``. Raises UsageError for what is none, or is no name with the recipe's.
    """
    if not to:
        raise UsageError(
            "where to publish?",
            'say --to docker.io/USER, or in reprobuild.toml: [publish] to = "docker.io/USER"',
        )
    namespace = to.removesuffix("/")
    name, tag = derived.recipe.name, derived.tag.rpartition(":")[2]
    host, _, rest = namespace.partition("/")
    if "@" in namespace or ":" in rest:
        raise UsageError(
            f"--to {to}: it names an image, and a namespace is needed",
            "leave out the tag; the recipe gives name and tag",
        )
    if host in DOCKER_HUB_NAMES and not rest:
        raise UsageError(f"--to {to}: whose repositories?", f"--to {DOCKER_HUB}/USER")
    try:
        found = read_reference(f"{namespace}/{name}:{tag}")
    except ValueError as error:
        hint = EXAMPLE if name == name.lower() else f"registries take no capitals: give {name} another name"
        raise UsageError(f"--to {to}: {namespace}/{name} is no name of a repository: {error}", hint) from None
    if not isinstance(found, RegistryReference):
        raise UsageError(f"--to {to}: not a registry", EXAMPLE)
    return found
