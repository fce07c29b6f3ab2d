"""A socket on this machine that leads to a daemon behind ssh, as the docker command line does it.

Each connection is one ``ssh HOST docker system dial-stdio``, with the user's own ssh settings, keys and
known hosts. The SDK's own way needs another ssh implementation, which reads only some of them. Knows
nothing of what is said to a daemon.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from urllib.parse import SplitResult, urlsplit

from reprobuild.errors import EngineError

_REMOTE = "docker system dial-stdio || podman system dial-stdio"


class Tunnel:
    """The socket ``path``, served until it is closed."""

    def __init__(self, host: str) -> None:
        """``host``: ``ssh://user@host:port``. Raises EngineError for another form, or without ssh."""
        self._command = _command(host)
        self._folder = tempfile.mkdtemp(prefix="reprobuild-")  # for its owner alone
        self.path = os.path.join(self._folder, "docker.sock")
        self._log = open(os.path.join(self._folder, "log"), "w+b")  # noqa: SIM115  (closed by close)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # once it is closed
            while True:
                taken, _ = self._listener.accept()
                with taken:
                    self._processes = [one for one in self._processes if one.poll() is None]
                    self._processes.append(
                        subprocess.Popen(
                            self._command,
                            stdin=taken.fileno(),
                            stdout=taken.fileno(),
                            stderr=self._log,
                            start_new_session=True,  # an interrupt is for us: it must let us clear up there
                        )
                    )

    def said(self) -> str:
        """Give what ssh has said last: why a connection ended."""
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace").strip().rpartition("\n")[2]

    def close(self) -> None:
        """End every connection and remove the socket."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for process in self._processes:
            process.terminate()
            process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _command(host: str) -> list[str]:
    ssh = shutil.which("ssh")
    if ssh is None:
        raise EngineError(
            f"{host}: the program ssh is not there", "on Debian and Ubuntu: apt-get install openssh-client"
        )
    parsed, port = _parsed(host)
    words = [ssh, "-T", "-o", "ConnectTimeout=30", "-o", "BatchMode=yes"]
    if parsed.username:
        words += ["-l", parsed.username]
    if port:
        words += ["-p", str(port)]
    return [*words, "--", parsed.hostname or "", _REMOTE]


def _parsed(host: str) -> tuple[SplitResult, int | None]:
    parsed = urlsplit(host)
    try:
        port = parsed.port
    except ValueError:
        port = -1
    if not parsed.hostname or parsed.password or port == -1 or parsed.path not in ("", "/"):
        raise EngineError(
            "a daemon's address with ssh: is ssh://USER@HOST or ssh://USER@HOST:PORT",
            "docker context ls; or set DOCKER_HOST",
        )
    return parsed, port
