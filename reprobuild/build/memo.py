"""Remembers how a ``realize`` that found everything done answers, ready to be printed again.

A memo is one small text file, ``memo/<key>`` in the store: the files that must still be there, then
the answer as JSON and as text. The key covers the tool's version, the recipe's folder with its lock,
and the options, so a memo never has to be kept up to date; removing one costs a slow answer once.
Knows nothing of recipes or records. Light on purpose: it is on the way of every warm ``realize``.
"""

from __future__ import annotations

import os
import sys
from hashlib import sha256

from reprobuild import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FOLDER = "memo"
FORMAT = "memo 1"


class Answer:
    """What was printed: the JSON document and the lines for people, without the last line end."""

    __slots__ = ("json", "summary", "text")

    def __init__(self, json: str, text: str, summary: str) -> None:
        self.json = json
        """One line for stdout, under ``--json``."""
        self.text = text
        """Lines for stdout otherwise."""
        self.summary = summary
        """One line for stderr."""


def memo_key(name: str, folder: Sequence[str], options: Sequence[str], engine: str) -> str:
    """Give the key of an answer, 64 hex digits.

    ``folder``: digests of all that is in the recipe's folder, its lock included; ``options``: the
    texts of ``--set`` as they were given, in order; ``engine``: the setting.
    """
    here = os.uname()
    parts = (
        __version__,
        f"{sys.implementation.cache_tag} {here.sysname} {here.machine}",
        name,
        *folder,
        engine,
        str(len(options)),
        *options,
    )
    hasher = sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape")
        hasher.update(b"%d:" % len(data))
        hasher.update(data)
    return hasher.hexdigest()


def recall(store: str, key: str) -> Answer | None:
    """Give the answer of a memo, or None: there is none, it is damaged, or a file it needs is gone."""
    try:
        with open(os.path.join(store, FOLDER, key), encoding="utf-8") as file:
            lines = file.read().split("\n")
        count = int(lines[1])
        needs, summary, json, end = lines[2 : 2 + count], lines[2 + count], lines[3 + count], lines[-2:]
        if lines[0] != FORMAT or end != ["end", ""] or not needs:
            return None
        for path in needs:
            os.stat(os.path.join(store, path))
    except (OSError, ValueError, IndexError):
        return None
    return Answer(json, "\n".join(lines[4 + count : -2]), summary)


def remember(store: str, key: str, answer: Answer, needs: Iterable[str]) -> None:
    """Write a memo: whole or not at all.

    ``needs``: files of the store that the answer speaks of, relative to it; at least one. Raises
    nothing: a memo that can't be written is none.
    """
    required = sorted(set(needs))
    assert required
    assert "\n" not in answer.json + answer.summary
    text = "\n".join(
        (FORMAT, str(len(required)), *required, answer.summary, answer.json, answer.text, "end", "")
    )
    folder = os.path.join(store, FOLDER)
    path = os.path.join(folder, key)
    half = f"{path}.{os.getpid()}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with open(half, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(half, path)
    except OSError:
        return


def clear(store: str) -> int:
    """Remove all memos; give how many there were."""
    folder = os.path.join(store, FOLDER)
    count = 0
    try:
        names = os.listdir(folder)
    except OSError:
        return 0
    for name in names:
        try:
            os.unlink(os.path.join(folder, name))
        except OSError:
            continue
        count += 1
    return count
