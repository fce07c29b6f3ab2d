"""Follows a page of the documentation word by word: commands are run, files written, Python evaluated.

What a page shows of a command's output must come, line by line and in that order; more may come. Digests,
durations, sizes, counts of pins, widths of columns and what is below ``/home/you`` are those of the day.
Knows no page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.projects import SECONDS, SOURCE
from tests.require import require

NOT_RUN = "<!-- not run"
"""Before a block that the tests leave out, with the reason."""
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w./-]+)`:\s*$")
_EVALUATED = re.compile(r"^([^\s#].*?)  # (.+)$", re.MULTILINE)
_OF_THE_DAY = (
    (r"sha256:[0-9a-f]{64}", r"sha256:[0-9a-f]{64}"),
    (r"@[0-9a-f]{64}\|", r"@[0-9a-f]{64}[|]"),
    (r":([\w.]+)-[0-9a-f]{12}\b", r":\1-[0-9a-f]{12}"),
    (r"\b\d+(\.\d+)? (s|ms|kB|MB|GB)\b", r"\\d+([.]\\d+)? \2"),
    (r"\b\d+ pins\b", r"\\d+ pins"),
    (r"/home/you/\S*", r"/\\S*"),
    (r"…", r".*"),
    (r" {2,}", r" {2,}"),
)


@dataclass(frozen=True)
class Step:
    """One block of a page."""

    kind: str
    """``console``, ``python``, or ``file``."""
    text: str
    path: str = ""
    """Of a file."""

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """Give each command of a console block with the lines that are shown of its output."""
        command, shown, goes_on = "", list[str](), False
        for line in self.text.splitlines():
            if goes_on:
                command += f"\n{line}"
            elif line.startswith("$ "):
                if command:
                    yield command, shown
                command, shown = line[2:], []
            else:
                shown.append(line)
                continue
            goes_on = command.endswith("\\")
        if command:
            yield command, shown


def steps(page: Path) -> list[Step]:
    """Take a page apart; what it says is not run is left out, and so is what installs."""
    text = page.read_text(encoding="utf-8")
    found = []
    end = 0
    for block in _BLOCK.finditer(text):
        before, end = text[end : block.start()].rstrip(), block.end()
        kind, body = block[1], block[2]
        if before.rpartition("\n")[2].startswith(NOT_RUN):
            continue
        file = _FILE.search(before)
        if file and kind != "console":
            found.append(Step("file", body, file[1]))
        elif kind in ("console", "python"):
            found.append(Step(kind, body))
    return found


@dataclass
class Follower:
    """Somebody who does what a page says, in a folder of their own."""

    folder: Path
    store: Path
    here: Path = field(init=False)
    """Where they are."""

    def __post_init__(self) -> None:
        """Put the command where a shell finds it."""
        self.here = self.folder
        tools = self.folder.parent / f"{self.folder.name}-bin"
        tools.mkdir()
        (tools / "reprobuild").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reprobuild "$@"\n')
        (tools / "reprobuild").chmod(0o755)
        self._environment: Mapping[str, str] = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(SOURCE),
            "REPROBUILD_STORE": str(self.store),
            "NO_COLOR": "1",
        }

    def follow(self, page: Path) -> int:
        """Do all of a page; give the number of commands and expressions that were compared."""
        count = 0
        for step in steps(page):
            if step.kind == "file":
                (self.here / step.path).write_text(step.text, encoding="utf-8")
            elif step.kind == "python":
                count += self._evaluate(step.text)
            else:
                for command, shown in step.commands():
                    if not command.startswith("pip install "):
                        self._run(command, shown)
                        count += 1
        return count

    def _run(self, command: str, shown: list[str]) -> None:
        ended = subprocess.run(
            ["bash", "-c", f'{command}\ncode=$?; printf "\\n%s" "$PWD"; exit $code'],
            cwd=self.here,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        said, _, place = ended.stdout.rpartition("\n")
        if ended.returncode == 5:
            require("registries", said.strip())
        is_error = any(line.startswith("error: ") for line in shown)
        assert (ended.returncode == 0) != is_error, f"$ {command}\n{said}"
        lines = iter(said.splitlines())
        for one in shown:
            pattern = re.compile(_pattern(one))
            assert any(pattern.fullmatch(line) for line in lines), f"$ {command}\nlacks {one!r}:\n{said}"
        self.here = Path(place)

    def _evaluate(self, text: str) -> int:
        """Run a program; expressions with a comment beside them must come to what it says."""
        count = 0

        def compare(found: re.Match[str]) -> str:
            nonlocal count
            try:
                compile(found[1], "a page", "eval")
            except SyntaxError:
                return found[0]
            count += 1
            return f"_compare(({found[1]}), {found[2]!r})"

        program = _EVALUATED.sub(compare, text)
        ended = subprocess.run(
            [sys.executable, "-c", _COMPARE + program],
            cwd=self.here,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert ended.returncode == 0, f"{text}\n{ended.stderr}"
        return count


_COMPARE = """
def _compare(value, shown):
    assert repr(value) == shown, f"{value!r} is not {shown}"

"""


def _pattern(line: str) -> str:
    """Give what a line of output has to match."""
    # Marked first and replaced last, so that patterns are not escaped and nothing is taken twice.
    marked: list[str] = []
    for found, pattern in _OF_THE_DAY:

        def mark(match: re.Match[str], pattern: str = pattern) -> str:
            marked.append(match.expand(pattern))
            return f"\0{len(marked) - 1}\0"

        line = re.sub(found, mark, line)
    return re.sub("\0(\\d+)\0", lambda match: marked[int(match[1])], re.escape(line))
