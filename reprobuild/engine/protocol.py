"""What an engine is: one verb that runs a command on a tree and can report what it changed.

Knows nothing of recipes, steps or predictors, nor of how any engine isolates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from reprobuild.images.changes import RawChange as RawChange
from reprobuild.images.changes import RawKind as RawKind
from reprobuild.value import NOTHING, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from reprobuild.digest import Digest
    from reprobuild.store.stack import Found
    from reprobuild.tree import Layer

ENVIRONMENT: Mapping[str, str] = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "SOURCE_DATE_EPOCH": "315619200",
    "TZ": "UTC",
}
"""What every command sees, in every engine, unless image or step say otherwise (DESIGN section 6)."""


def thread_environment(threads: int) -> dict[str, str]:
    """Give the variables that tell numeric libraries how many threads to use."""
    names = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM", "BLIS")
    return {f"{name}_NUM_THREADS": str(threads) for name in names}


class Capture(Protocol):
    """Takes what a command changed, parents before what is in them."""

    def add(self, change: RawChange, body: BinaryIO | None) -> None:
        """Take one change; ``body`` is an open file for kind ``f``, read before this returns."""


class Command(Value):
    """A command, and the world that it sees."""

    argv: tuple[str, ...]
    """``("/bin/sh", "-c", text)`` for a shell text. Found by ``PATH`` inside the tree."""
    env: Mapping[str, str] = NOTHING
    """Added to, and stronger than, ``ENVIRONMENT``."""
    workdir: str = "/"
    inputs: Mapping[str, Path] = NOTHING
    """Path inside → file or directory of the host, read-only there. What is in a directory must be
    readable for others where the caller is root."""
    outputs: Mapping[str, Path] = NOTHING
    """Directory inside, empty at first → directory of the host that gets what the command left there:
    plain files and directories only, owned by the caller."""
    empty: tuple[str, ...] = ()
    """Directories inside that are empty at first, whatever the tree has there; what the command leaves in
    them is lost."""
    threads: int = 1
    timeout: float | None = None
    """Seconds; after them everything inside is killed."""
    memory: int | None = None
    """Bytes of memory that everything inside may use together."""
    devices: tuple[str, ...] = ()
    """Numbers of the GPUs that it may use, as ``Engine.gpu`` takes them; inside they count from 0."""
    owners: bool = False
    """A range of uids inside instead of one, so that ``chown`` really changes owners."""
    terminal: bool = False
    """Pass the caller's terminal through (``shell``): standard streams are inherited."""
    writable: bool = True
    """Whether the tree can be written to (changes are lost unless captured)."""


VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


def environment(command: Command, of_gateway: Mapping[str, str]) -> dict[str, str]:
    """Give the whole environment of a command, sorted by name; its own is the strongest."""
    merged = {**ENVIRONMENT, **thread_environment(command.threads), **of_gateway, **command.env}
    if command.devices:
        merged[VISIBLE_GPUS] = ",".join(map(str, range(len(command.devices))))
    return dict(sorted(merged.items()))


class Result(Value):
    """How a command ended."""

    exit_code: int
    """The command's own; 128 + signal where a signal ended it."""
    seconds: float
    timed_out: bool = False
    out_of_memory: bool = False
    tail: tuple[str, ...] = ()
    """The last lines it printed, standard output and error together, at most 100."""


class Arrival(Value):
    """A connection that was opened inside, and where it was meant to go."""

    connection: socket.socket
    """A stream; whoever takes it closes it."""
    address: str
    """The address that was wanted, as text."""
    port: int
    program: Callable[[], str]
    """Tells which program inside holds the other end: ``python3 run.py``; ``""`` where that can't be told."""
    reset: Callable[[socket.socket], None]
    """Closes the connection, in whatever form it is by then, so that the client's next call fails."""


class Door(Protocol):
    """Where everything arrives that is sent inside, whatever its address, to a port that is served."""

    def open(self, take: Callable[[Arrival], None], answer: Callable[[bytes], bytes | None]) -> None:
        """Begin to hand over what arrives, in a thread of the door's own; returns at once.

        ``take`` gets each connection; ``answer`` each datagram that came for port 53, and gives what goes
        back, if anything. Neither may wait for what comes in.
        """

    def close(self) -> None:
        """Hand over nothing more; what had arrived by now has been. Connections that were taken live on."""


class Gateway(Protocol):
    """Answers all that a command does on its network (DESIGN section 9); serves one command."""

    has_answers: bool
    """Whether there is anything that it would not refuse."""
    ports: Sequence[int]
    """TCP ports that are served beside 53, 80 and 443."""
    certificate: bytes
    """The authority that is to be trusted inside, as PEM; empty: none."""
    env: Mapping[str, str]
    """Variables for the command beside those that make programs trust the authority."""
    files: Mapping[str, bytes]
    """Files on top of the tree, never part of a layer: path without leading slash → content."""

    def attend(self, door: Door) -> None:
        """Begin to serve, once something has arrived; returns at once. The door is the gateway's then."""

    def close(self) -> None:
        """Stop: everything inside has ended. Called once, also where nothing ever arrived."""


PORTS = (53, 80, 443)
"""TCP ports that are served whatever a gateway names."""


def served_ports(gateway: Gateway) -> list[int]:
    """Give the TCP ports that are served, each once."""
    return list(dict.fromkeys((*PORTS, *gateway.ports)))


class Gpu(Value):
    """A GPU that commands can be given."""

    number: str
    """As whoever asks counts them: from 0, in the driver's order."""
    capability: str
    """Of its instruction set: ``9.0``."""
    name: str
    """``NVIDIA H100 80GB HBM3``."""
    uuid: str
    """``GPU-…``: the same in whatever order GPUs are counted."""
    driver: str
    """The version of the driver that runs it: ``550.54.15``; empty where it does not say."""


class Dialogue(Protocol):
    """Whoever speaks with a command over its standard streams while it runs, from a thread of their own."""

    stdin: BinaryIO
    """What the command reads: the end of a pipe. The engine closes it here."""

    def begin(self, show: Callable[[Sequence[str]], None]) -> None:
        """Hear that the command is about to begin, or has begun.

        ``show``, which any thread may call while it runs: has files be seen inside that were added below
        a directory of ``inputs`` since; takes their paths inside.
        """

    def hear(self, data: bytes) -> None:
        """Take what came on standard output, as it came; the command waits for whoever lets it wait here."""


class Isolation(Value):
    """What an engine can promise on this machine."""

    name: str
    """``sandbox (bubblewrap 0.11.0, user namespace)``."""
    available: bool
    missing: str = ""
    """Why it is not available, in a sentence."""
    hint: str = ""
    """What to do about it."""


class Ground(Protocol):
    """A tree that an engine has ready for commands: a folder of this machine, or an image in a daemon."""

    def look(self, path: str) -> Found | None:
        """Follow a path to where it leads, links inside the tree; None for a loop, and below a file."""


class Engine(Protocol):
    """Runs commands on trees, with no other network than a gateway."""

    name: str

    def probe(self) -> Isolation:
        """Tell whether this engine works here, by trying; never raises."""

    def gpu(self, number: str) -> Gpu:
        """Tell of a GPU that ``run`` can give to commands. Raises EngineError, with the reason, for none."""

    def ground(self, layers: Sequence[Layer | Digest]) -> AbstractContextManager[Ground]:
        """Make the tree of a stack of layers ready, lowest first, and keep it for a ``with`` block.

        A layer may be given by the digest of its listing: then it is read only if it is needed. Raises
        MissingBlobError or CheckFailedError, naming the blob, where bytes of the store are missing or
        damaged, OutsideError where the disk refuses, and EngineError.
        """

    def run(
        self,
        ground: Ground,
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
        """Run a command on a tree; give what it did to ``capture`` when it has ended.

        ``ground``: of this engine's own making. ``gateway``: what answers on the network inside, closed
        here; None: nothing does. ``output`` gets each line as it comes (with its line end). A command
        that fails is a Result, not an error. ``dialogue``, in place of ``stdin``: speaks with the command,
        whose standard error alone comes to ``output`` and the result's tail then. ``ending``: a descriptor;
        once it can be read, everything inside is killed, however far the command has come. ``hold`` is called
        when all is made that can be before the command begins. That begins when it gives True, with what
        was put into directories of ``inputs`` until then, and its time is counted from there; where it
        gives False, the command never begins, and the Result is that of a killed one. Commands may run in
        several threads at once. Raises EngineError where the sandbox itself cannot be made, LostError where
        it has gone while it was held, and KeyboardInterrupt after everything inside has ended.
        """
