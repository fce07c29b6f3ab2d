"""The gateway of a command in a daemon: what it carries, and what becomes of a command that gets none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import pytest

from reprobuild.engine.docker import helper
from reprobuild.engine.docker.engine import DockerEngine
from reprobuild.engine.docker.ground import Ground
from reprobuild.engine.docker.helper import Python
from reprobuild.engine.protocol import Arrival, Command, Result
from reprobuild.errors import EngineError, OfflineError
from reprobuild.events import Event, Warned
from tests.gateways import AnsweringGateway
from tests.sandboxes import Sandboxes, docker_engine, layers_of

MUCH = 64 << 20
"""Bytes: some hundred times what may be on its way."""
BLOCK = bytes(range(256)) * 4096 + bytes(64) + b"\x10\x11" * 64
"""With all that a daemon may take for a sign of something."""


@dataclass
class Streaming(AnsweringGateway):
    """Sends much on port 80; takes what comes on port 8081, and says how much and what that was."""

    ports: Sequence[int] = (8081,)
    said: list[tuple[int, str]] = field(default_factory=list)

    def _answer_stream(self, arrival: Arrival) -> None:
        with arrival.connection as stream, suppress(OSError):
            if arrival.port == 80:
                stream.recv(1 << 16)
                stream.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {MUCH}\r\n\r\n".encode())
                for at in range(0, MUCH, len(BLOCK)):
                    stream.sendall(BLOCK[: MUCH - at])
            else:
                size, hasher = 0, hashlib.sha256()
                while data := stream.recv(1 << 16):
                    size += len(data)
                    hasher.update(data)
                self.said.append((size, hasher.hexdigest()))
                stream.sendall(b"taken\n")


@pytest.fixture(params=["docker", "docker_over_tls", "podman"])
def there(request: pytest.FixtureRequest) -> Sandboxes:
    """The engine with each kind of daemon."""
    found = request.getfixturevalue(f"{request.param}_sandboxes")
    assert isinstance(found, Sandboxes)
    return found


def engine_of(there: Sandboxes) -> DockerEngine:
    assert there.daemon is not None
    return docker_engine(there.home / "store", tuple(there.daemon.items()))


@contextmanager
def ground_of(there: Sandboxes, engine: DockerEngine) -> Iterator[Ground]:
    with engine.ground(layers_of(there.lowers, engine.store)) as ground:
        yield ground


def run(there: Sandboxes, gateway: AnsweringGateway, text: str) -> tuple[Result, str]:
    printed: list[bytes] = []
    engine = engine_of(there)
    with ground_of(there, engine) as ground:
        command = Command(("/bin/sh", "-c", text), timeout=120)
        result = engine.run(ground, command, gateway=gateway, output=printed.append)
    return result, b"".join(printed).decode()


def test_much_goes_in_and_out_unchanged_however_slow_its_reader(there: Sandboxes) -> None:
    gateway = Streaming()
    result, printed = run(
        there,
        gateway,
        "wget -q -O - http://1.2.3.4/ | (sleep 1; cat) > /tmp/in; nc 1.2.3.4 8081 < /tmp/in; wc -c < /tmp/in",
    )
    assert (result.exit_code, printed) == (0, f"taken\n{MUCH}\n")
    whole = hashlib.sha256((BLOCK * (MUCH // len(BLOCK) + 1))[:MUCH]).hexdigest()
    assert gateway.said == [(MUCH, whole)]


def test_many_connections_at_once(there: Sandboxes) -> None:
    outcome = replace(there, gateway={}).python(
        "import socket\n"
        "many = [socket.create_connection((f'9.9.{n}.9', 80), 60) for n in range(200)]\n"
        "for n, one in enumerate(many):\n"
        "    one.sendall(b'x'); told = b''\n"
        "    while more := one.recv(1000): told += more\n"
        "    assert told.endswith(b'gateway 9.9.%d.9 80\\n' % n), told\n"
        "print('all')"
    )
    assert outcome.text == "all\n"
    assert len(outcome.arrived) == 200


def test_what_a_command_did_last_is_heard_of(there: Sandboxes) -> None:
    outcome = replace(there, gateway={}).python(
        "import os, socket\n"
        "asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "asked.sendto(b'question', ('9.9.9.9', 53))\n"
        "socket.create_connection(('1.2.3.4', 443)).send(b'x')\n"
        "os._exit(0)"
    )
    assert sorted(outcome.arrived) == [("tcp", "1.2.3.4", 443, ""), ("udp", "", 53, "")]


class Cutting(AnsweringGateway):
    """Cuts off whoever connects, once something has come."""

    def _answer_stream(self, arrival: Arrival) -> None:
        arrival.connection.recv(1 << 16)
        arrival.reset(arrival.connection)


def test_who_is_cut_off_inside_is_told_so_by_the_system(there: Sandboxes) -> None:
    engine, printed = engine_of(there), list[bytes]()
    text = "wget -O - http://1.2.3.4/ 2>&1"
    with ground_of(there, engine) as ground:
        command = Command(("/bin/sh", "-c", text), timeout=60)
        result = engine.run(ground, command, gateway=Cutting(), output=printed.append)
    assert result.exit_code != 0
    assert b"Connection reset by peer" in b"".join(printed)


def no_packages(_: str) -> Python:
    raise OfflineError("libc6.deb is not in the store", "leave out --offline")


@dataclass
class Without:
    """An engine whose gateways can't be had, and what it tells of that."""

    engine: DockerEngine
    there: Sandboxes
    told: list[Warned]

    def run(self, text: str, *, has_answers: bool) -> tuple[Result, AnsweringGateway]:
        gateway = AnsweringGateway(has_answers=has_answers, certificate=b"the authority\n")
        with ground_of(self.there, self.engine) as ground:
            command = Command(("/bin/sh", "-c", text), timeout=60)
            return self.engine.run(ground, command, gateway=gateway), gateway


def without(there: Sandboxes, python: Callable[[str], Python] | None) -> Without:
    told: list[Warned] = []

    def tell(event: Event) -> None:
        assert isinstance(event, Warned)
        told.append(event)

    store = engine_of(there).store
    return Without(DockerEngine(store, "", there.daemon, python=python, tell=tell), there, told)


REFUSALS = {
    "no packages": (no_packages, (), "libc6.deb is not in the store", "leave out --offline"),
    "no capability": (None, (), "a route to every address: Operation not permitted", "--engine sandbox"),
    "no Python": ("/bin/true", helper.CAPABILITIES, "has ended before the command", "--engine sandbox"),
    "no program": ("/there/is/none", helper.CAPABILITIES, "/there/is/none", "--engine sandbox"),
}


@pytest.mark.parametrize("daemon", ["docker", "podman"])
@pytest.mark.parametrize("why", REFUSALS)
def test_without_a_gateway_the_network_is_cut_and_nothing_recorded_is_run(
    request: pytest.FixtureRequest, daemon: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = request.getfixturevalue(f"{daemon}_sandboxes")
    given, capabilities, said, hint = REFUSALS[why]
    monkeypatch.setattr(helper, "CAPABILITIES", capabilities)
    engine = engine_of(there)

    def python(platform: str) -> Python:
        if callable(given):
            return given(platform)
        if given is None:
            assert engine._python is not None
            return engine._python(platform)
        return Python(layers_of(there.lowers, engine.store), given)

    scene = without(there, python)
    with pytest.raises(EngineError, match="can't answer what a command fetches") as raised:
        scene.run("echo begun > /begun", has_answers=True)
    assert said in raised.value.message and hint in raised.value.hint
    assert scene.told == []
    for _ in range(2):
        text = "cat $SSL_CERT_FILE /etc/resolv.conf; wget -q -O - http://1.2.3.4/ || exit 4"
        result, gateway = scene.run(text, has_answers=False)
        assert (result.exit_code, gateway.attended, gateway.closed) == (4, 0, 1)
        # What it sees is the same as with one.
        assert result.tail[:2] == ("the authority", "nameserver 198.18.0.1")
    (warned,) = scene.told
    assert said in warned.text and "can't be told by its name" in warned.text
    assert there.leftovers() == []


def test_a_gateway_whose_container_is_taken_away_is_an_error(there: Sandboxes) -> None:
    client = engine_of(there).daemon.client

    class Vandal(AnsweringGateway):
        def _answer_stream(self, arrival: Arrival) -> None:
            (ours,) = [one for one in client.containers() if "-I" in one["Command"]]
            client.kill(ours["Id"])
            super()._answer_stream(arrival)

    with pytest.raises(EngineError, match="the gateway's container has ended before the command"):
        run(there, Vandal(), "wget -q -O - http://1.2.3.4/; wget -q -O - http://1.2.3.4/; sleep 1")
    assert there.leftovers() == []


def test_many_ports_can_be_served(there: Sandboxes) -> None:
    gateway = AnsweringGateway(ports=range(10_000, 10_100))
    result, printed = run(there, gateway, "wget -q -O - http://1.2.3.4:10099/")
    assert (result.exit_code, printed) == (0, "gateway 1.2.3.4 10099\n")
