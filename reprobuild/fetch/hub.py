"""Where files of a model hub can be had, and how a hub is asked.

The hub itself, or another with the same addresses (settings and step name them). A token goes to the hub of
its own alone, and no redirect takes it along. Knows nothing of layouts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Hub
from reprobuild.errors import UpstreamError
from reprobuild.fetch.download import Download
from reprobuild.settings import Settings

if TYPE_CHECKING:
    from reprobuild.fetch.http import Response
    from reprobuild.fetch.transfer import Asked

ENDPOINT = "https://huggingface.co"
"""Whose tokens are known here."""
FOLDERS = {"model": "", "dataset": "datasets/", "space": "spaces/"}


def endpoints(step: Hub, settings: Settings) -> tuple[str, ...]:
    """Give the hubs that may have a repository: mirrors of settings, the hub itself, the step's mirrors."""
    found = (*settings.hub_mirrors, ENDPOINT, *step.mirrors)
    return tuple(dict.fromkeys(endpoint.rstrip("/") for endpoint in found))


def address(endpoint: str, step: Hub, path: str) -> str:
    """Give the address of a file of a step's revision."""
    name = FOLDERS[step.repository_kind] + step.repository
    return f"{endpoint}/{name}/resolve/{step.revision}/{quote(path)}"


def downloads(step: Hub, pins: Sequence[Pin], settings: Settings) -> list[Download]:
    """Give a download for each pin."""
    hubs = endpoints(step, settings)
    return [
        Download(
            name=f"{step.repository}/{pin.name}",
            urls=tuple(address(hub, step, pin.name) for hub in hubs),
            sha256=pin.sha256,
            size=pin.size,
            where=str(step.where),
            site=HubSite(),
        )
        for pin in pins
    ]


def token(environment: Mapping[str, str]) -> str:
    """Give the token that ``hf auth login`` or the environment left, or ``""``."""
    if said := environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN"):
        return _sendable(said)
    caches = environment.get("XDG_CACHE_HOME") or os.path.join(environment.get("HOME", ""), ".cache")
    home = environment.get("HF_HOME") or os.path.join(caches, "huggingface")
    path = Path(environment.get("HF_TOKEN_PATH") or os.path.join(home, "token"))
    try:
        found = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return _sendable(found)


def _sendable(said: str) -> str:
    """Give a token as a header can carry it; ``""`` for what is none."""
    said = said.strip()
    return said if said.isascii() and said.isprintable() else ""


class HubSite:
    """How a hub is asked."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._token = token(environment)

    def headers(self, url: str) -> Mapping[str, str]:
        """Prove who asks, to the hub alone that gave the token."""
        if not self._token or not url.startswith(ENDPOINT + "/"):
            return {}
        return {"Authorization": f"Bearer {self._token}"}

    def follow(self, response: Response, url: str) -> Asked | None:
        """Take an answer as it is; raises UpstreamError, in words, where the hub says what is wrong."""
        if response.status not in (401, 403, 404):
            return None
        what = response.headers.get("x-error-code", "")
        if what == "GatedRepo":
            raise UpstreamError(
                f"{response.url}: conditions have to be accepted before it is given",
                "accept them on the repository's page, and set HF_TOKEN to a token of that account",
            )
        if what == "RepoNotFound":
            raise UpstreamError(
                f"{response.url}: the hub has no such repository, or it is private",
                "mend its name; for a private one, set HF_TOKEN or: hf auth login",
            )
        if what == "RevisionNotFound":
            raise UpstreamError(
                f"{response.url}: the repository has no such revision",
                "take one from its page of commits; those of a branch that was rewritten go away",
            )
        if what == "EntryNotFound":
            raise UpstreamError(
                f"{response.url}: the revision has no such file", "name files of it: files=[…]"
            )
        return None
