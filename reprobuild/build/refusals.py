"""What becomes of a command that asked its gateway for more than it gives.

Knows nothing of how requests are answered; ``gateway.report`` writes them down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprobuild.errors import RefusedFetchError
from reprobuild.events import Note, Warned

if TYPE_CHECKING:
    from reprobuild.events import Tell
    from reprobuild.gateway.gate import Gate

SHOWN_UNUSED = 10
NOT_PUBLIC = "not public"
"""Stands in why a request was refused for where its address leads."""
PIN = "pin what it needs as steps of the recipe:\n"


def refused_error(what: str, gate: Gate, ended: str, mend: str = "") -> RefusedFetchError:
    """Give the error of a command that failed after it was refused something.

    ``what``: the step or the predictor; ``ended``: how it ended, with its last lines; ``mend``: what to do,
    else the stanza that pins what it asked for.
    """
    from reprobuild.gateway.report import describe, stanza

    lines = [f"{what} reached for the network beyond what is pinned for it:", describe(gate.refused), ended]
    return RefusedFetchError("\n".join(lines).rstrip(), mend or PIN + stanza(gate.refused))


def allowing(gate: Gate, lock: str) -> str:
    """Give what lets a recorded command reach the private addresses that it was refused, else ``""``.

    ``lock``: the command that locks the recipe.
    """
    private = sorted({one.host for one in gate.refused if NOT_PUBLIC in one.why})
    asked = " ".join(f"--allow-private {host}" for host in private)
    return f"if that is meant: {lock} {asked}" if private else ""


def tell_of_gate(what: str, gate: Gate, tell: Tell, *, strict: bool, mend: str = "") -> None:
    """Tell what a command that ended well was refused, and which recorded exchanges it left out.

    ``mend``: what to do about a refusal, else the stanza that pins what it asked for.

    Raises RefusedFetchError for a refusal where ``strict`` makes it a failure.
    """
    if gate.refused:
        if strict:
            raise refused_error(what, gate, "it coped without, which --strict-network does not allow", mend)
        from reprobuild.gateway.report import describe, stanza

        tell(
            Warned(
                f"{what} reached for the network beyond what is pinned for it, and coped without:\n"
                f"{describe(gate.refused)}",
                mend or PIN + stanza(gate.refused),
            )
        )
    if gate.unused:
        count = len(gate.unused)
        lines = [f"  {pin.name}" for pin in gate.unused[:SHOWN_UNUSED]]
        lines += [f"  and {count - SHOWN_UNUSED} more"] if count > SHOWN_UNUSED else []
        were = "exchange was" if count == 1 else "exchanges were"
        tell(Note("\n".join([f"{what}: {count} recorded {were} not asked for:", *lines])))
