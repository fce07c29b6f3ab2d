"""Connects to a daemon that speaks Docker's API: Docker or Podman, here or elsewhere.

Knows nothing of trees or commands.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple, Self

from reprobuild.engine.docker.context import Endpoint, chosen, usual
from reprobuild.errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from docker import APIClient
    from docker.tls import TLSConfig

    from reprobuild.engine.docker.tunnel import Tunnel

_SNAPSHOTTER = "io.containerd.snapshotter"

ANSWER_SECONDS = 20
"""How long a daemon may take to say who it is."""

PATIENCE_SECONDS = 600
"""How long it may be silent later: it is, while it unpacks a layer."""


_GO_FOLDER = 1 << 31
_GO_LINK = 1 << 27
_GO_SPECIAL = 1 << 26 | 1 << 25 | 1 << 24
"""Devices, fifos, sockets."""
_GO_BITS = {11: 1 << 23, 10: 1 << 22, 9: 1 << 20}
"""Set-user-ID, set-group-ID and sticky, by their places in Linux's modes."""


class Seen(NamedTuple):
    """What is at a path of a container."""

    target: str
    """Of a link; else empty."""
    is_folder: bool
    is_special: bool
    mode: int
    """Permission bits, 0 to 0o7777."""
    mtime: int
    """Whole seconds since the epoch."""


def _seconds(time: str) -> int:
    """Read a time as Go writes it (RFC 3339); 0 for one that makes no sense."""
    import datetime

    try:
        return int(datetime.datetime.fromisoformat(time[:19] + "+00:00").timestamp())
    except ValueError:
        return 0


class Daemon:
    """A daemon that has answered; a context manager."""

    def __init__(self, client: APIClient, host: str, tunnel: Tunnel | None = None) -> None:
        """Ask it who it is."""
        self.client: Any = client
        """A ``docker.APIClient``; half of what it can is not in its stubs."""
        self.host = host
        """``unix:///run/docker.sock``"""
        self._tunnel = tunnel
        told = client.version()
        components = [one for one in told.get("Components") or [] if isinstance(one, dict)]
        self.is_podman = any("podman" in str(one.get("Name", "")).lower() for one in components)
        self.kind = "Podman" if self.is_podman else "Docker"
        self.version = str(told.get("Version", "of an unknown version"))
        self.name = f"{self.kind} {self.version}, {host}"
        """``Docker 20.10.24, unix:///run/docker.sock``"""
        self.platform = f"{told.get('Os', 'linux')}/{told.get('Arch', 'amd64')}"
        """``linux/amd64``"""
        self.has_init = True
        """Whether it has an init for containers, until it is known that it has none."""

    @cached_property
    def _info(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.client.info()
        return found

    @property
    def has_filter(self) -> bool:
        """Tell whether its containers can have a filter of system calls."""
        return any("seccomp" in str(one) for one in self._info.get("SecurityOptions") or ())

    @property
    def limits_memory(self) -> bool:
        """Tell whether it can limit the memory of a container."""
        return bool(self._info.get("MemoryLimit"))

    @property
    def has_native_differences(self) -> bool:
        """Tell whether what a container wrote lies by itself, in an overlay's folder, whose size it tells."""
        status = [list(map(str, pair)) for pair in self._info.get("DriverStatus") or ()]
        is_overlay = self._info.get("Driver") == "overlay2" and not self.is_podman
        return is_overlay and ["Native Overlay Diff", "true"] in status

    @property
    def has_snapshotter(self) -> bool:
        """Tell whether containerd keeps its images: then all layers of what is loaded have to come."""
        status = self._info.get("DriverStatus") or ()
        return any(_SNAPSHOTTER in str(value) for pair in status for value in pair)

    def ask(self, method: str, path: str, *, api: str = "", **more: Any) -> Any:
        """Make a request that the SDK has no call for; give the ``requests.Response``.

        ``api``: before the path in place of the API's version. Raises ``docker.errors.APIError``.
        """
        import requests
        from docker.errors import create_api_error_from_http_exception

        url = f"{self.client.base_url}/{api or f'v{self.client.api_version}'}{path}"
        # Else Docker compresses archives, slowly.
        headers = {"Accept-Encoding": "identity"}
        response = self.client.request(method, url, timeout=PATIENCE_SECONDS, headers=headers, **more)
        try:
            response.raise_for_status()
        except requests.HTTPError as error:
            with response:
                create_api_error_from_http_exception(error)  # raises
        return response

    def look(self, container: str, path: str) -> Seen | None:
        """Tell what is at a path of a container, following no last link; None: nothing.

        Docker's API, "Get information about files in a container"; the modes are those of Go's os.FileMode.
        """
        import base64
        import json

        from docker.errors import NotFound

        try:
            where = f"/containers/{container}/archive"
            with self.ask("HEAD", where, params={"path": path}) as response:
                told = json.loads(base64.b64decode(response.headers["X-Docker-Container-Path-Stat"]))
        except NotFound:
            return None
        mode = int(told.get("mode", 0))
        bits = (1 << place for place in _GO_BITS if mode & _GO_BITS[place])
        return Seen(
            target=str(told.get("linkTarget") or "") if mode & _GO_LINK else "",
            is_folder=bool(mode & _GO_FOLDER),
            is_special=bool(mode & _GO_SPECIAL),
            mode=mode & 0o777 | sum(bits),
            mtime=_seconds(str(told.get("mtime", ""))),
        )

    def close(self) -> None:
        """Close its connections."""
        self.client.close()
        if self._tunnel is not None:
            self._tunnel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(environment: Mapping[str, str]) -> Daemon:
    """Connect to the daemon of ``DOCKER_HOST``, else of the docker context in use, else at a usual socket.

    Raises EngineError, with what to do, where none answers.
    """
    endpoint = chosen(environment)
    if endpoint is not None:
        return _connect(endpoint)
    tried: list[EngineError] = []
    for path in usual(environment):
        if not _is_socket(path):
            continue
        try:
            return _connect(Endpoint(f"unix://{path}", ""))
        except EngineError as error:
            tried.append(error)
    if tried:
        raise tried[0]
    raise EngineError(
        "no daemon of Docker or Podman is running here",
        "start one, or name one: DOCKER_HOST=unix:///run/docker.sock, tcp://HOST:2376 or ssh://USER@HOST",
    )


def _is_socket(path: str) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISSOCK(os.stat(path).st_mode)
    return False


def _connect(endpoint: Endpoint) -> Daemon:
    # Imported here: half of what the SDK loads is slow, and most calls need no daemon.
    import requests
    from docker.errors import DockerException

    from reprobuild.engine.docker.client import Client

    tunnel = None
    host = endpoint.host
    if host.startswith("ssh:"):
        from reprobuild.engine.docker.tunnel import Tunnel

        tunnel = Tunnel(host)
        host = f"unix://{tunnel.path}"
    shown = endpoint.host + (f" (of {endpoint.origin})" if endpoint.origin else "")
    try:
        if host.startswith("unix://"):
            _knock(host.removeprefix("unix://"))
        tls = _tls(endpoint) if endpoint.certificates else False
        client = Client(host, version="auto", timeout=ANSWER_SECONDS, tls=tls)
        daemon = Daemon(client, endpoint.host, tunnel)
    except (DockerException, requests.RequestException, OSError, ValueError) as error:
        said = tunnel.said() if tunnel is not None else ""
        if tunnel is not None:
            tunnel.close()
        why, hint = _explain(error, said)
        raise EngineError(f"the daemon at {shown} does not answer: {why}", hint) from error
    client.timeout = PATIENCE_SECONDS
    return daemon


def _knock(path: str) -> None:
    """Raise OSError where nobody listens: the SDK leaves an open socket behind then."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)


def _tls(endpoint: Endpoint) -> TLSConfig:
    from docker.tls import TLSConfig

    ca, cert, key = (f"{endpoint.certificates}/{name}.pem" for name in ("ca", "cert", "key"))
    return TLSConfig(
        client_cert=(cert, key) if os.path.exists(cert) else None,
        ca_cert=ca if os.path.exists(ca) else None,
        verify=endpoint.is_verified,
    )


def _explain(error: BaseException, said: str) -> tuple[str, str]:
    """Say why a daemon did not answer, and what to do."""
    chain: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    text = said or _plain(chain)
    if any(isinstance(one, PermissionError) for one in chain):
        return (
            "permission denied",
            "sudo usermod -aG docker $USER, then log in anew; or use a rootless daemon",
        )
    if any(isinstance(one, FileNotFoundError | ConnectionRefusedError) for one in chain):
        return "nothing listens there", "start the daemon, or set DOCKER_HOST to another"
    return text, "check it with: docker version"


def _plain(chain: list[BaseException]) -> str:
    """Give the innermost reason: what lies around it repeats it, wrapped in names of classes."""
    inner = chain[-1]
    return str(inner.strerror if isinstance(inner, OSError) and inner.strerror else inner)
