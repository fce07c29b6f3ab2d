"""Whether a command can start on a tree: its program and its working folder, looked up before it runs.

So that what is missing is said in our words, not in those of whatever makes the sandbox. Knows nothing of
sandboxes.
"""

from __future__ import annotations

import os
import stat

from reprobuild.engine.protocol import ENVIRONMENT, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from reprobuild.engine.protocol import Ground

ELSEWHERE = ("/proc/", "/dev/", "/sys/", "/tmp/")
"""What a sandbox has and no tree shows."""


def obstacle(ground: Ground, command: Command) -> str:
    """Say why a command cannot start on a tree, as ``there is no …``; ``""`` where nothing is known."""
    if not _is_folder(ground, command.workdir, command):
        return f"there is no folder {command.workdir} (workdir)"
    program = command.argv[0]
    if not program:
        return "there is no program ''"
    if "/" in program:
        return _fault(ground, os.path.join(command.workdir, program), command)
    path = command.env.get("PATH", ENVIRONMENT["PATH"])
    found = [_fault(ground, f"{folder or '.'}/{program}", command) for folder in path.split(":")]
    if "" in found:
        return ""
    return next((fault for fault in found if "executable" in fault), f"there is no program {program!r}")


def has_program(ground: Ground, path: str) -> bool:
    """Tell whether a tree has a program at an absolute path."""
    return not _fault(ground, path, Command(argv=(path,)))


def _is_folder(ground: Ground, path: str, command: Command) -> bool:
    if _is_elsewhere(path, command):
        return True
    found = ground.look(path)
    return found is not None and found.mode is not None and stat.S_ISDIR(found.mode)


def _fault(ground: Ground, path: str, command: Command) -> str:
    if _is_elsewhere(path, command):
        return ""
    found = ground.look(path)
    mode = None if found is None else found.mode
    if mode is None:
        return f"there is no {path}"
    if stat.S_ISDIR(mode):
        return f"there is no program {path}: it is a folder"
    return "" if mode & 0o111 else f"{path} is not executable"


def _is_elsewhere(path: str, command: Command) -> bool:
    places = (*ELSEWHERE, *(f"{inside.rstrip('/')}/" for inside in (*command.inputs, *command.outputs)))
    return not path.startswith("/") or path == "/" or f"{path}/".startswith(places)
