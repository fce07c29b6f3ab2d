"""Real servers for tests: each on a socket or port of its own, with a folder of its own.

``with nginx(folder, root) as address: …``. Where a server can't be had, the test is skipped, or fails where
``REPROBUILD_REQUIRE`` names it. Servers that run already are never touched. Container daemons have a file of
their own (``tests/daemons.py``).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.require import program, require

FATAL = ("panic: ", "fatal error: ", "SIG")
"""How the last words of a program in Go begin."""

LAST_LINES = 20
START_SECONDS = 60
REGISTRY_PASSWORD = "correct horse"
REGISTRY_PASSWORD_HASH = "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"
STOP_SECONDS = 30


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a folder whose path is short enough for sockets, and remove it."""
    folder = Path(tempfile.mkdtemp(prefix="rb-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def docker_registry(
    folder: Path, *, certificate: Path | None = None, user: str = "", auth: str = ""
) -> Iterator[str]:
    """Run a registry (Docker's own, ``distribution``); give its address, ``127.0.0.1:port``.

    ``certificate``: a PEM file with its key, for TLS; ``user``: who alone may use it, with REGISTRY_PASSWORD;
    ``auth``: what its settings say of another way to know who asks (``tests/sites/jwt.py``).
    """
    binary = program("docker-registry")
    address = f"127.0.0.1:{free_port()}"
    settings = folder / "registry.yml"
    tls = f", tls: {{certificate: {certificate}, key: {certificate}}}" if certificate else ""
    access = auth
    if user:
        (folder / "users").write_text(f"{user}:{REGISTRY_PASSWORD_HASH}\n")
        access = f"auth: {{htpasswd: {{realm: models, path: {folder}/users}}}}\n"
    settings.write_text(
        f"version: 0.1\n"
        f"log: {{level: warn}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: {address}{tls}}}\n{access}"
    )

    def is_up() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0

    with server("docker-registry", [str(binary), "serve", str(settings)], folder / "registry.log", is_up):
        yield address


@contextmanager
def server(
    name: str,
    command: Sequence[str],
    log: Path,
    is_up: Callable[[], bool],
    env: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Run a server until the context ends; skip the test, with the log's end, where it does not come up.

    ``env``: variables beside PATH and HOME, which is the log's folder.

    Raises AssertionError, with what it said last, where it has ended by itself when the context ends.
    """
    path = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
    environment = {"PATH": path, "HOME": str(log.parent), **(env or {})}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_up():
            if process.poll() is not None or time.monotonic() > deadline:
                last = log.read_text(errors="replace").strip().rpartition("\n")[2]
                require(name, f"{name} does not start here: {last}")
            time.sleep(0.1)
        yield
        ended = process.poll()
        assert ended is None, f"{name} ended while it was in use, with {ended}:\n{_last_words(log)}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _last_words(log: Path) -> str:
    """Give the end of a log, and what stands around the point where a program in Go gave up."""
    lines = log.read_text(errors="replace").splitlines()
    fatal = next((n for n, line in enumerate(lines) if line.startswith(FATAL)), len(lines))
    return "\n".join([*lines[max(0, fatal - LAST_LINES) : fatal + LAST_LINES], "…", *lines[-LAST_LINES:]])


def free_port() -> int:
    """Give a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


def run(command: Sequence[str], *, input: bytes | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end; give what it printed. A failure shows the command and what it said."""
    found = subprocess.run(command, input=input, capture_output=True, check=False, timeout=300, env=env)
    assert found.returncode == 0, f"{' '.join(command)}\n{found.stderr.decode(errors='replace')}"
    return found.stdout.decode()


def skopeo(*arguments: str) -> str:
    """Run skopeo, without the logins of whoever runs the tests; give what it printed."""
    with short_folder() as folder:  # else it looks below /run/containers, which root may have made for itself
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
        return run([str(program("skopeo")), "--insecure-policy", *arguments], env=environment)


@contextmanager
def nginx(folder: Path, root: Path, *, location: str = "", certificate: Path | None = None) -> Iterator[str]:
    """Serve a folder with nginx; give its address. ``location``: more settings, ``limit_rate 1m;``.

    ``certificate``: a PEM file with its key, for TLS.
    """
    binary = program("nginx")
    port = free_port()
    kept = folder / "nginx"
    kept.mkdir()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{kind}_temp_path {kept}/{kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    tls = f"ssl_certificate {certificate}; ssl_certificate_key {certificate};" if certificate else ""
    settings = kept / "nginx.conf"
    settings.write_text(
        f"daemon off; {user} pid {kept}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log {kept}/access.log; {paths}\n"
        f"server {{ listen 127.0.0.1:{port}{' ssl' if tls else ''}; {tls}\n"
        f"root {root}; location / {{ {location} }} }} }}\n"
    )

    def is_up() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    command = [str(binary), "-p", str(kept), "-c", str(settings), "-e", "stderr"]
    with server("nginx", command, kept / "log", is_up):
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
