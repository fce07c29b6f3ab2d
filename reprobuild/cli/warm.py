"""Answers a ``realize`` that has nothing to do, in little more time than Python takes to start.

Understands plain calls only, and answers only what a whole run has answered before and remembered
(``reprobuild.build.memo``); anything else it leaves to click by giving None. Writes nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SWITCHES = ("--json", "--quiet", "--offline")
VALUES = ("--store", "--recipes", "--engine", "--set")


class Call:
    """A plain call of ``realize``, taken apart."""

    __slots__ = ("names", "options", "recipes", "sets", "switches")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.recipes: list[str] = []
        self.sets: list[str] = []
        self.switches: set[str] = set()
        self.options: dict[str, str] = {}


def answer(arguments: Sequence[str]) -> int | None:
    """Print the remembered answers and give 0, or print nothing and give None."""
    call = parse(arguments)
    if call is None or not call.names:
        return None
    from reprobuild.errors import ReprobuildError

    try:
        answers = _recall(call)
    except (ReprobuildError, OSError, ValueError):
        # The long way says what is wrong.
        return None
    if answers is None:
        return None
    try:
        if "--quiet" not in call.switches:
            for found in answers:
                sys.stderr.write(found.summary + "\n")
            sys.stderr.flush()
        for found in answers:
            sys.stdout.write((found.json if "--json" in call.switches else found.text) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr.write(f"error: standard output can't be written: {error.strerror}\n")
        return 5
    return 0


def parse(arguments: Sequence[str]) -> Call | None:
    """Take a call apart; None for anything that is not exactly understood."""
    call = Call()
    verbs = 0
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument in SWITCHES:
            call.switches.add(argument)
        elif name in VALUES:
            text = value if equals else next(rest, None)
            if text is None or text.startswith("-"):
                return None
            if name == "--recipes":
                call.recipes.append(text)
            elif name != "--set":
                call.options[name[2:]] = text
            elif verbs:
                call.sets.append(text)
            else:
                return None
        elif argument.startswith("-"):
            return None
        elif not verbs:
            if argument != "realize":
                return None
            verbs = 1
        else:
            call.names.append(argument)
    return call


def _recall(call: Call) -> list[_Answer] | None:
    from reprobuild import settings
    from reprobuild.build.memo import memo_key, recall
    from reprobuild.build.recipes import find
    from reprobuild.derivation.folder import folder_digests

    flags: dict[str, object] = dict(call.options)
    if call.recipes:
        flags["recipes"] = call.recipes
    if "--offline" in call.switches:
        flags["offline"] = True
    here = settings.load(flags, os.environ, os.getcwd())
    answers = []
    for name in call.names:
        folder = find(here.recipes, name)
        key = memo_key(name, folder_digests(folder), call.sets, here.engine)
        found = recall(here.store, key)
        if found is None:
            return None
        answers.append(found)
    return answers


if TYPE_CHECKING:
    from reprobuild.build.memo import Answer as _Answer
