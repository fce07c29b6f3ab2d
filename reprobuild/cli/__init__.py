"""The command line: reads arguments, calls one function of a lower floor, prints what came back.

Knows nothing of how anything is done. Light on purpose: a ``realize`` with nothing to do is answered
by ``warm`` before click, rich or anything else is imported, and a plain ``predict`` goes past click too.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line of this process; give its exit code (DESIGN section 11)."""
    arguments = sys.argv[1:]
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_missing_streams()
    code = None
    if "realize" in arguments:
        from reprobuild.cli.warm import answer

        code = answer(arguments)
    elif "predict" in arguments:
        from reprobuild.cli import direct

        code = direct.answer(arguments)
    if code is not None:
        return code
    from reprobuild.cli.root import run

    return run(arguments)


def _open_missing_streams() -> None:
    """Put something in the place of standard streams that the caller has closed.

    Else the next file that is opened would be taken for them. Reading from closed input and writing to
    closed output fail, as they should; errors have nowhere to go.
    """
    flags = {"stdin": os.O_WRONLY, "stdout": os.O_RDONLY, "stderr": os.O_WRONLY}
    for number, (name, flag) in enumerate(flags.items()):
        if getattr(sys, name) is None:
            found = os.open(os.devnull, flag)
            if found != number:
                os.dup2(found, number)
                os.close(found)
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


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
