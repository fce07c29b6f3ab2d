"""Reads which daemon the docker command line talks to: ``DOCKER_HOST``, else the docker context in use.

Contexts are files of the docker command line (docker/cli, ``cli/context/store``):
``contexts/meta/<sha256 of the name>/meta.json`` and ``contexts/tls/<the same>/docker/*.pem`` in its
configuration folder. Knows nothing of what is said to a daemon.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping

from reprobuild.errors import EngineError
from reprobuild.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Endpoint(Value):
    """Where a daemon listens."""

    host: str
    """``unix:///run/docker.sock``, ``tcp://host:2376``, ``ssh://user@host``."""
    origin: str
    """What named it, for errors: ``DOCKER_HOST``, ``the docker context 'far'``."""
    certificates: str = ""
    """A folder with ``ca.pem``, ``cert.pem``, ``key.pem``; empty: no TLS."""
    is_verified: bool = True
    """Whether the daemon's certificate is checked, with TLS."""


def chosen(environment: Mapping[str, str]) -> Endpoint | None:
    """Give the endpoint that the user has chosen; None: none, so the usual sockets are.

    Raises EngineError for a context that is not there or can't be read.
    """
    host = environment.get("DOCKER_HOST", "")
    folder = environment.get("DOCKER_CONFIG") or os.path.join(_home(environment), ".docker")
    if host:
        named = environment.get("DOCKER_CERT_PATH", "")
        verified = bool(environment.get("DOCKER_TLS_VERIFY", ""))
        certificates = (named or folder) if named or verified else ""
        return Endpoint(host, "DOCKER_HOST", certificates, verified)
    context = environment.get("DOCKER_CONTEXT") or _read(f"{folder}/config.json").get("currentContext")
    if not context or context == "default":
        return None
    return _of_context(str(context), folder)


def _of_context(name: str, folder: str) -> Endpoint:
    key = hashlib.sha256(name.encode()).hexdigest()
    found = _read(f"{folder}/contexts/meta/{key}/meta.json")
    if not found:
        raise EngineError(
            f"there is no docker context {name!r}", "docker context ls; docker context use NAME"
        )
    endpoint = (found.get("Endpoints") or {}).get("docker") or {}
    host = endpoint.get("Host") if isinstance(endpoint, dict) else None
    if not isinstance(host, str) or not host:
        raise EngineError(f"the docker context {name!r} names no host", f"docker context inspect {name}")
    certificates = f"{folder}/contexts/tls/{key}/docker"
    return Endpoint(
        host,
        f"the docker context {name!r}",
        certificates if os.path.isdir(certificates) else "",
        not endpoint.get("SkipTLSVerify", False),
    )


def usual(environment: Mapping[str, str]) -> list[str]:
    """Give the sockets at which Docker and Podman listen by default: root's, then the user's."""
    own = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return [
        "/var/run/docker.sock",
        f"{own}/docker.sock",
        "/run/podman/podman.sock",
        f"{own}/podman/podman.sock",
    ]


def _home(environment: Mapping[str, str]) -> str:
    return environment.get("HOME") or os.path.expanduser("~")


def _read(path: str) -> dict[str, Any]:
    """Read a JSON object; nothing where there is no such file."""
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EngineError(f"{path}: {error}", "mend or remove it, or set DOCKER_HOST") from error
    return found if isinstance(found, dict) else {}
