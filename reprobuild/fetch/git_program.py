"""Run git: a clean environment, a scratch repository, no configuration but ours, no prompts, no hooks.

Knows nothing of where commits come from. What a repository says is data: nothing in it is a command or a
setting, since nothing is checked out, and since the only configuration that git reads is written here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from reprobuild.errors import OutsideError, UpstreamError
from reprobuild.fetch.guarded import guarded

TIME_LIMIT = 6 * 3600.0
"""Seconds for one call; servers that say nothing are given up much sooner, by who speaks to them."""
SHOWN_LINES = 6
BEAT = 0.1
"""Seconds between two looks at a call that goes on."""

HARMLESS = (
    *("badDateOverflow", "badEmail", "badName", "badTimezone", "missingEmail", "missingNameBeforeEmail"),
    *("missingSpaceBeforeDate", "missingSpaceBeforeEmail", "missingTaggerEntry", "zeroPaddedDate"),
    *("zeroPaddedFilemode", "badTagName", "missingAuthor", "multipleAuthors", "nulInCommit"),
)
"""Findings of fsck about who wrote a commit when, which old repositories are full of, and modes
with a zero too many: none of them touches a file."""

SETTINGS = """\
[core]
	hooksPath = /dev/null
	bigFileThreshold = 16m
	packedGitWindowSize = 16m
	packedGitLimit = 128m
	fsync = none
[gc]
	auto = 0
[maintenance]
	auto = false
[transfer]
	fsckObjects = true
	unpackLimit = 1
[protocol]
	version = 2
[http]
	followRedirects = false
	proxy =
[credential]
	helper =
[fetch "fsck"]
"""


class Git:
    """git, working on one bare repository in a private folder."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, sha256: bool = False) -> None:
        """Make the repository. ``folder``: there is nothing in it, and it is removed by who made it;
        ``sha256``: for objects named by 64 hex digits. Raises OutsideError where git is not installed."""
        self._program = find_git(environment)
        self._folder = folder
        settings = folder / "config"
        settings.write_text(SETTINGS + "".join(f"\t{name} = ignore\n" for name in HARMLESS))
        self._environment = {
            "GIT_ALLOW_PROTOCOL": "http",
            "GIT_ASKPASS": "/bin/false",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(settings),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_DIR": str(folder / "repository"),
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "HOME": str(folder),
            "LC_ALL": "C",
            "NO_PROXY": "*",
            "PATH": os.pathsep.join((os.path.dirname(self._program), os.defpath)),
            "TMPDIR": str(folder),
            "TZ": "UTC",
        }
        kind = ["--object-format=sha256"] if sha256 else []
        self.run("init", "--quiet", "--bare", "--template=", *kind, str(folder / "repository"))

    def run(
        self, *arguments: str, stdin: BinaryIO | None = None, beat: Callable[[], None] = lambda: None
    ) -> bytes:
        """Run a git command; give what it printed. ``beat`` is called now and then until it ends.

        Raises UpstreamError, with the end of what git said, where it fails or does not end.
        """
        with self._started(arguments, stdin, "answer") as (process, output, messages):
            deadline = time.monotonic() + TIME_LIMIT
            while True:
                try:
                    process.wait(BEAT)
                    break
                except subprocess.TimeoutExpired:
                    beat()
                    if time.monotonic() > deadline:
                        raise UpstreamError(
                            f"git {arguments[0]} did not end within {TIME_LIMIT / 3600:.0f} hours"
                        ) from None
            if process.returncode:
                raise _failed(arguments[0], process.returncode, messages)
            output.seek(0)
            return output.read()

    @contextmanager
    def reading(self, *arguments: str, stdin: BinaryIO) -> Iterator[BinaryIO]:
        """Run a git command and read what it prints while it runs. Raises UpstreamError where it fails."""
        with self._started(arguments, stdin, "pipe") as (process, output, messages):
            yield output
            while output.read(65536):
                pass
            if process.wait(TIME_LIMIT):
                raise _failed(arguments[0], process.returncode, messages)

    @contextmanager
    def _started(
        self, arguments: tuple[str, ...], stdin: BinaryIO | None, output: str
    ) -> Iterator[tuple[subprocess.Popen[bytes], BinaryIO, BinaryIO]]:
        """Start git in a process group of its own, which is gone when the context ends, or we are."""
        with ExitStack() as stack:
            messages = stack.enter_context(open(self._folder / "messages", "w+b"))
            file = stack.enter_context(open(self._folder / "answer", "w+b"))
            try:
                process = stack.enter_context(
                    guarded(
                        [self._program, *arguments],
                        stdin=subprocess.DEVNULL if stdin is None else stdin,
                        stdout=subprocess.PIPE if output == "pipe" else file,
                        stderr=messages,
                        cwd=self._folder,
                        env=self._environment,
                    )
                )
            except OSError as error:
                raise OutsideError(f"{self._program} cannot be started: {error.strerror}") from None
            yield process, cast("BinaryIO", process.stdout or file), messages


def find_git(environment: Mapping[str, str]) -> str:
    """Give where git is. Raises OutsideError where it is not."""
    found = shutil.which("git", path=environment.get("PATH") or os.defpath)
    if found is None:
        raise OutsideError(
            "git is not installed, and git(…) needs it where its files are not in the store yet",
            "apt-get install git, or whatever installs programs here",
        )
    return found


def _failed(command: str, code: int, messages: BinaryIO) -> UpstreamError:
    messages.seek(0, os.SEEK_END)
    messages.seek(max(0, messages.tell() - 4096))
    lines = [line.strip() for line in messages.read().decode(errors="replace").splitlines() if line.strip()]
    said = "".join(
        f"\n  {''.join(c if c.isprintable() else '?' for c in line)}" for line in lines[-SHOWN_LINES:]
    )
    return UpstreamError(f"git {command} ended with exit code {code}{said}")
