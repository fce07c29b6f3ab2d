"""Credentials for registries, from where Docker and Podman keep them: their config files and helpers.

``docker login`` and ``podman login`` write them (docker/cli, cli/config; containers-auth.json(5)); helpers
speak the protocol of docker-credential-helpers. Nothing is ever written. Knows nothing of requests.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprobuild.derivation.image_reference import DOCKER_HUB, DOCKER_HUB_NAMES
from reprobuild.errors import OutsideError, UsageError
from reprobuild.fetch.stranger_json import read_json
from reprobuild.process import run_program

HELPER_SECONDS = 60.0
LARGEST = 4 * 1024 * 1024
_HELPER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
_TOKEN_USER = "<token>"
"""What a helper gives as the user name of an identity token."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks a registry."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """Given instead of both, to be exchanged for access tokens (OAuth 2)."""


class DockerCredentials:
    """What Docker's and Podman's files say of registries; read when first asked."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._configs: list[tuple[Path, dict[str, Any]]] | None = None

    def find(self, registry: str) -> Credentials | None:
        """Give the credentials for a registry (``docker.io``, ``registry.test:5000``), or None.

        Raises UsageError for a file that cannot be read, OutsideError for a helper that fails.
        """
        if self._configs is None:
            self._configs = list(self._read())
        for path, config in self._configs:
            found = self._from_config(path, config, registry)
            if found is not None:
                return found
        return None

    def _read(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in self._paths():
            try:
                with path.open("rb") as file:
                    data = file.read(LARGEST)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise UsageError(f"{path}: {error.strerror}", "let it be readable, or remove it") from None
            try:
                config = read_json(data) if data.strip() else {}
                if not isinstance(config, dict):
                    raise ValueError("no object")
            except ValueError as error:
                raise UsageError(f"{path} is no JSON: {error}", "mend or remove it") from None
            yield path, config

    def _paths(self) -> Iterator[Path]:
        said = self._environment
        home = said.get("HOME") or os.path.expanduser("~")
        if named := said.get("REGISTRY_AUTH_FILE"):
            yield Path(named)
        yield Path(said.get("DOCKER_CONFIG") or f"{home}/.docker") / "config.json"
        if runtime := said.get("XDG_RUNTIME_DIR"):
            yield Path(runtime) / "containers" / "auth.json"
        yield Path(said.get("XDG_CONFIG_HOME") or f"{home}/.config") / "containers" / "auth.json"

    def _from_config(self, path: Path, config: Mapping[str, Any], registry: str) -> Credentials | None:
        names = _names(registry)
        helpers = config.get("credHelpers")
        for name in names:
            if isinstance(helpers, dict) and isinstance(helpers.get(name), str):
                return self._ask(helpers[name], name, path)
        store = config.get("credsStore")
        if isinstance(store, str) and store:
            for name in names:
                found = self._ask(store, name, path)
                if found is not None:
                    return found
        auths = config.get("auths")
        for name in names:
            entry = auths.get(name) if isinstance(auths, dict) else None
            if isinstance(entry, dict):
                found = _from_entry(entry, path, name)
                if found is not None:
                    return found
        return None

    def _ask(self, helper: str, server: str, path: Path) -> Credentials | None:
        """Ask a helper; None where it has nothing for a server."""
        if not _HELPER.fullmatch(helper):
            raise UsageError(f"{path}: {helper!r} is no name of a credential helper")
        name = f"docker-credential-{helper}"
        program = shutil.which(name, path=self._environment.get("PATH"))
        if program is None:
            raise OutsideError(
                f"{path} names the credential helper {name}, which is not installed",
                f"install {name}, or take it out of {path}",
            )
        try:
            ended = run_program(
                [program, "get"], env=self._environment, limit=HELPER_SECONDS, given=server.encode()
            )
        except OSError as error:
            raise OutsideError(
                f"{name} does not answer: {error}", f"try: echo {server} | {name} get"
            ) from None
        said = ended.output[:LARGEST].decode("utf-8", "replace").strip()
        if ended.code:
            if "not found" in said.lower() or "no credentials" in said.lower():
                return None
            last = said or ended.messages.decode("utf-8", "replace").strip().rpartition("\n")[2]
            shown = "".join(char if char.isprintable() else " " for char in last[:200])
            raise OutsideError(f"{name} fails for {server}: {shown}", f"try: echo {server} | {name} get")
        try:
            found = read_json(said)
            user, secret = found["Username"], found["Secret"]
            if not isinstance(user, str) or not isinstance(secret, str):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise OutsideError(f"{name} answers for {server} what makes no sense") from None
        if user == _TOKEN_USER:
            return Credentials(identity_token=secret)
        return Credentials(user, secret) if user else None


def _names(registry: str) -> list[str]:
    """Give the names under which a registry may be kept, the usual one first."""
    if registry in DOCKER_HUB_NAMES:
        hosts = ["https://index.docker.io/v1/", DOCKER_HUB, *sorted(DOCKER_HUB_NAMES - {DOCKER_HUB})]
        return hosts
    return [registry, *(f"{scheme}://{registry}{path}" for scheme in ("https", "http")
                        for path in ("", "/", "/v1/", "/v2/"))]  # fmt: skip


def _from_entry(entry: Mapping[str, Any], path: Path, name: str) -> Credentials | None:
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(identity_token=token)
    encoded = entry.get("auth")
    if isinstance(encoded, str) and encoded:
        try:
            user, colon, password = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, ValueError):
            colon = ""
        if not colon:
            raise UsageError(f"{path}: what it has for {name} cannot be read", f"docker login {name}")
        return Credentials(user, password.rstrip("\0"))
    given, secret = entry.get("username"), entry.get("password")
    if isinstance(given, str) and isinstance(secret, str) and given:
        return Credentials(given, secret)
    return None
