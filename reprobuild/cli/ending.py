"""How one call of the command line ends: an exit code, and errors in words whatever happens.

Knows nothing of verbs, nor of how arguments are read.
"""

from __future__ import annotations

import errno
import signal
import sys

from reprobuild.cli.output import allow_any_text, discard, flush, print_error
from reprobuild.errors import OutsideError, ReprobuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reprobuild.cli.session import Session

INTERRUPTED = 130


def _interrupt(number: int, frame: object) -> None:
    """End as after Ctrl-C: whatever runs inside a sandbox is ended first, and nothing is left behind."""
    raise KeyboardInterrupt


def ended(work: Callable[[], object], session: Session, arguments: Sequence[str]) -> int:
    """Do the work of one call; give its exit code. No exception gets out of here."""
    try:
        signal.signal(signal.SIGTERM, _interrupt)
        allow_any_text()
        code = work()
        flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        discard()  # whoever read our output has gone (`| head`)
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except ReprobuildError as error:
        return _end(error, session, arguments)
    except OSError as error:
        return _end(_from_system(error), session, arguments)
    except Exception as error:  # noqa: BLE001 - the outermost edge: no traceback for a person
        unexpected = ReprobuildError(
            f"a fault in reprobuild itself: {type(error).__name__}: {error}",
            "run it again with --debug, and report what that shows",
        )
        return _end(unexpected, session, arguments)


def _end(error: ReprobuildError, session: Session, arguments: Sequence[str]) -> int:
    # A fault in the arguments may have come before --debug or --json was read.
    if session.debug or "--debug" in arguments:
        import traceback

        traceback.print_exc()
    try:
        print_error(error, as_json=session.json or "--json" in arguments)
        flush()
    except (BrokenPipeError, OutsideError):
        discard()
    return error.exit_code


def _from_system(error: OSError) -> ReprobuildError:
    if error.errno == errno.EBADF and not error.filename:
        return OutsideError("a standard stream is closed, and was needed")
    named = f"{error.filename}: " if error.filename else ""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "reprobuild gc gives space back" if is_full else ""
    return OutsideError(f"{named}{error.strerror or error}", hint)
