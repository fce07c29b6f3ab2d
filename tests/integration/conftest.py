"""Fixtures of tests with sandboxes, servers and stand-ins for the world."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.apt_machine import archive, debian, machine, mirror
from tests.daemons import Docker
from tests.engines import Engines, fetch_packages
from tests.misbehaving import Misbehaving
from tests.own_recipes import own_recipes
from tests.pushing import Pusher
from tests.recorded import Bench, make_bench
from tests.require import require
from tests.roots import busybox_root, give_to
from tests.sandboxes import IDENTITIES, Sandboxes, ordinary_uid, shared_folder
from tests.shops import built, own_shop, shop
from tests.sites.push import PushSite, ScopedTokens
from tests.upstreams import Upstreams, upstreams

__all__ = ["archive", "built", "debian", "machine", "mirror", "own_recipes", "own_shop", "shop"]
"""Fixtures of tests with Debian packages, of those with our recipes, and of those that publish."""


@pytest.fixture(scope="session")
def all_sandboxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Sandboxes]]:
    """The engine as each identity that can be had here, each with a busybox tree of its own."""
    identities = IDENTITIES if os.geteuid() == 0 else ("user",)
    package = tmp_path_factory.mktemp("busybox") / "root"
    busybox_root(package)
    with ExitStack() as stack:
        made = {}
        for identity in identities:
            # Root's lies where nobody else can go, as a store below /root does.
            home = stack.enter_context(shared_folder(ordinary_uid() if identity == "user" else 0))
            if identity == "root":
                home.chmod(0o700)
            root = home / "root"
            _copy(package, root)
            made[identity] = Sandboxes(identity, home, (root,))
            if os.geteuid() == 0:
                give_to(root, made[identity].uid)
        yield made


@pytest.fixture(params=IDENTITIES)
def sandboxes(request: pytest.FixtureRequest, all_sandboxes: dict[str, Sandboxes]) -> Sandboxes:
    """The engine as root and as an ordinary user, one test each."""
    require("root", "" if request.param in all_sandboxes else "the tests do not run as root")
    return all_sandboxes[request.param]


@pytest.fixture(scope="session")
def docker_sandboxes(docker: Docker) -> Iterator[Sandboxes]:
    """The engine for daemons, with a Docker daemon of our own and the same busybox tree."""
    yield from _in_daemon("docker", docker)


@pytest.fixture(scope="session")
def docker_over_tls_sandboxes(docker_over_tls: Docker) -> Iterator[Sandboxes]:
    """The same over TCP with TLS, with another daemon."""
    yield from _in_daemon("docker_over_tls", docker_over_tls)


@pytest.fixture(scope="session")
def podman_sandboxes(podman: Docker) -> Iterator[Sandboxes]:
    """The same with Podman."""
    yield from _in_daemon("podman", podman)


def _in_daemon(identity: str, daemon: Docker) -> Iterator[Sandboxes]:
    with shared_folder(os.geteuid()) as home:
        busybox_root(home / "root")
        yield Sandboxes(identity, home, (home / "root",), daemon=daemon.environment)


@pytest.fixture(params=(*IDENTITIES, "docker"))
def worlds(request: pytest.FixtureRequest) -> Sandboxes:
    """Both engines, the sandbox as each identity: what a command sees and leaves is the same in all."""
    return _world(request)


@pytest.fixture(params=(*IDENTITIES, "docker", "docker_over_tls", "podman"))
def all_worlds(request: pytest.FixtureRequest) -> Sandboxes:
    """The same with every kind of daemon: what a command reaches is the same in all."""
    return _world(request)


def _world(request: pytest.FixtureRequest) -> Sandboxes:
    if request.param in IDENTITIES:
        made = request.getfixturevalue("all_sandboxes")
        require("root", "" if request.param in made else "the tests do not run as root")
        found = made[request.param]
    else:
        found = request.getfixturevalue(f"{request.param}_sandboxes")
    assert isinstance(found, Sandboxes)
    return found


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    """Real clients, in a store of the session's own."""
    with make_bench() as bench:
        yield bench


@pytest.fixture(scope="session")
def gateway_packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The packages of gateways' containers."""
    return fetch_packages(tmp_path_factory.mktemp("gateway-packages") / "store")


@pytest.fixture
def docker_engine(docker: Docker, gateway_packages: list[Path]) -> Engines:
    """Gives projects a Docker daemon for their commands."""
    return Engines(docker, gateway_packages)


@pytest.fixture
def server() -> Iterator[Misbehaving]:
    """A web server that does what a test tells it to."""
    with Misbehaving() as running:
        yield running


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Upstreams]:
    """Stand-ins for the servers of the world, gone when the test ends."""
    with upstreams(tmp_path) as net:
        yield net


@pytest.fixture
def site(net: Upstreams) -> PushSite:
    """A stand-in for a registry that is pushed to."""
    made = PushSite()
    net.add("registry.test", made)
    return made


@pytest.fixture
def pusher(net: Upstreams, site: PushSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pusher:
    """Who pushes there, waiting little before another try."""
    monkeypatch.setattr("reprobuild.fetch.transfer.FIRST_DELAY", 0.01)
    monkeypatch.setattr("reprobuild.registry.tags.SETTLE_SECONDS", 0.01)
    return Pusher(tmp_path, "registry.test", net.environment())


@pytest.fixture
def tokens(net: Upstreams, site: PushSite, pusher: Pusher) -> ScopedTokens:
    """The token server that the registry names, which gives tokens to ``me`` with ``secret``."""
    made = ScopedTokens("me", "secret")
    net.add("auth.test", made)
    pusher.environment = net.environment()
    site.tokens = made
    return made


def _copy(source: Path, target: Path) -> None:
    import shutil

    shutil.copytree(source, target, symlinks=True)
