"""The command line: reads arguments, calls one function of a lower floor, prints what came back.

Knows nothing of how anything is done. Light on purpose: a ``realize`` with nothing to do is answered
by ``warm`` before click, rich or anything else is imported.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line of this process; give its exit code (DESIGN section 11)."""
    arguments = sys.argv[1:]
    if "realize" in arguments:
        from reprobuild.cli.warm import answer

        code = answer(arguments)
        if code is not None:
            return code
    from reprobuild.cli.root import run

    return _leave(run(arguments))


def _leave(code: int) -> int:
    """End the process at once where that is all that is left: taking it apart costs as much as a warm start.

    Every file is closed and every process has ended by now; profilers and tracers are waited for.
    """
    if sys.getprofile() is None and sys.gettrace() is None:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except BrokenPipeError:
            pass  # whoever read our output has gone
        os._exit(code)
    return code
