"""One command in a container, from its making until it is removed.

Knows nothing of how trees come into a daemon, nor what containers are asked with.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, cast

from reprobuild.engine import world
from reprobuild.engine.docker import container, trees
from reprobuild.engine.docker.changes import OF_DAEMONS, Before, capture_changes
from reprobuild.engine.docker.differences import capture_differences
from reprobuild.engine.docker.inputs import added_below, archive, size_of
from reprobuild.engine.docker.leftovers import shielded
from reprobuild.engine.docker.on_top import FilesOnTop
from reprobuild.engine.docker.outputs import unpack
from reprobuild.engine.docker.streams import (
    DETACH,
    STANDARD_ERROR,
    Connection,
    Feeder,
    Frames,
    Watcher,
    is_terminal,
)
from reprobuild.engine.exchange import inside_path
from reprobuild.engine.lines import Lines
from reprobuild.engine.memory import said_none
from reprobuild.engine.protocol import Capture, Command, Dialogue, Result, environment
from reprobuild.errors import BuildFailedError, EngineError, LostError
from reprobuild.images.archive import ArchiveError, Stream
from reprobuild.images.tar_reader import read_tar
from reprobuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.engine.docker.daemon import Daemon
    from reprobuild.engine.docker.ground import Ground
    from reprobuild.engine.docker.helper import Helper
    from reprobuild.engine.doorway import ClosedOnce
    from reprobuild.store.store import Store

KILLED = 128 + signal.SIGKILL
_PIECE = 1 << 18
_MOST_LINKS = 8
_NO_INIT = "container-init binary not found"


class Run:
    """One command, its container and what goes in and out."""

    def __init__(
        self,
        daemon: Daemon,
        store: Store,
        ground: Ground,
        command: Command,
        labels: Mapping[str, str],
        network: ClosedOnce | None,
        gpus: tuple[str, ...] = (),
    ) -> None:
        """``labels``: what the container is to bear; ``gpus``: the UUIDs of those that it is given."""
        self.daemon = daemon
        self.client = daemon.client
        self.store = store
        self.command = command
        self.labels = labels
        self.network = network
        self.gpus = gpus
        self.name = f"reprobuild-{secrets.token_hex(8)}"
        self.timed_out = False
        self.ending: int | None = None
        self._given = 0
        self._lay_out(ground)

    def _lay_out(self, ground: Ground) -> None:
        """Find where inputs, outputs and empty folders go, and what has to give way to them."""
        command = self.command
        self.inputs = {_literal(ground, inside): path for inside, path in command.inputs.items()}
        self.outputs = {_literal(ground, inside): path for inside, path in command.outputs.items()}
        empty = [_literal(ground, inside) for inside in command.empty]
        self.mounted = [*self.inputs, *self.outputs, *empty]
        in_the_way = [path for path in self.mounted if ground.tree.get(path) is not None]
        self.ground = ground.without(in_the_way) if in_the_way else ground
        tree, top = self.ground.tree, self.ground.top
        gateway = None if self.network is None else self.network.gateway
        self.on_top = FilesOnTop(self.ground, gateway, self.store.blobs)
        folders: dict[str, None] = {}
        for path in (*self.mounted, *self.on_top.files):
            parts = path.split("/")
            for position in range(1, len(parts)):
                folders["/".join(parts[:position])] = None
        folders |= dict.fromkeys((*self.outputs, *empty))
        self.folders = [path for path in folders if tree.get(path) is None and path not in top.folders]
        inits = [_literal(self.ground, init) for init in container.INITS]
        inits = [init for init in inits if tree.get(init) is None]
        ours = {*self.folders, *top.folders, *(init.rpartition("/")[0] for init in inits)}
        before = {entry.path: entry for entry in tree} | self.on_top.entries
        self.before = Before(before, ours, [*self.mounted, *inits], self.on_top.new)
        workdir = command.workdir
        if not _is_folder(self.ground, workdir, (*self.mounted, *self.folders)):
            raise EngineError(
                f"the sandbox could not be made: there is no folder {workdir}",
                "the folder that the command is to work in must be in the image: check workdir",
            )

    def go(
        self,
        helper: Helper | None,
        capture: Capture | None,
        output: Callable[[bytes], None] | None,
        stdin: BinaryIO | None,
        dialogue: Dialogue | None,
        ending: int | None,
        hold: Callable[[], bool] | None,
    ) -> Result:
        """Run it; ``helper``: the container whose network it shares, which has begun.

        Raises EngineError, and KeyboardInterrupt after everything inside has ended.
        """
        network = "" if helper is None else helper.name
        self.ending = ending
        begun = time.monotonic()
        terminal = self.command.terminal
        has_stdin = stdin is not None or terminal or dialogue is not None
        is_joined = not terminal and dialogue is None
        try:
            shielded(lambda: self._create(network, has_stdin=has_stdin, is_joined=is_joined))
            if hold is not None:
                if helper is not None:
                    helper.wait()
                if not hold():
                    return Result(KILLED, 0.0)
                self._demand_it_is_there()
                begun = time.monotonic()
            self._put()
            if helper is not None:
                helper.wait()
            lines = Lines(*([output] if output else []))
            if dialogue is not None:
                exit_code = self._converse(lines.feed, dialogue)
            else:
                exit_code = self._lend() if terminal else self._attend(lines.feed, stdin)
            lines.close()
            seconds = time.monotonic() - begun
            if helper is not None:
                helper.settle()
            if self.network is not None:
                self.network.close()
            if helper is not None:
                helper.let_go()
            result = self._result(exit_code, seconds, lines.tail)
            if capture is not None or self.outputs:
                self._check_readable()
            if capture is not None:
                self._capture(capture)
            for inside, to in self.outputs.items():
                with self._archived(inside) as stream:
                    unpack(stream, to)
            return result
        except ArchiveError as error:
            raise EngineError(f"{self.daemon.name} gave an archive that is none: {error.message}") from error
        finally:
            shielded(self._remove)

    # The container.

    def _create(self, network: str, *, has_stdin: bool, is_joined: bool) -> None:
        from docker.errors import APIError, ImageNotFound

        command = self.command
        asked = container.Asked(
            name=self.name,
            image=trees.ensure(self.ground, self.daemon, self.store),
            argv=command.argv,
            env=environment(command, self.on_top.env) | {"PWD": command.workdir},
            workdir=command.workdir,
            labels=self.labels,
            terminal=command.terminal and is_terminal(),
            stdin=has_stdin,
            writable=command.writable,
            memory=command.memory,
            limits_memory=self.daemon.limits_memory,
            has_init=self.daemon.has_init,
            has_shell=self._has_shell(),
            strange=[f"/{path}" for path in OF_DAEMONS if self.ground.tree.get(path) is None],
            is_joined=is_joined,
            gpus=self.gpus,
            network=network,
        )
        try:
            container.create(self.daemon, asked)
        except ImageNotFound:  # somebody has removed it since
            trees.ensure(self.ground, self.daemon, self.store)
            container.create(self.daemon, asked)
        except APIError as error:
            if _NO_INIT not in str(error.explanation):
                raise
            if not asked.has_shell:
                raise EngineError(
                    f"{self.daemon.name} has no init for containers, and the tree no shell to stand in",
                    "on its machine: apt-get install catatonit",
                ) from error
            self.daemon.has_init = False
            container.create(self.daemon, replace(asked, has_init=False))

    def _has_shell(self) -> bool:
        found = self.ground.look(container.SHELL)
        return found is not None and found.mode is not None and bool(found.mode & 0o111)

    def _put(self) -> None:
        """Send what has to be there before the command begins."""
        if self.command.writable:  # else it takes nothing
            # Podman makes a root that nobody may write to.
            sent = archive([".", *self.folders], self.on_top.files, self.inputs)
            self.client.put_archive(self.name, "/", sent)
            self._given = sum(map(size_of, self.inputs.values()))

    def _demand_it_is_there(self) -> None:
        """Raise LostError where the container, or its daemon, has gone while it waited."""
        import requests
        from docker.errors import APIError

        try:
            self.client.inspect_container(self.name)
        except (APIError, requests.RequestException) as error:
            raise LostError(f"{self.daemon.name} no longer has a container that waited: {error}") from error

    def _remove(self) -> None:
        from docker.errors import APIError

        with contextlib.suppress(APIError):  # it was never made, or is gone
            self.client.remove_container(self.name, force=True, v=True)

    # While it runs.

    def _attend(self, take: Callable[[bytes], None], stdin: BinaryIO | None) -> int:
        """Start it, take in what it prints until everything inside has ended; give its exit code."""
        feeder = None if stdin is None else Feeder(stdin)
        frames = Frames()

        def taken(data: bytes) -> None:
            for _, piece in frames.feed(data):
                take(piece)

        return self._follow(taken, feeder, lambda: None)

    def _converse(self, take: Callable[[bytes], None], dialogue: Dialogue) -> int:
        """The same while somebody speaks with it: ``take`` gets its standard error alone."""
        frames = Frames()

        def taken(data: bytes) -> None:
            for stream, piece in frames.feed(data):
                (take if stream == STANDARD_ERROR else dialogue.hear)(piece)

        with dialogue.stdin:
            return self._follow(taken, Feeder(dialogue.stdin), lambda: dialogue.begin(self._show))

    def _show(self, paths: Sequence[str]) -> None:
        """Send what was added below inputs since; paths inside."""
        added = added_below(self.command.inputs, list(self.inputs), paths)
        from reprobuild.engine.docker.engine import telling

        with telling(self.daemon):
            self.client.put_archive(self.name, "/", archive([], {}, added))

    def _lend(self) -> int:
        """The same with the caller's own standard streams, as they are."""
        from reprobuild.engine.docker.terminal import lent, show

        is_tty = is_terminal()
        frames = Frames()

        def taken(data: bytes) -> None:
            if is_tty:
                show(1, data)
            else:
                for stream, piece in frames.feed(data):
                    show(stream, piece)

        with (
            lent(self.client, self.name, is_tty=is_tty) as begun,
            open(0, "rb", buffering=0, closefd=False) as stdin,
        ):
            return self._follow(taken, Feeder(stdin), begun)

    def _follow(self, take: Callable[[bytes], None], feeder: Feeder | None, begun: Callable[[], None]) -> int:
        with contextlib.ExitStack() as stack:
            streams = {"stdout": 1, "stderr": 1, "detachKeys": DETACH}
            # Podman's conmon gives output to every connection, and stops where one is not read. Elsewhere
            # there are two: with TLS, one can't be closed for writing alone, nor used by two threads.
            is_joined = feeder is not None and self.daemon.is_podman
            if is_joined:
                streams["stdin"] = 1
            given = printed = stack.enter_context(Connection(self.client, self.name, **streams))
            if feeder is not None:
                if not is_joined:
                    given = Connection(self.client, self.name, stdin=1, detachKeys=DETACH)
                    stack.enter_context(given)
                stack.callback(feeder.close)
            self._start()
            if feeder is not None:
                feeder.start(given)
            begun()
            if self.ending is not None:
                stack.enter_context(Watcher(self.ending, self._kill))
            limit = self.command.timeout
            deadline = None if limit is None else time.monotonic() + limit
            while True:
                try:
                    for data in printed.pieces(deadline):
                        take(data)
                    return self._wait(deadline)
                except TimeoutError:
                    self.timed_out = True
                    deadline = None
                    printed.socket.settimeout(None)
                    self._kill()

    def _start(self) -> None:
        """Start it. Raises EngineError where the daemon can't."""
        from docker.errors import APIError

        try:
            self.client.start(self.name)
        except APIError as error:
            why = str(error.explanation or error)
            hint = container.GPU_HINT if self.gpus else "run: reprobuild doctor"
            raise EngineError(f"{self.daemon.name} can't start a container: {why}", hint) from error

    def _wait(self, deadline: float | None) -> int:
        """Wait for the end, which may come long after the last that is printed. Raises TimeoutError."""
        import requests

        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.001)
            try:
                return int(self.client.wait(self.name, timeout=left)["StatusCode"])
            except (requests.ConnectionError, requests.Timeout) as error:
                if deadline is None or time.monotonic() < deadline:
                    raise
                raise TimeoutError from error

    def _kill(self) -> None:
        from docker.errors import APIError

        with contextlib.suppress(APIError):  # it has ended
            self.client.kill(self.name)

    def _result(self, exit_code: int, seconds: float, tail: Sequence[str]) -> Result:
        out_of_memory = False
        if self.command.memory is not None:
            if self.daemon.limits_memory:
                state = self.client.inspect_container(self.name)["State"]
                out_of_memory = bool(state.get("OOMKilled"))
            else:
                out_of_memory = said_none(exit_code, tuple(tail))
        code = KILLED if self.timed_out else exit_code
        return Result(code, seconds, self.timed_out, out_of_memory, tuple(tail))

    # What it leaves.

    def _capture(self, capture: Capture) -> None:
        asked = (self.daemon, self.name, self.before, capture, self._archived, self._open_again)
        fixed = {path: one.content for path, one in self.on_top.files.items() if path in world.FILES}
        if not self.outputs and capture_differences(*asked, given=self._given, fixed=fixed):
            return
        with self._export() as stream:
            capture_changes(stream, self.before, capture, self._open_again)

    @contextlib.contextmanager
    def _export(self) -> Iterator[Stream]:
        with self.daemon.ask("GET", f"/containers/{self.name}/export", stream=True) as response:
            yield response.raw

    def _check_readable(self) -> None:
        """Raise BuildFailedError where a daemon that archives would wait for ever.

        Docker reads these files of the container to name owners, by whatever a command has put there.
        """
        for path in ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf"):
            place = path
            for _ in range(_MOST_LINKS):
                found = self.daemon.look(self.name, place)
                if found is None or not found.target:
                    break
                place = os.path.join(os.path.dirname(place), found.target)
            if found is not None and found.is_special:
                raise BuildFailedError(f"the command left a fifo or a socket at {path}, where daemons read")

    @contextlib.contextmanager
    def _archived(self, path: str) -> Iterator[Stream]:
        asked = {"path": os.fsencode(f"/{path}")}  # as bytes, since a name may be no UTF-8
        where = f"/containers/{self.name}/archive"
        with self.daemon.ask("GET", where, params=asked, stream=True) as response:
            yield response.raw

    @contextlib.contextmanager
    def _open_again(self, path: str) -> Iterator[BinaryIO]:
        """Open a file of the container, taken to this machine's disk or, if it is small, memory."""
        with (
            self._archived(path) as stream,
            tempfile.SpooledTemporaryFile(_PIECE, dir=self.store.tmp) as kept,
        ):
            for _, body in read_tar(stream, is_layer=True, any_bytes=True):
                while data := body.read(_PIECE):
                    kept.write(data)
                break
            kept.seek(0)
            yield cast("BinaryIO", kept)


def _literal(ground: Ground, inside: str) -> str:
    """Give a path of the tree that leads through no link, without leading slash."""
    found = ground.look(inside_path(inside))
    if found is None:
        raise EngineError(f"{inside} leads nowhere in the tree: through a file, or a loop of links")
    return found.path.strip("/")


def _is_folder(ground: Ground, path: str, made: Sequence[str]) -> bool:
    found = ground.look(path)
    if found is None:
        return False
    literal = found.path.strip("/")
    if found.mode is not None:
        return stat.S_ISDIR(found.mode)
    places = (*made, *ground.top.folders)
    return any(f"{literal}/".startswith(f"{place}/") for place in places)
