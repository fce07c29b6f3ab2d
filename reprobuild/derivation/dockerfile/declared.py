"""Rows of commands that fetch, as the one step that says the same.

Knows nothing of instructions; ``fetches`` reads the single commands.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from reprobuild.derivation.dockerfile import fetches
from reprobuild.derivation.dockerfile.recipe_text import q
from reprobuild.derivation.dockerfile.shell import Part
from reprobuild.derivation.stated import PATH

Note = Callable[[str], None]


@dataclass(slots=True)
class Known:
    """What is known of an image where a command of its Dockerfile stands."""

    read: Mapping[str, str]
    """Path in the context → text, of what may be lists of Python requirements."""
    variables: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    placed: dict[str, str] = field(default_factory=dict)
    """Path in the image → path in the context, of files that were copied."""
    suite: str = ""
    """Debian's, where the base image's name tells it."""

    def plain(self, text: str) -> str:
        """Replace the variables of a command that the Dockerfile itself tells."""

        def value(found: re.Match[str]) -> str:
            name = found[1] or found[2]
            known = self.variables.get(name)
            return known if known is not None and re.fullmatch(r"[\w./:@%+,=-]*", known) else found[0]

        return re.sub(r"\$(?:\{(\w+)\}|(\w+))", value, text)


def declared(row: Sequence[Part], folder: str, known: Known, note: Note) -> tuple[int, str]:
    """Give how many commands a row begins with that a step says, and the step; ``(0, "")`` for none.

    ``folder``: where the commands run; ``note``: is told what keeps a command from being said by a step.
    """
    commands = [fetches.words(known.plain(part.text)) or [""] for part in row]
    first = commands[0]
    if (got := fetches.download(first, folder)) is not None:
        return _archive(got, commands, folder) or (1, f"url({q(got[0])}, to={q(got[1])})")
    if (drive := fetches.drive_file(first, folder)) is not None:
        return 1, f"gdrive({q(drive[0])}, to={q(drive[1])})"
    if (cloned := fetches.clone(first, folder)) is not None:
        return _clone(cloned, commands, folder, note)
    if (wanted := fetches.pip_install(first)) is not None:
        return _pip(*wanted, folder, known, note)
    if fetches.apt_install(first) is not None:
        return _apt(commands, known.suite)
    return 0, ""


def _archive(got: tuple[str, str], commands: Sequence[list[str]], folder: str) -> tuple[int, str] | None:
    """Give the step of a download that is unpacked and removed at once."""
    if len(commands) < 3:
        return None
    unpacked = fetches.untar(commands[1], folder)
    removed = [posixpath.normpath(posixpath.join(folder, path)) for path in commands[2][1:] if path != "-f"]
    if unpacked is None or unpacked[0] != got[1] or commands[2][0] != "rm" or removed != [got[1]]:
        return None
    strip = f", strip={unpacked[2]}" if unpacked[2] else ""
    return 3, f"url({q(got[0])}, to={q(unpacked[1])}, unpack=True{strip})"


def _clone(
    cloned: tuple[str, str], commands: Sequence[list[str]], folder: str, note: Note
) -> tuple[int, str]:
    address, to = cloned
    for count, command in enumerate(commands[1:3], start=2):
        if command[0] == "cd" and len(command) == 2:
            folder = posixpath.normpath(posixpath.join(folder, command[1]))
            continue
        found = fetches.checkout(command, folder)
        if found is not None and found[0] == to:
            return count, f"git({q(address)}, {q(found[1])}, to={q(to)})"
        break
    note(f"git clone {address} names no commit: what there is when it is locked is recorded")
    return 0, ""


def _pip(requirements: list[str], files: list[str], folder: str, known: Known, note: Note) -> tuple[int, str]:
    wanted = list(requirements)
    for name in files:
        path = known.placed.get(posixpath.normpath(posixpath.join(folder, name)), "")
        text = known.read.get(path)
        if text is None:
            return 0, ""
        lines = (line.partition(" #")[0].strip() for line in text.splitlines())
        wanted += [line for line in lines if line and not line.startswith("#")]
    loose = [line for line in wanted if not fetches.is_pinned(line)]
    if loose:
        note(f"pip installs {loose[0]} in no fixed version: what comes when it is locked is recorded")
        return 0, ""
    return 1, f"wheels({', '.join(map(q, wanted))})"


def _apt(commands: Sequence[list[str]], suite: str) -> tuple[int, str]:
    if not suite:
        return 0, ""
    count, wanted = 0, []
    for command in commands:
        found = fetches.apt_install(command)
        if found is None:
            break
        wanted += found
        count += 1
    if not wanted:
        return 0, ""
    return count, f"apt({q(suite)}, {', '.join(map(q, wanted))}, configure=True)"
