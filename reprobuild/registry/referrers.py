"""What refers to a manifest: the referrers API, or an index under a tag where a registry has none.

Speaks the distribution specification 1.1 ("Listing Referrers", "Referrers Tag Schema"). Knows nothing of
what the manifests are about.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urljoin

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, UpstreamError
from reprobuild.fetch.document import get
from reprobuild.fetch.registry_refusal import RegistryError
from reprobuild.images.manifest import LARGEST, OCI_INDEX, Descriptor, read_descriptor
from reprobuild.registry.connection import Connection

NO_API = frozenset({400, 404, 405, 406, 501})
"""What registries without referrers API answer to it."""
MOST_PAGES = 100


class Referrers:
    """Lists and writes what refers to manifests of a repository."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, subject: Digest, artifact_type: str = "") -> list[Descriptor]:
        """Give what refers to a manifest, of one type or of all. Raises UpstreamError, CheckFailedError."""
        found = self._ask(subject, artifact_type)
        if found is None:
            found = self._tagged(subject)
        return [one for one in map(read_descriptor, found) if artifact_type in ("", one.artifact_type)]

    def put(self, subject: Digest, manifests: Sequence[tuple[bytes, str]]) -> None:
        """Put manifests by digest, and list them all at once where the registry does not do it."""
        found = self._ask(subject, "")
        for body, media_type in manifests:
            self._connection.put_manifest(body, media_type, str(Digest.of(body)))
        if found is None:
            self._list_under_tag(subject, [describe(body, kind) for body, kind in manifests])

    def _list_under_tag(self, subject: Digest, added: Sequence[dict[str, Any]]) -> None:
        found = self._tagged(subject)
        known = {one["digest"] for one in found}
        missing = [one for one in added if one["digest"] not in known]
        if missing:
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*found, *missing]}
            body = json.dumps(index, separators=(",", ":")).encode()
            self._connection.put_manifest(body, OCI_INDEX, tag_of(subject))

    def _ask(self, subject: Digest, artifact_type: str) -> list[dict[str, Any]] | None:
        """Ask the API; None where there is none."""
        found: list[dict[str, Any]] = []
        url = self._connection.url(f"referrers/{subject}")
        if artifact_type:
            url += f"?artifactType={quote(artifact_type, safe='')}"
        for _ in range(MOST_PAGES):
            try:
                page = get(url, http=self._connection.http, limit=LARGEST)
            except RegistryError as error:
                if error.status in NO_API:
                    return None
                raise
            assert page is not None
            found += _entries(page.body, self._connection.reference.registry)
            if not page.following:
                return found
            url = urljoin(url, page.following)
        raise UpstreamError(f"{self._connection.reference.name}: its referrers have no end")

    def _tagged(self, subject: Digest) -> list[dict[str, Any]]:
        found = self._connection.manifest(tag_of(subject))
        return _entries(found.body, self._connection.reference.registry) if found is not None else []


def tag_of(subject: Digest) -> str:
    """Give the tag under which a registry without referrers API has what refers to a manifest."""
    return f"sha256-{subject.hex}"


def describe(body: bytes, media_type: str) -> dict[str, Any]:
    """Give the descriptor of a manifest as an index of referrers has it."""
    value = json.loads(body)
    kind = value.get("artifactType") or value.get("config", {}).get("mediaType", "")
    found = {"mediaType": media_type, "digest": str(Digest.of(body)), "size": len(body), "artifactType": kind}
    if value.get("annotations"):
        found["annotations"] = value["annotations"]
    return found


def _entries(body: bytes, registry: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(body)["manifests"]
        for one in found:
            read_descriptor(one)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckFailedError(f"{registry}: its list of referrers makes no sense: {error!r}") from None
    return list(found)
