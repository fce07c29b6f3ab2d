"""The sha256 digest as a type: parsed once, compared and ordered as a value.

Knows nothing of files, stores or what is being hashed.
"""

from __future__ import annotations

import hashlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

HEX_DIGITS = "0123456789abcdef"
BUFFER_SIZE = 256 * 1024
"""Bytes read at a time: larger buffers fall out of the CPU's cache, smaller ones cost calls."""


class Digest:
    """A sha256 digest.

    Written ``sha256:<64 hex digits>`` (OCI image specification, descriptor.md, "Digests").
    Immutable, hashable, ordered by its hex digits.
    """

    __slots__ = ("hex",)

    hex: str
    """64 lower-case hex digits."""

    def __init__(self, hex_digits: str) -> None:
        """Take 64 lower-case hex digits; raises ValueError for anything else."""
        if len(hex_digits) != 64 or hex_digits.strip(HEX_DIGITS):
            raise ValueError(f"not a sha256 digest of 64 lower-case hex digits: {hex_digits!r}")
        object.__setattr__(self, "hex", hex_digits)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Digest does not change")

    def __reduce__(self) -> tuple[type[Digest], tuple[str]]:
        return (Digest, (self.hex,))

    @classmethod
    def trusted(cls, hex_digits: str) -> Digest:
        """Take hex digits that are known to be right, a fifth as slowly: for whoever reads thousands."""
        digest = object.__new__(cls)
        object.__setattr__(digest, "hex", hex_digits)
        return digest

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``sha256:<hex>``; raises ValueError for another algorithm or form."""
        algorithm, separator, hex_digits = text.partition(":")
        if not separator or algorithm != "sha256":
            raise ValueError(f"not a digest of the form sha256:<hex>: {text!r}")
        return cls(hex_digits)

    @classmethod
    def of(cls, data: bytes | memoryview) -> Digest:
        """Give the digest of bytes in memory."""
        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def of_chunks(cls, chunks: Iterable[bytes]) -> Digest:
        """Give the digest of a stream of chunks."""
        hasher = hashlib.sha256()
        for chunk in chunks:
            hasher.update(chunk)
        return cls(hasher.hexdigest())

    @classmethod
    def of_file(cls, file: BinaryIO) -> tuple[Digest, int]:
        """Read an unbuffered binary file to its end; give digest and size in bytes."""
        hasher = hashlib.sha256()
        buffer = bytearray(BUFFER_SIZE)
        view = memoryview(buffer)
        size = 0
        read_into = file.readinto  # type: ignore[attr-defined]
        while count := read_into(view):
            hasher.update(view[:count])
            size += count
        return cls(hasher.hexdigest()), size

    @property
    def short(self) -> str:
        """The first 12 hex digits: for people and tags, never for trust."""
        return self.hex[:12]

    def __str__(self) -> str:
        return "sha256:" + self.hex

    def __repr__(self) -> str:
        return f"Digest({self.hex!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self.hex == other.hex

    def __hash__(self) -> int:
        return hash(self.hex)

    def __lt__(self, other: Digest) -> bool:
        return self.hex < other.hex
