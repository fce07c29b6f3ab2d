"""Diversions: a package that has a file of its own where another's would lie moves the other's aside.

Knows nothing of other parts of maintainer scripts; runs none of them. Calls are read where they are
written out, in the package's own name: those made for others mend upgrades. Source: dpkg-divert(1).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

from reprobuild.build.place.debian_archive import Deb

_CALL = re.compile(r"^[ \t]*dpkg-divert[ \t]+([^;&|\n]*)", re.MULTILINE)
_PATH = re.compile(r"/(?:[^/\s'\"$`\\.][^/\s'\"$`\\]*/)*[^/\s'\"$`\\.][^/\s'\"$`\\]*")
_OTHER_ACTIONS = frozenset(("--remove", "--list", "--listpackage", "--truename", "--local"))


def diversions_of(deb: Deb) -> Mapping[str, str]:
    """Give what a package diverts: path → where another's file goes, both relative to the root."""
    found = {}
    for name in ("preinst", "postinst"):
        for words in _calls(deb.script(name)):
            options = dict(itertools.pairwise(words))
            path, target = words[-1], options.get("--divert", "")
            is_own = options.get("--package") == deb.name and not _OTHER_ACTIONS.intersection(words)
            if is_own and _PATH.fullmatch(path) and _PATH.fullmatch(target):
                found[path[1:]] = target[1:]
    return found


def _calls(script: str) -> Iterator[list[str]]:
    for call in _CALL.finditer(script.replace("\\\n", " ")):
        words = [part for word in call[1].split() for part in word.split("=", 1)]
        if words:
            yield words
