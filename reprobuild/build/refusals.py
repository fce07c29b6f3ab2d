"""What becomes of a command that asked its gateway for more than it gives.

Knows nothing of how requests are answered; ``gateway.report`` writes them down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprobuild.errors import RefusedFetchError, UpstreamError
from reprobuild.events import Note, Warned

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reprobuild.derivation.pins import Pin
    from reprobuild.events import Tell
    from reprobuild.gateway.gate import Gate

SHOWN_UNUSED = SHOWN_UNREACHED = 10
NOT_PUBLIC = "not public"
"""Stands in why a request was refused for where its address leads."""
PIN = "pin what it needs as steps of the recipe:\n"

WAIT = "try again when they answer; what is locked is built without them"
"""What to do about servers that are not there."""


def refused_error(what: str, gate: Gate, ended: str, mend: str = "") -> RefusedFetchError:
    """Give the error of a command that failed after it was refused something.

    ``what``: the step or the predictor; ``ended``: how it ended, with its last lines; ``mend``: what to do,
    else the stanza that pins what it asked for.
    """
    from reprobuild.gateway.report import describe, stanza

    lines = [f"{what} reached for the network beyond what is pinned for it:", describe(gate.refused), ended]
    return RefusedFetchError("\n".join(lines).rstrip(), mend or PIN + stanza(gate.refused, gate.word))


def unreached_error(what: str, unreached: Mapping[str, str], ended: str = "") -> UpstreamError:
    """Give the error of a command that was recorded, and whose servers could not be asked.

    ``what``: the step or the predictor; ``unreached``: what it asked them for, and why it got none;
    ``ended``: how it ended, with its last lines.
    """
    from reprobuild.gateway.report import printable

    lines = [f"  {printable(name)}: {printable(why)}" for name, why in unreached.items()]
    more = [f"  and {len(lines) - SHOWN_UNREACHED} more"] if len(lines) > SHOWN_UNREACHED else []
    text = [f"{what}: what it fetches cannot be had:", *lines[:SHOWN_UNREACHED], *more, ended]
    return UpstreamError("\n".join(text).rstrip(), WAIT)


def demand_reached(what: str, gate: Gate, locked: Iterable[Pin]) -> None:
    """Check that a command which coped was not left without what it got when it was locked.

    Raises UpstreamError: what upstream would give cannot be told then.
    """
    had = {pin.name for pin in gate.pins}
    lost = {pin.name: gate.unreached[pin.name] for pin in locked if pin.name in gate.unreached.keys() - had}
    if lost:
        raise unreached_error(what, lost)


def allowing(gate: Gate, lock: str) -> str:
    """Give what lets a recorded command reach the private addresses that it was refused, else ``""``.

    ``lock``: the command that locks the recipe.
    """
    private = sorted({one.host for one in gate.refused if NOT_PUBLIC in one.why})
    asked = " ".join(f"--allow-private {host}" for host in private)
    return f"if that is meant: {lock} {asked}" if private else ""


def tell_of_gate(
    what: str, gate: Gate, tell: Tell, *, strict: bool, mend: str = "", is_over: bool = True
) -> None:
    """Tell what a command that ended well was refused, and which recorded exchanges it left out.

    ``mend``: what to do about a refusal, else the stanza that pins what it asked for; ``is_over``: whether
    the command has ended: until then it may ask for more.

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
                mend or PIN + stanza(gate.refused, gate.word),
            )
        )
    if gate.unused and is_over:
        count = len(gate.unused)
        lines = [f"  {pin.name}" for pin in gate.unused[:SHOWN_UNUSED]]
        lines += [f"  and {count - SHOWN_UNUSED} more"] if count > SHOWN_UNUSED else []
        were = "exchange was" if count == 1 else "exchanges were"
        tell(Note("\n".join([f"{what}: {count} recorded {were} not asked for:", *lines])))
