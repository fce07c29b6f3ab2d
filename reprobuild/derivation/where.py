"""Where in a recipe something stands: file and line, for messages.

Knows nothing of what stands there.
"""

from __future__ import annotations

import sys

from reprobuild.value import Value


class Where(Value):
    """Where in a recipe something stands; equal to any other, so that moving a line changes no key."""

    file: str = "recipe.py"
    line: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Where)

    def __hash__(self) -> int:
        return 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @classmethod
    def caller(cls) -> Where:
        """Give the nearest line on the stack that is not the package's own."""
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_globals.get("__package__", "") == __package__:
            frame = frame.f_back
        return cls(frame.f_code.co_filename.rpartition("/")[2], frame.f_lineno)
