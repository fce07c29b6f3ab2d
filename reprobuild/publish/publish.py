"""Carry a publishing plan out: realize, pack, push, and give the tag last.

Knows nothing of what a person sees.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from reprobuild.build.derive import Derived
from reprobuild.build.image import Realised
from reprobuild.build.project import Project
from reprobuild.derivation.predictors import Json
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError
from reprobuild.events import Note
from reprobuild.publish.plan import ARTIFACTS, Plan, check_isolated, expected, find
from reprobuild.registry.repository import Repository
from reprobuild.store.blobs import missing
from reprobuild.store.realisations import bodies_of_listing
from reprobuild.store.store import Store
from reprobuild.value import Value

if TYPE_CHECKING:
    from reprobuild.publish.bundle import Bundle, Manifest

Status = Literal["published", "completed", "there"]
"""All of it is new; what refers to the image is; the image was there."""


class Published(Value):
    """An image that is in a registry under its tag."""

    plan: Plan
    status: Status
    manifest: Digest
    artifacts: tuple[tuple[str, Digest], ...] = ()
    """Types and digests of what was made to refer to it now."""
    sent: int = 0
    """Bytes that travelled, of blobs and manifests."""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Json]:
        """Give what ``publish --json`` prints of it."""
        return {
            "schema": 1,
            "recipe": self.plan.recipe,
            "version": self.plan.version,
            "tag": str(self.plan.reference),
            "input_hash": str(self.plan.input_hash),
            "image_id": str(self.plan.image_id),
            "manifest": str(self.manifest),
            "status": self.status,
            "artifacts": [{"type": kind, "digest": str(digest)} for kind, digest in self.artifacts],
            "sent_bytes": self.sent,
            "seconds": self.seconds,
        }


def publish(project: Project, derived: Derived, repository: Repository, plan: Plan) -> Published:
    """Do what a plan says. The tag comes last, so that what has one is there whole.

    Raises what building raises, CheckFailedError for an image that is not whole, not built in isolation or
    not the lock's, and where another image has got the tag meanwhile, UpstreamError and OfflineError.
    """
    started = time.monotonic()
    if plan.published is not None and plan.action == "nothing":
        return Published(plan, "there", plan.published.digest)
    from reprobuild.publish.about import about
    from reprobuild.publish.bundle import bundled

    realised = _realise(project, derived, plan)
    with bundled(
        project,
        derived,
        realised,
        about(project.settings),
        with_sources="sources" in plan.artifacts,
        published=plan.published.body if plan.published is not None else b"",
    ) as bundle:
        wanted = [one for one in bundle.referrers if one.artifact_type in map(ARTIFACTS.get, plan.artifacts)]
        sent = _push(repository, bundle, wanted)
        status, manifest = _tag(repository, derived, plan, bundle)
    return Published(
        plan,
        status,
        manifest,
        tuple((one.artifact_type, one.digest) for one in wanted),
        sent,
        round(time.monotonic() - started, 3),
    )


def _realise(project: Project, derived: Derived, plan: Plan) -> Realised:
    """Give the image, built first if need be: isolated, whole, and the one that the lock speaks of."""
    from reprobuild.build.outputs import check_outputs
    from reprobuild.build.realize import build_image, keep

    if plan.realised is None:
        project.tell(Note(f"{plan.recipe} is not built yet, so it is realized first"))
    realised = build_image(project, derived)
    check_outputs(project.store, derived, realised)
    keep(project.store, plan.recipe, realised.input_hash, derived.lock, "realized")
    if plan.needs_own_build:
        check_isolated(realised, derived)
    _check_whole(project.store, realised)
    return realised


def _check_whole(store: Store, realised: Realised) -> None:
    """Raise MissingBlobError for a file that a layer needs; what is there is verified when it is read."""
    for layer in realised.layers:
        for digits in bodies_of_listing(store.blobs.read(layer.listing)):
            if not store.blobs.has(Digest.trusted(digits)):
                raise missing(Digest.trusted(digits), f"the layer of {layer.step}")


def _push(repository: Repository, bundle: Bundle, artifacts: list[Manifest]) -> int:
    """Bring everything but the tag; give the bytes that travelled."""
    image = bundle.manifest
    sent = repository.push_blobs([*image.blobs, *(blob for one in artifacts for blob in one.blobs)])
    if image.blobs:
        sent += repository.put_manifest(image.body, image.media_type, str(image.digest))
    return sent + repository.put_referrers(image.digest, [(one.body, one.media_type) for one in artifacts])


def _tag(repository: Repository, derived: Derived, plan: Plan, bundle: Bundle) -> tuple[Status, Digest]:
    """Give the image its tag; tell what has it now. An equal image that was faster is as good."""
    if plan.published is not None:
        return "completed", plan.published.digest
    try:
        is_new = repository.put_tag(plan.reference.tag, bundle.manifest.digest)
    except CheckFailedError:
        found = find(repository, plan.reference, expected(derived))
        if found is None:
            raise
        return "there", found.digest
    return ("published" if is_new else "there"), bundle.manifest.digest
