"""What a command prints, taken in as it comes: handed on line by line, its last lines kept.

Lines are bytes of a stranger: their length is bounded here; control characters are the business of
whoever shows them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

TAIL_LINES = 100
LONGEST_KEPT = 4096
"""Bytes of a line that the tail keeps."""

LONGEST_PIECE = 64 * 1024
"""Bytes handed on at once: a longer line comes in pieces."""


class Lines:
    """Cuts a stream of bytes into lines."""

    def __init__(self, *listeners: Callable[[bytes], None]) -> None:
        self._listeners = listeners
        self._rest = b""
        self._inside = False
        self._tail: deque[bytes] = deque(maxlen=TAIL_LINES)

    def feed(self, data: bytes) -> None:
        """Take bytes as they come."""
        pieces = (self._rest + data).split(b"\n")
        self._rest = pieces.pop()
        for piece in pieces:
            self._line(piece + b"\n")
        while len(self._rest) > LONGEST_PIECE:
            piece, self._rest = self._rest[:LONGEST_PIECE], self._rest[LONGEST_PIECE:]
            self._line(piece)

    def close(self) -> None:
        """Take the end: a last line need not have a line end."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines, without line ends; what is no UTF-8 is replaced."""
        return tuple(line.decode(errors="replace") for line in self._tail)

    def _line(self, line: bytes) -> None:
        while len(line) > LONGEST_PIECE:
            self._piece(line[:LONGEST_PIECE])
            line = line[LONGEST_PIECE:]
        self._piece(line)

    def _piece(self, piece: bytes) -> None:
        kept = piece[:LONGEST_KEPT].rstrip(b"\r\n")
        if not self._inside:
            self._tail.append(kept)
        elif len(self._tail[-1]) < LONGEST_KEPT:
            self._tail[-1] = (self._tail[-1] + kept)[:LONGEST_KEPT]
        self._inside = not piece.endswith(b"\n")
        for listener in self._listeners:
            listener(piece)
