"""A gateway's container: it shares its network with a command's, and only its program may shape that.

It is made first and ends last. Its image holds a Python and nothing of the command's tree, so that no
stranger's program holds its capabilities. Knows nothing of what is answered.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence

from reprobuild.engine import listening
from reprobuild.engine.docker import container, mux, relay
from reprobuild.engine.docker.door import RelayDoor
from reprobuild.engine.docker.leftovers import shielded
from reprobuild.engine.docker.link import ContainerLink
from reprobuild.engine.docker.streams import Connection
from reprobuild.engine.protocol import Door
from reprobuild.engine.standalone import program_text
from reprobuild.errors import EngineError
from reprobuild.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.digest import Digest
    from reprobuild.engine.docker.daemon import Daemon
    from reprobuild.tree import Layer

CAPABILITIES = ("NET_ADMIN", "NET_BIND_SERVICE")
"""To make every address a local one, and to listen at ports below 1024."""
MEMORY = 1 << 30
"""Bytes: room for what is on its way, where every client stops reading."""


_HINT = (
    "use --engine sandbox; or let the daemon give a container NET_ADMIN, which has power over a network of "
    "its own alone"
)


class Python(Value):
    """A Python for gateways' containers."""

    layers: Sequence[Layer | Digest]
    """Of the tree that holds it and nothing else, lowest first."""
    program: str
    """Its path there."""


class RelayError(EngineError):
    """A gateway's container can't be had; nothing of the command has run."""


class Helper:
    """The container that listens on one command's network."""

    def __init__(
        self,
        daemon: Daemon,
        image: str,
        python: str,
        labels: Mapping[str, str],
        ports: Sequence[int],
        attend: Callable[[Door], None],
    ) -> None:
        """``image`` has the Python at the path ``python``; ``attend``: as ``RelayDoor`` has it."""
        self.name = f"reprobuild-{secrets.token_hex(8)}"
        self._daemon = daemon
        self._attend = attend
        words = ["-I", "-S", "-E", "-B", "-c", program_text(listening, mux, relay), *map(str, ports)]
        self._asked = container.Asked(
            name=self.name,
            image=image,
            argv=(python, *words),
            env={},
            workdir="/",
            labels=labels,
            stdin=True,
            writable=False,
            memory=MEMORY,
            limits_memory=daemon.limits_memory,
            has_init=False,
            has_shell=False,
            is_joined=False,
            capabilities=CAPABILITIES,
        )
        self._connection: Connection | None = None
        self._link: ContainerLink | None = None
        self._door: RelayDoor | None = None
        self._failure: BaseException | None = None
        self._ender: threading.Thread | None = None
        self._starter = threading.Thread(target=self._start, daemon=True)

    def begin(self) -> None:
        """Make the container, and have it begin beside whatever else is done. Raises RelayError."""
        from docker.errors import APIError

        try:
            shielded(lambda: container.create(self._daemon, self._asked))
        except APIError as error:
            raise self._refusal(error) from error
        self._starter.start()

    def wait(self) -> None:
        """Wait until it listens. Raises RelayError where it does not."""
        self._starter.join()
        if self._failure is not None:
            raise self._refusal(self._failure) from self._failure

    def settle(self) -> None:
        """Have all handed over that the command sent; it has ended. Raises what serving it has raised."""
        assert self._door is not None
        self._door.settle()

    def let_go(self) -> None:
        """Begin to remove it, if the daemon allows that before the command's container is removed."""
        if not self._daemon.is_podman:
            self._ender = threading.Thread(target=self._end, daemon=True)
            self._ender.start()

    def close(self) -> None:
        """Remove it."""
        shielded(self._end if self._ender is None else self._ender.join)

    def _start(self) -> None:
        try:
            streams = {"stdin": 1, "stdout": 1, "stderr": 1, "detachKeys": ""}
            self._connection = Connection(self._daemon.client, self.name, **streams)
            self._link = ContainerLink(self._connection)
            self._daemon.client.start(self.name)
            self._door = RelayDoor(self._link, self._attend)
            self._door.begin()
            self._door.wait()
        except BaseException as error:  # noqa: BLE001  (raised by ``wait``)
            self._failure = error

    def _end(self) -> None:
        from docker.errors import APIError

        if self._door is not None:
            self._door.stop()  # so that nobody waits for it
        if self._starter.ident is not None:
            self._starter.join()
        if self._door is not None:
            self._door.stop()
        if self._connection is not None:
            self._connection.close()
        with contextlib.suppress(APIError, OSError):  # it was never made, or is gone; or the daemon is
            self._daemon.client.remove_container(self.name, force=True, v=True)

    def _refusal(self, failure: BaseException) -> RelayError:
        why = str(getattr(failure, "explanation", None) or failure)  # what the daemon says, if it does
        said = self._link.said.decode("utf-8", "replace").strip() if self._link is not None else ""
        last = said.rpartition("\n")[2]
        return RelayError(f"{self._daemon.name}: {why}{f' ({last})' if last else ''}", _HINT)
