"""References to images, read as container engines read them: of a registry, or of files beside the recipe.

The grammar of names is that of ``distribution/reference`` (reference/regexp.go). Knows nothing of what a
registry has, nor of how it is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reprobuild.digest import Digest

DOCKER_HUB = "docker.io"
"""What a name without a registry means."""
DOCKER_HUB_SERVER = "registry-1.docker.io"
DOCKER_HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", DOCKER_HUB_SERVER})

OCI_LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE = "oci-layout", "oci-archive", "docker-archive"
LOCAL_KINDS = (OCI_LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE)

_HOST = re.compile(r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class RegistryReference:
    """An image in a repository of a registry."""

    registry: str
    """Host, and port where it is no usual one: ``docker.io``, ``registry.test:5000``."""
    repository: str
    """``library/python``."""
    tag: str = ""
    digest: Digest | None = None
    """Of an index or a manifest; it wins over the tag."""

    @property
    def name(self) -> str:
        """Registry and repository: ``docker.io/library/python``."""
        return f"{self.registry}/{self.repository}"

    @property
    def asked(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return str(self.digest) if self.digest is not None else self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest is not None else "")


@dataclass(frozen=True, slots=True)
class LocalReference:
    """An image in files of the recipe's folder."""

    kind: str
    """``oci-layout``, ``oci-archive`` or ``docker-archive``."""
    path: str
    """Relative to the recipe's folder."""
    name: str = ""
    """Which image of several: a tag, or for an OCI layout a digest; empty where there is one alone."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}" + (f":{self.name}" if self.name else "")


Reference = RegistryReference | LocalReference


def read_reference(text: str) -> Reference:
    """Read a reference: ``python:3.7-slim``, ``registry.test:5000/x@sha256:…``, ``oci-layout:./base``.

    Raises ValueError, saying what is wrong with it.
    """
    if not text.strip():
        raise ValueError("an image is needed, as repository:tag: 'python:3.7-slim'")
    kind, colon, rest = text.partition(":")
    if colon and kind in LOCAL_KINDS:
        return _read_local(kind, rest)
    if "://" in text:
        raise ValueError("a reference has no scheme: write registry/repository:tag")
    name, at, digest = text.partition("@")
    registry, repository, tag = _split_name(name)
    if not _HOST.fullmatch(registry):
        raise ValueError(f"{registry!r} is no name of a registry")
    if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
        raise ValueError(
            f"{repository!r} is no name of a repository: lower-case letters, digits, '.', '_', '-'"
        )
    if tag and not _TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} is no tag")
    if at:
        return RegistryReference(registry, repository, tag, _digest(digest))
    return RegistryReference(registry, repository, tag or "latest")


def _split_name(name: str) -> tuple[str, str, str]:
    """Give registry, repository and tag (or nothing) of a name, Docker Hub's rules applied."""
    first, slash, rest = name.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost" or first != first.lower())
    registry, path = (first, rest) if is_host else (DOCKER_HUB, name)
    repository, _, tag = path.partition(":")
    if registry in DOCKER_HUB_NAMES:
        registry = DOCKER_HUB
        if "/" not in repository:
            repository = f"library/{repository}"
    return registry, repository, tag


def _read_local(kind: str, rest: str) -> LocalReference:
    path, at, digest = rest.partition("@")
    name = ""
    if at:
        if kind == DOCKER_ARCHIVE:
            raise ValueError("an image of a docker archive is named by its tag: docker-archive:PATH:NAME:TAG")
        name = str(_digest(digest))
    else:
        path, _, name = rest.partition(":")
    if not path.strip("./"):
        raise ValueError(f"{kind}: needs a path below the recipe's folder")
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError(f"{path!r} leads outside the recipe's folder")
    return LocalReference(kind, path, name)


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except ValueError:
        raise ValueError(f"{text!r} is no digest: sha256: and 64 hex digits") from None
