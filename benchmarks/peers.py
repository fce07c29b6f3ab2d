"""Docker and Nix as peers: each with state of its own in a folder that goes afterwards.

Knows nothing of what is measured. A peer that is not installed, or that does not start here, is None.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
START = 30.0
"""Seconds that a daemon may take to answer."""


@dataclass(frozen=True, slots=True)
class Docker:
    """A daemon of our own."""

    client: str
    host: str

    def argv(self, *arguments: str) -> list[str]:
        """Give a command of its client."""
        return [self.client, "--host", self.host, *arguments]

    def run(self, *arguments: str) -> str:
        """Run a command of its client; give what it printed."""
        return subprocess.run(self.argv(*arguments), check=True, capture_output=True, text=True).stdout

    def remove(self, *names: str) -> None:
        """Remove images, those that are there."""
        for name in names:
            if self.run("images", "--quiet", name):
                self.run("rmi", "--force", name)


@contextmanager
def docker(folder: Path) -> Iterator[Docker | None]:
    """Start a daemon with its data below a folder, without touching the network of the machine."""
    daemon, client = shutil.which("dockerd", path=PATH), shutil.which("docker", path=PATH)
    if daemon is None or client is None or os.geteuid() != 0:
        yield None
        return
    folder.mkdir(parents=True)
    host = f"unix://{folder}/docker.sock"
    argv = [daemon, "--host", host, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    argv += ["--pidfile", f"{folder}/docker.pid", "--bridge", "none", "--iptables=false"]
    argv += ["--ip-forward=false", "--ip-masq=false"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, env={**os.environ, "PATH": PATH}, stdout=log, stderr=log)
    try:
        found = Docker(client, host)
        yield found if _answers(found, process) else None
    finally:
        process.terminate()
        process.wait(timeout=60)


def _answers(found: Docker, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START
    while process.poll() is None and time.monotonic() < deadline:
        if subprocess.run(found.argv("version"), capture_output=True, check=False).returncode == 0:
            return True
        time.sleep(0.2)
    return False


@dataclass(frozen=True, slots=True)
class Nix:
    """A store of our own."""

    env: dict[str, str]

    def argv(self, program: str, *arguments: str) -> list[str]:
        """Give a command of Nix."""
        found = shutil.which(program, path=PATH)
        assert found is not None
        return [found, *arguments]

    def run(self, program: str, *arguments: str) -> str:
        """Run a command of Nix; give what it printed."""
        argv = self.argv(program, *arguments)
        return subprocess.run(argv, check=True, capture_output=True, text=True, env=self.env).stdout


def nix(folder: Path) -> Nix | None:
    """Make an empty Nix store below a folder."""
    if shutil.which("nix-build", path=PATH) is None or shutil.which("nix-store", path=PATH) is None:
        return None
    for name in ("store", "var", "log", "etc", "home"):
        (folder / name).mkdir(parents=True)
    (folder / "etc" / "nix.conf").write_text("build-users-group =\nsandbox = false\nsubstitute = false\n")
    env = {
        **os.environ,
        "HOME": f"{folder}/home",
        "NIX_STORE_DIR": f"{folder}/store",
        "NIX_STATE_DIR": f"{folder}/var",
        "NIX_LOG_DIR": f"{folder}/log",
        "NIX_CONF_DIR": f"{folder}/etc",
        "NIX_REMOTE": "",
        "NIX_PATH": "",
    }
    return Nix(env)


CHAIN = """
let
  step = name: below: derivation {
    inherit name below;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" "echo ${name} > $out" ];
  };
in step "three" (step "two" (step "one" "nothing"))
"""
"""Three steps, one on another, as small as can be."""


def build_chain(found: Nix, folder: Path) -> Sequence[str]:
    """Build the chain once; give the command that finds it finished."""
    expression = folder / "chain.nix"
    expression.write_text(CHAIN)
    found.run("nix-build", "--no-out-link", str(expression))
    return found.argv("nix-build", "--no-out-link", str(expression))
