"""Runs commands in the sandbox engine as root and as an ordinary user, whoever runs the tests.

Where root runs them, an ordinary user is a process of its own that takes another uid for good: this
file is its program too. Knows nothing of stores.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from reprobuild.engine.docker.engine import DockerEngine
from reprobuild.engine.docker.helper import Python
from reprobuild.engine.protocol import Command, Engine, Ground, RawChange, Result
from reprobuild.engine.sandbox import SandboxEngine
from reprobuild.errors import OutsideError, ReprobuildError
from reprobuild.store.checkouts import Checkout
from reprobuild.store.owner import choose_owner
from reprobuild.store.store import Store
from reprobuild.tree import Layer, directory, file, link
from reprobuild.value import fields as fields_of
from reprobuild.value import replace
from tests.gateways import AnsweringGateway
from tests.require import require
from tests.servers import run

ORDINARY_UID = 54321
"""Somebody who is not there: nothing on the machine belongs to them."""

IDENTITIES = ("root", "user")
PROJECT = Path(__file__).resolve().parent.parent


class Recorded:
    """A capture that keeps what it is given."""

    def __init__(self) -> None:
        self.changes: list[RawChange] = []
        self.bodies: dict[str, bytes] = {}

    def add(self, change: RawChange, body: BinaryIO | None) -> None:
        self.changes.append(change)
        if body is not None:
            self.bodies[change.path] = body.read()

    def summary(self) -> list[tuple[str, str]]:
        return [(change.path, change.kind) for change in self.changes]

    def __getitem__(self, path: str) -> RawChange:
        return next(change for change in self.changes if change.path == path and change.kind != "opaque")


@dataclass
class Outcome:
    """What a command did."""

    result: Result
    capture: Recorded
    printed: bytes
    arrived: list[tuple[str, str, int, str]] = field(default_factory=list)
    """What came to the gateway: protocol, address, port, program."""

    @property
    def text(self) -> str:
        return self.printed.decode()


@dataclass(frozen=True)
class Sandboxes:
    """The engine as one identity, with a tree that belongs to whom the engine runs commands as."""

    identity: str
    home: Path
    """A folder of the identity's own that both can reach."""
    lowers: tuple[Path, ...]
    base: Command = field(default_factory=lambda: Command(("/bin/true",), timeout=60))
    gateway: Mapping[str, Any] | None = None
    """Fields of an AnsweringGateway for each command; None: no gateway."""
    daemon: Mapping[str, str] | None = None
    """What names a daemon: then commands run there; None: in the sandbox."""
    held: str = ""
    """Commands are held back, and begin ``late``, with a file of that name in their inputs, or ``never``."""

    @property
    def uid(self) -> int:
        """Whom things belong to that are made inside, seen from outside."""
        if self.identity == "root":
            owner = choose_owner()
            assert owner is not None
            return owner
        return ordinary_uid()

    def run(self, command: Command, *, capture: bool = False, stdin: bytes | None = None) -> Outcome:
        """Run a command; raises what the engine raises."""
        if self.daemon is not None:
            return perform(
                self.home,
                self.lowers,
                command,
                daemon=self.daemon,
                gateway=self.gateway,
                capture=capture,
                stdin=stdin,
                held=self.held,
            )
        if (self.identity == "root") == (os.geteuid() == 0):
            return perform(
                self.home,
                self.lowers,
                command,
                gateway=self.gateway,
                capture=capture,
                stdin=stdin,
                held=self.held,
            )
        return self._elsewhere(command, capture=capture, stdin=stdin)

    def leftovers(self) -> list[str]:
        """Give what commands have left behind outside: folders, or containers in the daemon."""
        if self.daemon is None:
            return sorted(path.name for path in (self.home / "scratch").iterdir())
        client = docker_engine(self.home / "store", tuple(self.daemon.items())).daemon.client
        return [str(one["Id"]) for one in client.containers(all=True)]

    def shell(self, text: str, *, capture: bool = False, **changes: Any) -> Outcome:
        """Run a shell text."""
        return self.run(replace(self.base, argv=("/bin/sh", "-c", text), **changes), capture=capture)

    def told(self, program: str) -> str:
        """Give what is told of a program that connects: the sandbox sees which it is, a daemon does not."""
        return program if self.daemon is None else ""

    def python(self, program: str, *, stdin: bytes = b"") -> Outcome:
        """Run a program with the host's own Python, of which nothing else is shown."""
        missing = "" if Path("/usr/bin/python3").exists() else "/usr/bin/python3 is not there"
        require("/usr/bin/python3", missing)
        places = [Path(place) for place in ("/usr", "/lib", "/lib64") if Path(place).exists()]
        if self.daemon is not None:  # to which all of them would have to go
            places = parts_of_python()
        command = Command(
            ("/usr/bin/python3", "-ISB", "-c", program),
            inputs={str(place): place for place in places},
            timeout=60,
        )
        return dataclasses.replace(self, lowers=()).run(command, stdin=stdin)

    def asked(self, command: Command, *, capture: bool = False, stdin: bytes | None = None) -> str:
        """Write what this file's program reads."""
        asked = {
            "home": str(self.home),
            "lowers": [str(lower) for lower in self.lowers],
            "command": fields_of(command)
            | {
                "env": dict(command.env),
                "inputs": {inside: str(path) for inside, path in command.inputs.items()},
                "outputs": {inside: str(path) for inside, path in command.outputs.items()},
            },
            "gateway": self.gateway
            and {
                **self.gateway,
                "certificate": self.gateway.get("certificate", b"").decode(),
                "files": {path: text.decode() for path, text in self.gateway.get("files", {}).items()},
            },
            "capture": capture,
            "stdin": None if stdin is None else base64.b64encode(stdin).decode(),
            "held": self.held,
        }
        return json.dumps(asked)

    def _elsewhere(self, command: Command, *, capture: bool, stdin: bytes | None) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "tests.sandboxes", str(ordinary_uid())],
            input=self.asked(command, capture=capture, stdin=stdin),
            capture_output=True,
            text=True,
            cwd=PROJECT,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        if "error" in answer:
            raise ReprobuildError(answer["error"], answer["hint"])
        capture_made = Recorded()
        capture_made.changes = [
            RawChange(**{**one, "capability": bytes.fromhex(one["capability"])}) for one in answer["changes"]
        ]
        capture_made.bodies = {path: base64.b64decode(body) for path, body in answer["bodies"].items()}
        values = answer["result"]
        result = Result(**{**values, "tail": tuple(values["tail"])})
        arrived = [(protocol, address, port, by) for protocol, address, port, by in answer["arrived"]]
        return Outcome(result, capture_made, base64.b64decode(answer["printed"]), arrived)


def ordinary_uid() -> int:
    """Give the uid of the ordinary user: the tests' own, where that is one."""
    return os.geteuid() or ORDINARY_UID


@contextmanager
def shared_folder(uid: int) -> Iterator[Path]:
    """Make a folder that a uid may reach and write to, wherever the tests' own folders are."""
    path = Path(tempfile.mkdtemp(prefix="reprobuild-test-", dir="/var/tmp"))
    path.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(path, uid, uid)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def perform(
    home: Path,
    lowers: tuple[Path, ...],
    command: Command,
    *,
    gateway: Mapping[str, Any] | None,
    capture: bool,
    stdin: bytes | None,
    daemon: Mapping[str, str] | None = None,
    held: str = "",
) -> Outcome:
    """Run a command as whoever we are."""
    answering = None if gateway is None else AnsweringGateway(**gateway)
    recorded, printed = Recorded(), list[bytes]()

    def hold() -> bool:
        time.sleep(1.1 * (command.timeout or 0))  # which does not count
        for folder in command.inputs.values():
            (folder / held).write_text("it is here\n")
        return held == "late"

    with tempfile.TemporaryFile() as given, ExitStack() as stack:
        given.write(stdin or b"")
        given.seek(0)
        engine: Engine
        ground: Ground
        if daemon is None:
            engine, ground = SandboxEngine(home / "scratch", choose_owner()), Checkout(lowers)
        else:
            engine = docker_engine(home / "store", tuple(daemon.items()))
            ground = stack.enter_context(engine.ground(layers_of(lowers, engine.store)))
        result = engine.run(
            ground,
            command,
            gateway=answering,
            capture=recorded if capture else None,
            output=printed.append,
            stdin=None if stdin is None else given,
            hold=hold if held else None,
        )
    if answering is not None:
        assert answering.closed == 1
        assert answering.attended <= 1
    return Outcome(result, recorded, b"".join(printed), answering.arrived if answering else [])


def parts_of_python() -> list[Path]:
    """Give what the host's Python needs for ``ctypes``: its program, its library, and theirs."""
    asked = "import sys, sysconfig, _ctypes; print(sysconfig.get_path('stdlib'), _ctypes.__file__)"
    library, module = run(["/usr/bin/python3", "-ISc", asked]).split()
    needed = run(["ldd", "/usr/bin/python3", module])
    found = set(re.findall(r"(/\S+) \(0x", needed))
    return [Path("/usr/bin/python3"), Path(library), *map(Path, sorted(found))]


@cache
def docker_engine(store: Path, daemon: tuple[tuple[str, str], ...]) -> DockerEngine:
    """Give the engine for a daemon, the same each time."""
    from reprobuild import settings
    from reprobuild.build.gateway_python import gateway_python
    from reprobuild.build.project import Project

    project = Project(settings.load({"store": str(store)}, os.environ, str(store)))

    def python(platform: str) -> Python:
        try:
            return gateway_python(project, platform)
        except OutsideError as error:
            require("registries", error.message.partition("\n")[0])
            raise

    return DockerEngine(project.store, "", dict(daemon), python=python)


def layers_of(lowers: Sequence[Path], store: Store) -> list[Layer]:
    """Take folders into a store as layers, lowest first."""
    layers = []
    with store.transaction() as group:
        for lower in reversed(lowers):
            entries = []
            for path in sorted(lower.rglob("*")):
                name, mode = str(path.relative_to(lower)), stat.S_IMODE(path.lstat().st_mode)
                if path.is_symlink():
                    entries.append(link(name, os.readlink(path)))
                elif path.is_dir():
                    entries.append(directory(name, mode))
                else:
                    body = path.read_bytes()
                    entries.append(file(name, group.add_bytes(body), len(body), mode))
            layers.append(Layer(entries))
    return layers


def become(uid: int) -> None:
    """Take a uid for good, where root is to be given up."""
    # What is imported later may lie where only root can read.
    for name in (
        "encodings.ascii",
        "ctypes",
        "shutil",
        "reprobuild.engine.door",
        "reprobuild.engine.terminal",
        "reprobuild.engine.peers",
    ):
        importlib.import_module(name)
    if uid != os.geteuid():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    if not os.access(sys.executable, os.X_OK):
        sys.executable = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable


def main() -> None:
    """Become an ordinary user, run what standard input asks for, and print what came of it."""
    asked = json.load(sys.stdin)
    become(int(sys.argv[1]))
    values: Mapping[str, Any] = asked["command"]
    command = Command(
        **{
            **values,
            "argv": tuple(values["argv"]),
            "devices": tuple(values["devices"]),
            "inputs": {inside: Path(path) for inside, path in values["inputs"].items()},
            "outputs": {inside: Path(path) for inside, path in values["outputs"].items()},
        }
    )
    stdin = None if asked["stdin"] is None else base64.b64decode(asked["stdin"])
    lowers = tuple(Path(lower) for lower in asked["lowers"])
    try:
        outcome = perform(
            Path(asked["home"]),
            lowers,
            command,
            gateway=_gateway(asked["gateway"]),
            capture=asked["capture"],
            stdin=stdin,
            held=asked["held"],
        )
    except ReprobuildError as error:
        json.dump({"error": error.message, "hint": error.hint}, sys.stdout)
        return
    answer = {
        "result": fields_of(outcome.result),
        "changes": [
            change._asdict() | {"capability": change.capability.hex()} for change in outcome.capture.changes
        ],
        "bodies": {path: base64.b64encode(body).decode() for path, body in outcome.capture.bodies.items()},
        "printed": base64.b64encode(outcome.printed).decode(),
        "arrived": outcome.arrived,
    }
    json.dump(answer, sys.stdout)


def _gateway(asked: dict[str, Any] | None) -> dict[str, Any] | None:
    return asked and {
        **asked,
        "certificate": asked["certificate"].encode(),
        "files": {path: text.encode() for path, text in asked["files"].items()},
    }


if __name__ == "__main__":
    main()
