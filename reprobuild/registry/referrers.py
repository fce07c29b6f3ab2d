"""What refers to a manifest: the referrers API, or an index under a tag where a registry has none.

Speaks the distribution specification 1.1 ("Listing Referrers", "Referrers Tag Schema"). Knows nothing of
what the manifests are about.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urljoin

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, UpstreamError
from reprobuild.fetch.document import get
from reprobuild.fetch.registry_refusal import RegistryError
from reprobuild.fetch.stranger_json import read_json
from reprobuild.images.manifest import LARGEST, OCI_INDEX, Descriptor, read_descriptor
from reprobuild.registry.connection import Connection
from reprobuild.registry.tags import SETTLE_SECONDS, TAKEN, settle

NO_API = frozenset({400, 404, 405, 406, 501})
"""What registries without referrers API answer to it."""
MOST_PAGES = 100
ATTEMPTS = 8
"""To write an index that others write at the same time."""


class Referrers:
    """Lists and writes what refers to manifests of a repository."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, subject: Digest, artifact_type: str = "") -> list[Descriptor]:
        """Give what refers to a manifest, of one type or of all. Raises UpstreamError, CheckFailedError."""
        found = self._ask(subject, artifact_type) or self._tagged(subject)
        return [one for one in map(read_descriptor, found) if artifact_type in ("", one.artifact_type)]

    def put(self, subject: Digest, manifests: Sequence[tuple[bytes, str]]) -> int:
        """Put manifests that are not listed yet, by digest, and list them; give the bytes that travelled.

        Raises UpstreamError, CheckFailedError.
        """
        known = self._ask(subject, "")
        listed = {one["digest"] for one in known or self._tagged(subject)}
        missing = [one for one in manifests if str(Digest.of(one[0])) not in listed]
        sent = 0
        lists_itself = True
        for body, media_type in missing:
            said = self._connection.put_manifest(body, media_type, str(Digest.of(body)))
            lists_itself = lists_itself and said.get("oci-subject", "") == str(subject)
            sent += len(body)
        if missing and not lists_itself:
            sent += self._list_under_tag(subject, [describe(body, kind) for body, kind in missing])
        return sent

    def _list_under_tag(self, subject: Digest, added: Sequence[dict[str, Any]]) -> int:
        """Add to the index under the fallback tag, again where others did at the same time."""
        sent = 0
        for _ in range(ATTEMPTS):
            begun = time.monotonic()
            found = self._tagged(subject)
            known = {one["digest"] for one in found}
            missing = [one for one in added if one["digest"] not in known]
            if not missing:
                return sent
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*found, *missing]}
            body = json.dumps(index, separators=(",", ":")).encode()
            self._put_index(subject, body)
            sent += len(body)
            settle(begun)
            time.sleep(random.uniform(0, SETTLE_SECONDS))  # others may be in step with us
        raise UpstreamError(
            f"{self._connection.reference.name}:{tag_of(subject)} changes each time that it is written",
            "others publish the same image now: try again when they are done",
        )

    def _put_index(self, subject: Digest, body: bytes) -> None:
        try:
            self._connection.put_manifest(body, OCI_INDEX, tag_of(subject))
        except RegistryError as error:
            if error.status not in TAKEN:
                raise
            name = self._connection.reference.name
            raise UpstreamError(
                f"{error.message}\n  {name} lists what refers to an image under the tag {tag_of(subject)}, "
                "since it has no referrers API, and does not let that tag change",
                f"let tags of the form sha256-… change in the settings of {name}",
            ) from None

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
        found = read_json(body)["manifests"]
        for one in found:
            read_descriptor(one)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckFailedError(f"{registry}: its list of referrers makes no sense: {error!r}") from None
    return list(found)
