"""Runs a program of this machine to its end: an argument list, an environment of its own, a time limit.

Knows nothing of what programs do. What talks with a program while it runs starts it itself; commands of
images are run by engines.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence


class Ended:
    """How a program ended, and what it printed."""

    __slots__ = ("code", "messages", "output")

    def __init__(self, code: int, output: bytes, messages: bytes) -> None:
        self.code = code
        """Its exit code; below zero, the number of the signal that ended it."""
        self.output = output
        self.messages = messages
        """What it printed to standard error."""


def run_program(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    limit: float | None,
    folder: str | os.PathLike[str] | None = None,
    given: bytes = b"",
    prepare: Callable[[], None] | None = None,
) -> Ended:
    """Run a program and give how it ended, whatever that is.

    ``limit``: seconds, after which it is killed; None for what may take as long as it likes; ``folder``:
    where it runs; ``given``: what it reads from standard input; ``prepare``: is called in the new process.
    Raises TimeoutError for one that does not end, OSError for one that cannot be started.
    """
    import subprocess

    try:
        ended = subprocess.run(
            argv,
            input=given,
            capture_output=True,
            cwd=folder,
            env=env,
            timeout=limit,
            preexec_fn=prepare,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"it did not end within {limit:g} seconds") from None
    return Ended(ended.returncode, ended.stdout, ended.stderr)
