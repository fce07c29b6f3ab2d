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

    return run(arguments)


def start() -> int:
    """Run ``main`` as all that this process is for, and end it at once.

    Every file is closed and every other process has ended by then, and taking the interpreter apart
    costs as much as a warm start. Profilers and tracers are waited for.
    """
    code = main()
    if sys.getprofile() is not None or sys.gettrace() is not None:
        return code
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass  # whoever read our output has gone
    os._exit(code)
