"""The command line: reads arguments, calls one function of a lower floor, prints what came back.

Knows nothing of how anything is done. Light on purpose: a ``realize`` with nothing to do is answered
by ``warm`` before click, rich or anything else is imported.
"""

from __future__ import annotations

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
