"""Runs commands in the sandbox engine as root and as an ordinary user, whoever runs the tests.

Where root runs them, an ordinary user is a process of its own that takes another uid for good: this
file is its program too. Knows nothing of stores.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from reprobuild.engine.protocol import Command, RawChange, Result
from reprobuild.engine.sandbox import SandboxEngine
from reprobuild.errors import ReprobuildError
from reprobuild.store.checkouts import Checkout
from reprobuild.store.owner import choose_owner
from reprobuild.value import fields as fields_of
from reprobuild.value import replace

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
        if (self.identity == "root") == (os.geteuid() == 0):
            return perform(self.home, self.lowers, command, capture=capture, stdin=stdin)
        return self._elsewhere(command, capture=capture, stdin=stdin)

    def shell(self, text: str, *, capture: bool = False, **changes: Any) -> Outcome:
        """Run a shell text."""
        return self.run(replace(self.base, argv=("/bin/sh", "-c", text), **changes), capture=capture)

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
            "capture": capture,
            "stdin": None if stdin is None else base64.b64encode(stdin).decode(),
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
        result = Result(**{**values, "tail": tuple(values["tail"]), "refused": tuple(values["refused"])})
        return Outcome(result, capture_made, base64.b64decode(answer["printed"]))


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
    home: Path, lowers: tuple[Path, ...], command: Command, *, capture: bool, stdin: bytes | None
) -> Outcome:
    """Run a command as whoever we are."""
    engine = SandboxEngine(home / "scratch", choose_owner())
    recorded, printed = Recorded(), list[bytes]()
    with tempfile.TemporaryFile() as file:
        file.write(stdin or b"")
        file.seek(0)
        result = engine.run(
            Checkout(lowers),
            command,
            capture=recorded if capture else None,
            output=printed.append,
            stdin=None if stdin is None else file,
        )
    return Outcome(result, recorded, b"".join(printed))


def become(uid: int) -> None:
    """Take a uid for good, where root is to be given up."""
    # What is imported later may lie where only root can read.
    for name in ("encodings.ascii", "ctypes", "shutil", "reprobuild.engine.terminal"):
        importlib.import_module(name)
    if uid != os.geteuid():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


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
        outcome = perform(Path(asked["home"]), lowers, command, capture=asked["capture"], stdin=stdin)
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
    }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
