"""Pull an image by its tag alone, from a registry.

Knows nothing of recipes and locks: whoever has those lets ``realize`` pull, which compares.
"""

from __future__ import annotations

from reprobuild.build.carrier import RegistryCarrier
from reprobuild.build.derive import NAMESPACE
from reprobuild.build.project import Project
from reprobuild.build.published import announced, check_tag, tag_of
from reprobuild.build.substitute import references_to
from reprobuild.derivation.image_reference import RegistryReference, read_reference
from reprobuild.errors import OfflineError, UpstreamError, UsageError
from reprobuild.publish.receive import Received, receive
from reprobuild.registry.repository import Repository

FORM = "write registry/namespace/name:version-0123456789ab, as publish and realize print it"


def pull(project: Project, text: str) -> Received:
    """Take an image into the store by its tag, or by the digest of its manifest (``…@sha256:…``).

    A tag as ``realize`` prints it (``reprobuild/name:…``, ``name:…``) is looked for at the substituters.
    Raises UsageError for what is no tag, UpstreamError where there is no such image, and as ``receive``.
    """
    if project.settings.offline:
        raise OfflineError(
            f"this run may not use the network (--offline), and {text} is asked for",
            "run the same command without --offline; reprobuild import takes an image from a file",
        )
    references = _references(project, text)
    for reference in references:
        with Repository(reference, project.settings, tell=project.tell) as repository:
            carrier = RegistryCarrier(repository, project.settings)
            where = f"{reference.name}:{reference.tag}" if reference.tag else reference.name
            found = announced(carrier, reference.asked, where)
            if found is None:
                continue
            if reference.tag:
                check_tag(found, reference.tag)
            tag = where if reference.tag else f"{where}:{tag_of(found)}"
            return receive(project, carrier, found, tag, how="pulled")
    tried = ", ".join(str(one) for one in references)
    raise UpstreamError(f"there is no image {tried}", "look whether the name and the tag are right")


def _references(project: Project, text: str) -> list[RegistryReference]:
    """Give where an image may be that somebody named."""
    try:
        reference = read_reference(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no image of a registry: {error}", FORM) from None
    if not isinstance(reference, RegistryReference):
        raise UsageError(f"{text!r} is no image of a registry", FORM)
    if reference.asked == "latest" and not text.endswith(":latest"):
        raise UsageError(f"{text!r} names no tag", FORM)
    space, slash, own = text.partition("/")
    if not slash or space == NAMESPACE:
        return references_to(project, own or space) or [reference]
    return [reference]
