"""Compare what registries have under the tags of the store's images with those images.

Knows nothing of recipes: an image that was realized here, or pulled, has its tags in its record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reprobuild.build.carrier import RegistryCarrier
from reprobuild.build.derive import NAMESPACE
from reprobuild.build.find import TAKEN, images
from reprobuild.build.image import Realised
from reprobuild.build.project import Project
from reprobuild.build.published import announced
from reprobuild.build.substitute import references_at
from reprobuild.derivation.image_reference import RegistryReference, read_reference
from reprobuild.errors import CheckFailedError, OfflineError, OutsideError, RecipeError, UpstreamError
from reprobuild.fetch.registry_refusal import RegistryError
from reprobuild.registry.repository import Repository
from reprobuild.store.audit import Finding
from reprobuild.value import Value

NOT_THERE = (401, 403)
"""What registries answer for a repository that is not there, or not for whoever asks."""
ATTEMPTS = 2


class Compared(Value):
    """What came of asking for one image's tag at one registry."""

    reference: str
    is_there: bool
    finding: Finding | None = None
    failure: OutsideError | None = None
    """Why it could not be asked for."""


def compare_published(project: Project, names: Sequence[str]) -> Iterator[Compared]:
    """Ask for the tags of all images of the store, or of those of some recipes.

    Asked are ``publish.to`` and the substituters, and for an image that was pulled where it came from. A
    registry that does not answer is asked once. Raises UsageError for a setting that makes no sense.
    """
    silent: set[str] = set()
    for image in sorted(images(project.store), key=lambda image: image.tag):
        if names and image.recipe not in names:
            continue
        for reference in _references(project, image):
            if reference.registry not in silent:
                compared = _compare(project, image, reference)
                if compared.failure is not None:
                    silent.add(reference.registry)
                yield compared


def _references(project: Project, image: Realised) -> list[RegistryReference]:
    """Give where an image may be."""
    space, _, name = image.tag.partition("/")
    if image.engine in TAKEN and space != NAMESPACE:
        try:
            found = read_reference(image.tag)
        except ValueError:
            return []
        return [found] if isinstance(found, RegistryReference) else []
    settings = project.settings
    namespaces = dict.fromkeys((*filter(None, (settings.publish_to,)), *settings.substituters))
    return references_at(tuple(namespaces), name or space)


def _compare(project: Project, image: Realised, reference: RegistryReference) -> Compared:
    where = str(reference)
    try:
        with Repository(reference, project.settings, tell=project.tell) as repository:
            carrier = RegistryCarrier(repository, project.settings)
            found = announced(carrier, reference.asked, where, attempts=ATTEMPTS)
            if found is None:
                return Compared(where, False)
            theirs = {"image ID": found.image_id, "input hash": found.input_hash}
    except RegistryError as error:
        if error.status in NOT_THERE:
            return Compared(where, False)
        return Compared(where, False, failure=error)
    except (UpstreamError, OfflineError) as error:
        return Compared(where, False, failure=error)
    except (CheckFailedError, RecipeError) as error:
        return Compared(where, True, _finding(image, where, error.message))
    ours = {"image ID": image.image_id, "input hash": image.input_hash}
    wrong = [name for name in ours if ours[name] != theirs[name]]
    if not wrong:
        return Compared(where, True)
    lines = [f"{name}: {theirs[name]}, and here {ours[name]}" for name in wrong]
    problem = f"is another image than the one that is here: {'; '.join(lines)}"
    return Compared(where, True, _finding(image, where, problem))


def _finding(image: Realised, where: str, problem: str) -> Finding:
    hint = (
        f"tags never move: see which is right by building it again: reprobuild realize {image.recipe} --check"
    )
    return Finding("published", where, "", problem, hint)
