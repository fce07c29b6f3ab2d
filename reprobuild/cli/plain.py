"""Plain calls of the command line, understood without click, which takes as long to import as they take.

Whatever is not exactly understood is left to click. Knows nothing of what is done with a call.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SWITCHES = ("--json", "--quiet", "--offline")
VALUES = ("--store", "--recipes", "--engine", "--set")


class Call:
    """A plain call, taken apart."""

    __slots__ = ("inputs", "names", "options", "recipes", "sets", "switches")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.inputs: list[str] = []
        self.recipes: list[str] = []
        self.sets: list[str] = []
        self.switches: set[str] = set()
        self.options: dict[str, str] = {}
        """By their names, without dashes; of one that is there twice the last, as click has it."""


def parse(arguments: Sequence[str], verb: str, own: Sequence[str] = ()) -> Call | None:
    """Take a call of a verb apart; None for anything that is not exactly understood.

    ``own``: options of the verb that name a file, or ``-``.
    """
    call = Call()
    verbs = 0
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument in SWITCHES:
            call.switches.add(argument)
        elif name in VALUES or (name in own and verbs):
            text = value if equals else next(rest, None)
            if text is None or (text.startswith("-") and not (text == "-" and name in own)):
                return None
            if name == "--recipes":
                call.recipes.append(text)
            elif name == "--input":
                call.inputs.append(text)
            elif name != "--set":
                call.options[name[2:]] = text
            elif verbs:
                call.sets.append(text)
            else:
                return None
        elif argument.startswith("-"):
            return None
        elif not verbs:
            if argument != verb:
                return None
            verbs = 1
        else:
            call.names.append(argument)
    return call


def flags(call: Call) -> dict[str, object]:
    """Give what a call says of settings, as ``settings.load`` takes it."""
    found: dict[str, object] = {
        name: call.options[name] for name in ("store", "engine") if name in call.options
    }
    if call.recipes:
        found["recipes"] = call.recipes
    if "--offline" in call.switches:
        found["offline"] = True
    return found
