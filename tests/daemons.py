"""Container daemons for tests: Docker on a socket and over TCP, Podman's Docker-compatible socket.

Each starts once a test session, with a folder and sockets of its own, and without networks: containers
need ``--network none``. Where one can't be had, the test is skipped, or fails where ``REPROBUILD_REQUIRE``
names it. Daemons that run already are never touched.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.require import program, require
from tests.servers import free_port, run, server, short_folder
from tests.upstreams import Authority

POLICY = {"default": [{"type": "insecureAcceptAnything"}]}
"""Of whom Podman takes images: without such a file it takes none."""

PROCESSES = 8192
"""How many a user of Podman's containers may have."""


@dataclass(frozen=True)
class Docker:
    """The docker client, talking to one daemon."""

    client: Path
    folder: Path
    """The daemon's own, with its socket, its images and its log."""
    host: str
    """As DOCKER_HOST has it."""
    access: Mapping[str, str] = field(default_factory=dict)
    """Variables that clients need beside DOCKER_HOST."""

    @property
    def is_podman(self) -> bool:
        """Tell whether Podman answers; what has no registry in its name is ``localhost/…`` there."""
        return self.host.endswith("/podman.sock")

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which every client finds this daemon, and no settings of this machine's user."""
        return {"DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self.folder / "client"), **self.access}

    def __call__(self, *arguments: str, input: bytes | None = None) -> str:
        """Run a docker command; give what it printed. A failure shows what it said."""
        return run([str(self.client), *arguments], input=input, env=self._full_environment())

    def answers(self) -> bool:
        """Tell whether the daemon answers."""
        command = [str(self.client), "version"]
        found = subprocess.run(
            command, env=self._full_environment(), capture_output=True, check=False, timeout=20
        )
        return found.returncode == 0

    def _full_environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.environment}


@pytest.fixture(scope="session")
def _docker_on_both() -> Iterator[tuple[Docker, Docker]]:
    with short_folder() as folder:
        tcp = f"tcp://127.0.0.1:{free_port()}"
        with docker_daemon(folder, "--host", tcp, "--tls=false") as docker:
            yield docker, Docker(docker.client, folder, tcp)


@pytest.fixture(scope="session")
def docker(_docker_on_both: tuple[Docker, Docker]) -> Docker:
    """A Docker daemon on a socket."""
    return _docker_on_both[0]


@pytest.fixture(scope="session")
def docker_over_tcp(_docker_on_both: tuple[Docker, Docker]) -> Docker:
    """The same daemon, over TCP without encryption."""
    return _docker_on_both[1]


@pytest.fixture(scope="session")
def docker_over_tls() -> Iterator[Docker]:
    """Another Docker daemon, over TCP, for clients with a certificate alone."""
    with short_folder() as folder:
        authority = Authority(folder)
        address = f"tcp://127.0.0.1:{free_port()}"
        served = authority.issue("127.0.0.1")
        tls = ["--tlsverify", f"--tlscacert={authority.path}", f"--tlscert={served}", f"--tlskey={served}"]
        client = folder / "certificates"
        client.mkdir()
        # Under the names that docker's clients look for ("Protect the Docker daemon socket").
        issued = authority.issue("client").read_bytes()
        for name, content in (("ca", authority.path.read_bytes()), ("cert", issued), ("key", issued)):
            (client / f"{name}.pem").write_bytes(content)
        access = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(client)}
        with docker_daemon(folder, "--host", address, *tls) as on_socket:
            yield Docker(on_socket.client, folder, address, access)


@pytest.fixture(scope="session")
def podman() -> Iterator[Docker]:
    """Podman's Docker-compatible socket, talked to by the docker client."""
    with short_folder() as folder, podman_service(folder) as podman:
        yield podman


DAEMONS = ("docker", "docker_over_tcp", "docker_over_tls", "podman")


@pytest.fixture(params=DAEMONS)
def daemon(request: pytest.FixtureRequest) -> Docker:
    """Each of them, one test each."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Docker)
    return found


@contextmanager
def docker_daemon(folder: Path, *more: str) -> Iterator[Docker]:
    """Run a Docker daemon without networks, on a socket; ``more``: options beside.

    ``folder``: with a path short enough for a socket.
    """
    client = program("docker")
    daemon = program("dockerd")
    require("dockerd", "" if os.geteuid() == 0 else "dockerd needs root")
    docker = Docker(client, folder, f"unix://{folder}/docker.sock")
    command = [str(daemon), "--host", docker.host, "--data-root", str(folder / "data")]
    command += ["--exec-root", str(folder / "exec"), "--pidfile", str(folder / "dockerd.pid")]
    command += ["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false", *more]
    try:
        with server("dockerd", command, folder / "dockerd.log", docker.answers):
            yield docker
    finally:
        _unmount_below(folder)


@contextmanager
def podman_service(folder: Path) -> Iterator[Docker]:
    """Run Podman's service, with containers and images of its own.

    ``folder``: with a path short enough for a socket.
    """
    client = program("docker")
    binary = program("podman")
    require("podman", "" if os.geteuid() == 0 else "podman needs root, or a range of uids")
    podman = Docker(client, folder, f"unix://{folder}/podman.sock")
    settings = folder / "containers.conf"
    # Podman's own defaults are more than a container around it may have.
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limits = f'["nofile={files}:{files}", "nproc={PROCESSES}:{PROCESSES}"]'
    settings.write_text(f"[containers]\ndefault_ulimits = {limits}\n")
    policy = folder / ".config" / "containers" / "policy.json"
    policy.parent.mkdir(parents=True)
    policy.write_text(json.dumps(POLICY))
    for name in ("tmp", "libpod"):
        (folder / name).mkdir()
    environment = {"CONTAINERS_CONF": str(settings), "TMPDIR": str(folder / "tmp"), "HOME": str(folder)}
    base = [str(binary), "--root", str(folder / "root"), "--runroot", str(folder / "run")]
    base += ["--tmpdir", str(folder / "libpod"), "--events-backend", "none", "--cgroup-manager", "cgroupfs"]
    command = [*base, "system", "service", "--time", "0", podman.host]
    try:
        with server("podman", command, folder / "podman.log", podman.answers, environment):
            try:
                yield podman
            finally:
                # They live on without the service.
                run([*base, "rm", "--all", "--force", "--time", "0"], env={**os.environ, **environment})
    finally:
        _unmount_below(folder)


def _unmount_below(folder: Path) -> None:
    """Unmount what a daemon left mounted below a folder, so that the folder can go."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    mounted = [line.split(" ")[4] for line in lines]
    for place in reversed([path for path in mounted if path.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", place], capture_output=True, check=False, timeout=20)
