"""Every pinned source of an image as blobs, so that a model outlives the hosts that it came from.

A pinned file is one blob; a git tree is its listing and an archive of the files that it names. Knows nothing
of registries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reprobuild.build.derive import Derived
from reprobuild.build.project import Project
from reprobuild.build.sources import fetch_sources
from reprobuild.digest import Digest
from reprobuild.images.artifact import BODIES_TYPE, SOURCE_TYPE, TITLE
from reprobuild.images.tar import BLOCK, END, member_header
from reprobuild.publish.content import Content, content, stored, streamed
from reprobuild.publish.materials import Material
from reprobuild.store.realisations import bodies_of_listing
from reprobuild.store.store import Store

SOURCE = "org.reprobuild.source"
PIN = "org.reprobuild.source.pin"
"""Annotations: the key of a source in the lock, and what the lock calls a pinned file of it."""
LONGEST = 1000
"""Characters of an annotation: keys name many packages, and recorded exchanges are URLs of any length."""
MOST_CONTENT = 1000
"""Blobs of one artifact: with all annotations its manifest stays below what registries take (4 MiB)."""


def source_groups(
    project: Project, derived: Derived, materials: Sequence[Material], *, most: int = MOST_CONTENT
) -> list[Sequence[Content]]:
    """Give the sources, in groups of ``most`` for an artifact each; what the store lacks is fetched first.

    Raises as ``fetch``.
    """
    fetch_sources(project, derived)
    listings = {pin.sha256 for one in derived.steps if one.step.pins_trees for pin in one.pins}
    found: dict[Digest, Content] = {}
    for one in materials:
        if one.pin.sha256 not in found:
            found[one.pin.sha256] = _file(project.store, one)
            if one.pin.sha256 in listings:
                bodies = _bodies(project.store, one)
                found[bodies.blob.digest] = bodies
    everything = list(found.values())
    return [everything[at : at + most] for at in range(0, len(everything), most)]


def _file(store: Store, one: Material) -> Content:
    blob = stored(store, one.pin.sha256, one.pin.size, one.pin.name)
    return content(blob, SOURCE_TYPE, _said(one, one.pin.sha256.hex))


def _bodies(store: Store, one: Material) -> Content:
    """Give the files of a git tree: a tar archive of the bodies, in order, each named by its hex digits."""
    bodies = sorted(bodies_of_listing(store.blobs.read(one.pin.sha256)).items())

    def stream() -> Iterator[bytes]:
        for digits, size in bodies:
            yield member_header(digits, size)
            yield from stored(store, Digest.trusted(digits), size, digits).chunks(0)
            yield bytes(-size % BLOCK)
        yield END

    size = sum(len(member_header(digits, size)) + size + -size % BLOCK for digits, size in bodies) + len(END)
    blob = streamed(stream, Digest.of_chunks(stream()), size, f"files of {one.pin.name}")
    return content(blob, BODIES_TYPE, _said(one, f"{one.pin.sha256.hex}.tar"))


def _said(one: Material, title: str) -> dict[str, str]:
    return {TITLE: title, SOURCE: one.source[:LONGEST], PIN: one.pin.name[:LONGEST]}
