"""Tags that never move: put where there is none, left alone where it names the same manifest, else refused.

Registries overwrite tags without a word, and few honour ``If-None-Match``; so a tag is looked at just
before it is put, and again after others who did the same have had the time to. Knows nothing of what a
manifest says.
"""

from __future__ import annotations

import time

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, UpstreamError
from reprobuild.fetch.registry import Found
from reprobuild.fetch.registry_refusal import RegistryError
from reprobuild.registry.connection import Connection

SETTLE_SECONDS = 0.5
"""At least this long between putting a tag and looking at it again."""
TAKEN = frozenset({400, 403, 405, 409, 412, 422})
"""What registries with immutable tags answer where one is there already, in as many words as there are."""


def put_tag(connection: Connection, tag: str, digest: Digest) -> bool:
    """Let a tag name a manifest that is there; tell whether it did not before.

    Raises CheckFailedError where the tag names another one, UpstreamError where the registry lacks the
    manifest or takes no tag.
    """
    manifest = connection.manifest(str(digest))
    if manifest is None:
        raise UpstreamError(f"{connection.reference.name} has no manifest {digest} to be tagged {tag}")
    begun = time.monotonic()
    if _is_there(connection, tag, digest):
        return False
    try:
        connection.put_manifest(manifest.body, manifest.media_type, tag, headers={"If-None-Match": "*"})
    except RegistryError as error:
        if error.status in TAKEN and _is_there(connection, tag, digest, said=error.message):
            return False
        raise
    settle(begun)
    if not _is_there(connection, tag, digest, raced=True):
        raise UpstreamError(f"{connection.reference.name}:{tag} was put, and is not there")
    return True


def settle(begun: float) -> None:
    """Wait longer than others may take from their look to their put; ``begun``: when ours began."""
    time.sleep(max(SETTLE_SECONDS, 2 * (time.monotonic() - begun)))


def _is_there(
    connection: Connection, tag: str, digest: Digest, *, said: str = "", raced: bool = False
) -> bool:
    """Tell whether a tag names a manifest; raise CheckFailedError where it names another."""
    found = connection.manifest(tag)
    if found is None:
        return False
    if found.digest != digest:
        raise CheckFailedError(_refusal(connection, tag, digest, found, said, raced),
            "give the recipe another version, or publish to another repository: tags never move")  # fmt: skip
    return True


def _refusal(connection: Connection, tag: str, digest: Digest, found: Found, said: str, raced: bool) -> str:
    name = f"{connection.reference.name}:{tag}"
    first = (
        f"somebody else published another image as {name} at the same time"
        if raced
        else f"{name} names another image already"
    )
    lines = [first, f"  there  {found.digest}", f"  ours   {digest} (in the registry by digest, not by tag)"]
    return "\n".join([*lines, *([f"  {said}"] if said else [])])
