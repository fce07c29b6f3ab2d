"""Which maintainer scripts would have done something that placing does not make up for.

Knows nothing of what a script does, only of what it says: parts that debhelper writes and commands that
change nothing in an image are taken out, and what is left is judged. A package that is known has its
own verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

from reprobuild.build.place.debian_archive import Deb


def notes(debs: Sequence[Deb]) -> tuple[str, ...]:
    """Give a sentence for each package whose scripts would have mattered, in the order of the packages."""
    return ()
