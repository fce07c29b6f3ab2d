"""Answers a ``realize`` that has nothing to do, in little more time than Python takes to start.

Understands plain calls only, and answers only what a whole run has answered before and remembered
(``reprobuild.build.memo``); anything else it leaves to click by giving None. Writes nothing.
"""

from __future__ import annotations

import os
import sys

from reprobuild.cli.plain import flags, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from reprobuild.build.memo import Answer
    from reprobuild.cli.plain import Call


def answer(arguments: Sequence[str]) -> int | None:
    """Print the remembered answers and give 0, or print nothing and give None."""
    call = parse(arguments, "realize")
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


def _recall(call: Call) -> list[Answer] | None:
    from reprobuild import settings
    from reprobuild.build.memo import memo_key, recall
    from reprobuild.build.recipes import find
    from reprobuild.derivation.folder import folder_digests

    here = settings.load(flags(call), os.environ, os.getcwd())
    answers = []
    for name in call.names:
        folder = find(here.recipes, name)
        key = memo_key(name, folder_digests(folder), call.sets, here.engine)
        found = recall(here.store, key)
        if found is None:
            return None
        answers.append(found)
    return answers
