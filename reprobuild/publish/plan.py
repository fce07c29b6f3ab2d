"""What publishing an image would do, as a value: what to push, what refers to it, what is there already.

Knows nothing of doing it. What may not be published is refused here, by name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Literal

from reprobuild.build.derive import Derived
from reprobuild.build.image import Realised, recall_image
from reprobuild.build.project import Project
from reprobuild.derivation.image_reference import RegistryReference
from reprobuild.derivation.lockfile import Output
from reprobuild.derivation.predictors import Json
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, UnpinnedError, UsageError
from reprobuild.fetch.registry import Found
from reprobuild.fetch.registry_refusal import RegistryError
from reprobuild.images import artifact
from reprobuild.images.image import INPUT_HASH_ANNOTATION
from reprobuild.publish.materials import materials, sources
from reprobuild.registry.repository import Repository
from reprobuild.settings import ENGINES
from reprobuild.value import Value

ARTIFACTS = {
    "provenance": artifact.PROVENANCE_TYPE,
    "bill of materials": artifact.SBOM_TYPE,
    "lock": artifact.LOCK_TYPE,
    "sources": artifact.SOURCES_TYPE,
}
"""What goes out with an image: what people call it → its type."""
NOT_TOLD = (401, 403)
"""What registries answer of a repository that is not there, or not for whoever asks."""


class PlannedBlob(Value):
    """A blob of the image."""

    name: str
    digest: Digest | None
    """None: it was not compressed yet."""
    size: int | None
    """Bytes, before compression where it was not compressed yet; None: it was not even built."""
    is_there: bool

    def to_json(self) -> dict[str, Json]:
        """Give what ``--dry-run --json`` prints of it."""
        return {
            "name": self.name,
            "digest": str(self.digest) if self.digest is not None else None,
            "size": self.size,
            "is_compressed": self.digest is not None,
            "action": "reuse" if self.is_there else "push",
        }


class Plan(Value):
    """What publishing an image would do."""

    recipe: str
    version: str
    reference: RegistryReference
    input_hash: Digest
    image_id: Digest
    """As the lock says it."""
    published: Found | None
    """The manifest under the tag, which is this image's."""
    realised: Realised | None
    """None: it is realized first."""
    blobs: tuple[PlannedBlob, ...]
    artifacts: tuple[str, ...]
    """What will refer to the image, and does not yet: keys of ARTIFACTS."""
    source_files: int
    source_bytes: int
    """Of the pinned files that go out with it; what git trees hold is not counted."""
    note: str = ""
    """What could not be found out."""

    @property
    def action(self) -> Literal["publish", "complete", "nothing"]:
        """What is to be done: the whole, what refers to an image that is there, or nothing."""
        if self.published is None:
            return "publish"
        return "complete" if self.artifacts else "nothing"

    @property
    def needs_own_build(self) -> bool:
        """Tell whether something goes out that speaks of how the image was built here."""
        return self.published is None or "provenance" in self.artifacts

    @property
    def push_bytes(self) -> int:
        """Bytes that the image's blobs come to, as far as that is known, and at most."""
        return sum(blob.size or 0 for blob in self.blobs if not blob.is_there)

    def to_json(self) -> dict[str, Json]:
        """Give what ``publish --dry-run --json`` prints."""
        return {
            "schema": 1,
            "recipe": self.recipe,
            "version": self.version,
            "tag": str(self.reference),
            "input_hash": str(self.input_hash),
            "image_id": str(self.image_id),
            "action": self.action,
            "is_realized": self.realised is not None,
            "blobs": [blob.to_json() for blob in self.blobs],
            "push_bytes": self.push_bytes,
            "artifacts": [ARTIFACTS[name] for name in self.artifacts],
            "source_files": self.source_files,
            "source_bytes": self.source_bytes,
        }


def make_plan(
    project: Project,
    derived: Derived,
    repository: Repository,
    reference: RegistryReference,
    *,
    with_sources: bool = False,
) -> Plan:
    """Compare a derivation with what a registry has. Changes nothing.

    Raises UsageError for what must not be published, UnpinnedError where the lock does not say what comes
    out, CheckFailedError where the tag names another image, UpstreamError and OfflineError.
    """
    check_redistribution(derived)
    output = expected(derived)
    published, note = _look(repository, reference, output)
    realised = recall_image(project.store, output.input_hash)
    wanted = [name for name in ARTIFACTS if with_sources or name != "sources"]
    blobs: tuple[PlannedBlob, ...] = ()
    if published is None:
        blobs = tuple(_blobs(project, output, realised, repository if not note else None))
    else:
        there = {one.artifact_type for one in repository.referrers(published.digest)}
        wanted = [name for name in wanted if ARTIFACTS[name] not in there]
    pins = {one.pin.sha256: one.pin.size for one in materials(derived)} if "sources" in wanted else {}
    plan = Plan(
        recipe=derived.recipe.name,
        version=derived.recipe.version,
        reference=reference,
        input_hash=output.input_hash,
        image_id=output.image_id,
        published=published,
        realised=realised,
        blobs=blobs,
        artifacts=tuple(wanted),
        source_files=len(pins),
        source_bytes=sum(pins.values()),
        note=note,
    )
    if realised is not None and plan.needs_own_build:
        check_isolated(realised, derived)
    return plan


def _look(repository: Repository, reference: RegistryReference, output: Output) -> tuple[Found | None, str]:
    """Give what is under the tag, and why that is not known where it is not."""
    try:
        return find(repository, reference, output), ""
    except RegistryError as error:
        if error.status not in NOT_TOLD:
            raise
        return None, f"it is not told whether {reference} is there: {error.message}"


def find(repository: Repository, reference: RegistryReference, output: Output) -> Found | None:
    """Give the manifest under a tag if it is the image that the lock speaks of; None where there is none.

    Raises CheckFailedError where it is another one.
    """
    found = repository.manifest(reference.tag)
    if found is None:
        return None
    image_id, input_hash = _identity(found.body)
    if (image_id, input_hash) == (str(output.image_id), str(output.input_hash)):
        return found
    what = "image ID" if image_id != str(output.image_id) else "input hash"
    there, ours = (image_id, output.image_id) if what == "image ID" else (input_hash, output.input_hash)
    raise CheckFailedError(
        f"{reference} is there already and is another image: tags never move\n"
        f"  {what} there  {there or 'none: it is no image of reprobuild'}\n"
        f"  {what} here   {ours}",
        "look who put it there; with another version in the recipe it has another tag",
    )


def check_redistribution(derived: Derived) -> None:
    """Raise UsageError where a source may not be given to others, naming each and its line."""
    kept = [source for source in sources(derived) if not source.redistribute]
    if kept:
        folder = os.path.relpath(derived.folder)
        lines = [f"  {folder}/{source.where}: {source.title}" for source in kept]
        raise UsageError(
            "\n".join([f"{derived.recipe.name} is not published: redistribute=False", *lines]),
            "whoever has the recipe and its lock can build it: reprobuild realize "
            f"{derived.recipe.name}{derived.recipe.sets}",
        )


def check_isolated(realised: Realised, derived: Derived) -> None:
    """Raise CheckFailedError for an image that was not built here, or of which it is not known how."""
    if realised.engine not in ENGINES or not realised.isolation:
        how = realised.isolation or realised.engine or "nothing is known of how it was made"
        name = f"{derived.recipe.name}{derived.recipe.sets}"
        raise CheckFailedError(
            f"{realised.tag} was not built here in isolation ({how}), so it is not published",
            f"build it in another store: reprobuild --store DIR publish {name} …",
        )


def expected(derived: Derived) -> Output:
    """Give what the lock says that a derivation comes to. Raises UnpinnedError where it says nothing."""
    if derived.output is None:
        name = f"{derived.recipe.name}{derived.recipe.sets}"
        raise UnpinnedError(
            f"recipe.lock does not say what {name} comes to, so nobody could check what is published",
            f"reprobuild lock {name}",
        )
    return derived.output


def _identity(body: bytes) -> tuple[str, str]:
    """Give image ID and input hash of a manifest; empty texts where it is none of ours."""
    try:
        value = json.loads(body)
        found = value["config"]["digest"], value["annotations"][INPUT_HASH_ANNOTATION]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", ""
    return found if all(isinstance(text, str) for text in found) else ("", "")


def _blobs(
    project: Project, output: Output, realised: Realised | None, repository: Repository | None
) -> Iterator[PlannedBlob]:
    """Give the blobs of an image; ``repository``: None where it is not known what that has."""

    from reprobuild.publish.packing import packed

    def is_there(digest: Digest | None) -> bool:
        return digest is not None and repository is not None and repository.has_blob(digest)

    size = project.store.blobs.size(realised.image_id) if realised is not None else None
    yield PlannedBlob("image config", output.image_id, size, is_there(output.image_id))
    for number, layer in enumerate(output.layers, start=1):
        name = f"layer {number} ({layer.step})"
        digest, size = packed(project.store, layer.diff_id) or (None, None)
        if size is None and realised is not None:
            size = next((one.size for one in realised.layers if one.diff_id == layer.diff_id), None)
        yield PlannedBlob(name, digest, size, is_there(digest))
