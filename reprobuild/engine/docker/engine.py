"""The engine for daemons that speak Docker's API: nothing is mounted, all goes through its connections.

Brings the parts of this folder together: the tree is an image in the daemon, the command runs in a
container of it, and what it left comes back as streams; the container is removed whichever way that
ends. Knows nothing of recipes or steps.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO

from reprobuild.engine import protocol
from reprobuild.engine.docker.daemon import Daemon, connect
from reprobuild.engine.docker.ground import Ground
from reprobuild.engine.protocol import (
    Capture,
    Command,
    Dialogue,
    Gateway,
    Gpu,
    Isolation,
    Result,
    served_ports,
)
from reprobuild.errors import EngineError, NotBuiltError, ReprobuildError
from reprobuild.events import Tell, Warned, ignore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.digest import Digest
    from reprobuild.engine.docker.helper import Helper, Python
    from reprobuild.engine.docker.leftovers import Alive
    from reprobuild.engine.nvidia import Machine
    from reprobuild.store.store import Store
    from reprobuild.tree import Layer


class DockerEngine:
    """Runs commands in containers of a daemon."""

    name = "docker"

    def __init__(
        self,
        store: Store,
        platform: str = "",
        environment: Mapping[str, str] | None = None,
        *,
        machine: Machine | None = None,
        python: Callable[[str], Python] | None = None,
        tell: Tell = ignore,
    ) -> None:
        """Take the store that trees come from, and what names the daemon.

        ``platform``: what the daemon's has to be, as OCI writes it; empty: any. ``environment``: as
        ``connect`` reads it; None: this process's own. ``machine``: whose GPUs a daemon here has; None:
        this one's. ``python`` gives the Python that gateways' containers run, for a platform; without it
        no command has a gateway.
        """
        self.store = store
        self._platform = platform
        self._environment = environment
        self._isolation: Isolation | None = None
        self._daemon: Daemon | None = None
        self._alive: Alive | None = None
        self._machine = machine
        self._python = python
        self._tell = tell
        self._without: ReprobuildError | None = None
        """Why commands are not given a gateway here."""
        self._lock = threading.Lock()

    @property
    def daemon(self) -> Daemon:
        """The daemon, connected to when first asked for. Raises EngineError where none answers."""
        with self._lock:
            if self._daemon is None:
                daemon = connect(os.environ if self._environment is None else self._environment)
                try:
                    _check(daemon, self._platform)
                except BaseException:
                    daemon.close()
                    raise
                self._daemon = daemon
            return self._daemon

    def probe(self) -> Isolation:
        """Tell whether a daemon is there that can isolate, by asking it, once; never raises."""
        if self._isolation is None:
            try:
                self._isolation = Isolation(f"docker ({self.daemon.kind} {self.daemon.version})", True)
            except ReprobuildError as error:
                self._isolation = Isolation("docker", False, error.message, error.hint)
        return self._isolation

    def gpu(self, number: str) -> Gpu:
        if not self.daemon.host.startswith("unix:"):
            raise EngineError(
                f"{self.daemon.name}: what GPUs the machine of a daemon elsewhere has can't be asked",
                "predict on that machine, or leave --device out, where the predictor can use the CPU",
            )
        if self._machine is None:
            from reprobuild.engine.nvidia import Machine

            self._machine = Machine()
        return self._machine.gpu(number)

    @contextlib.contextmanager
    def ground(self, layers: Sequence[Layer | Digest]) -> Iterator[Ground]:
        from reprobuild.engine.docker.trees import ensure

        ground = Ground(layers, self.store.blobs.read)
        with telling(self.daemon):
            ensure(ground, self.daemon, self.store)
        yield ground

    def run(
        self,
        ground: protocol.Ground,
        command: Command,
        *,
        gateway: Gateway | None = None,
        capture: Capture | None = None,
        output: Callable[[bytes], None] | None = None,
        stdin: BinaryIO | None = None,
        dialogue: Dialogue | None = None,
        ending: int | None = None,
        hold: Callable[[], bool] | None = None,
    ) -> Result:
        from reprobuild.engine.docker.container import GPU_HINT
        from reprobuild.engine.docker.helper import RelayError
        from reprobuild.engine.docker.run import Run
        from reprobuild.engine.doorway import closed_once

        with closed_once(gateway) as network:
            if not isinstance(ground, Ground):
                raise TypeError(f"the docker engine runs commands on images, not on {type(ground).__name__}")
            _refuse(command, capture)
            gpus = tuple(self.gpu(number).uuid for number in command.devices)
            with telling(self.daemon, *([GPU_HINT] if gpus else [])):
                if gateway is not None and self._may_serve(gateway):
                    run = Run(self.daemon, self.store, ground, command, self.alive.labels, network, gpus)
                    try:
                        with self._helper(gateway) as helper:
                            return run.go(helper, capture, output, stdin, dialogue, ending, hold)
                    except RelayError as error:
                        self._go_without(gateway, error)
                run = Run(self.daemon, self.store, ground, command, self.alive.labels, network, gpus)
                return run.go(None, capture, output, stdin, dialogue, ending, hold)

    def _may_serve(self, gateway: Gateway) -> bool:
        """Tell whether commands are given a gateway here, as far as is known."""
        if self._without is not None:
            self._go_without(gateway, self._without)
        return self._without is None

    def _go_without(self, gateway: Gateway, error: ReprobuildError) -> None:
        """Let a command that is to be refused everything go on with its network cut, telling so once.

        Raises EngineError for one that is to be answered.
        """
        if gateway.has_answers:
            raise EngineError(
                f"the docker engine can't answer what a command fetches: {error.message}", error.hint
            ) from error
        if self._without is None:
            self._without = error
            self._tell(
                Warned(
                    "commands have no network, and what they try to fetch can't be told by its name: "
                    f"{error.message}",
                    error.hint,
                )
            )

    @contextlib.contextmanager
    def _helper(self, gateway: Gateway) -> Iterator[Helper]:
        """Give the container of a command's gateway, which begins meanwhile. Raises RelayError."""
        from reprobuild.engine.docker.helper import Helper, RelayError
        from reprobuild.engine.docker.trees import ensure

        try:
            if self._python is None:
                raise EngineError("there is no Python for its gateway's container", "use --engine sandbox")
            python = self._python(self.daemon.platform)
            image = ensure(Ground(python.layers, self.store.blobs.read), self.daemon, self.store)
        except ReprobuildError as error:
            raise RelayError(error.message, error.hint) from error
        ports = served_ports(gateway)
        helper = Helper(self.daemon, image, python.program, self.alive.labels, ports, gateway.attend)
        try:
            helper.begin()
            yield helper
        finally:
            helper.close()

    @property
    def alive(self) -> Alive:
        """What marks our containers; what others of this store left behind is taken away first."""
        daemon = self.daemon
        with self._lock:  # commands may run in several threads
            if self._alive is None:
                from reprobuild.engine.docker.leftovers import Alive

                alive = Alive(self.store)
                alive.reap(daemon.client)
                self._alive = alive
            return self._alive


@contextlib.contextmanager
def telling(daemon: Daemon, hint: str = "run: reprobuild doctor") -> Iterator[None]:
    """Say in our words what the connection or the daemon refuses inside; ``hint``: what to do then."""
    import requests
    import urllib3
    from docker.errors import APIError, DockerException

    try:
        yield
    except APIError as error:
        why = str(error.explanation or error)
        raise EngineError(f"{daemon.name}: {why}", hint) from error
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError) as error:
        why = f"the connection to {daemon.name} broke: {error}"
        raise EngineError(why, "check it with: docker version") from error


def _check(daemon: Daemon, platform: str) -> None:
    """Raise EngineError for a daemon that can't give the world that commands are to see."""
    from reprobuild.engine.docker.profile import profile

    if platform and daemon.platform != platform:
        raise EngineError(
            f"{daemon.name} runs {daemon.platform}, and images are built for {platform} here",
            "DOCKER_HOST names another daemon",
        )
    try:
        profile(daemon.platform.partition("/")[2])
    except KeyError as error:
        raise EngineError(
            f"{daemon.name}: there is no system call filter for {error}", "use a daemon on x86_64 or aarch64"
        ) from None
    if not daemon.has_filter:
        raise EngineError(
            f"{daemon.name} can't filter system calls (its kernel or runtime lacks seccomp)",
            "use a daemon with seccomp: docker info",
        )


def _refuse(command: Command, capture: Capture | None) -> None:
    if command.owners:
        raise NotBuiltError("a range of owners in a container (owners=True) is not built yet")
    if capture is not None and not command.writable:
        raise ValueError("nothing can be captured from a tree that is not writable")
    if not command.argv:
        raise ValueError("a command has at least one word")
    for word in (*command.argv, command.workdir, *command.env, *command.env.values()):
        if "\0" in word or not _is_text(word):
            raise EngineError(
                f"no process can be given {word!r}", "take it out of the command, env or workdir"
            )
    if not command.writable and (command.inputs or command.outputs or command.empty):
        raise EngineError(
            "a container whose tree is not writable has no inputs or outputs", "--engine sandbox"
        )


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
