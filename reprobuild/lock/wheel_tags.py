"""Which wheels fit an image, and which of them fits best (PEP 425, PEP 600, PEP 656). Pure.

Knows nothing of indexes, and never looks at the Python or the C library of the machine it runs on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import BuildTag, InvalidWheelFilename, parse_wheel_filename

ARCHITECTURES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}

UV_GLIBC_MINORS = (17, 28, *range(31, 41))
"""Minor versions of glibc for which uv knows a platform, ``x86_64-manylinux_2_28``."""

_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}


@dataclass(frozen=True)
class Target:
    """What a wheel has to fit."""

    python: str
    """``3.11``."""
    architecture: str
    """``x86_64``, as in names of wheels."""
    libc: str
    """``glibc`` or ``musl``."""
    libc_version: tuple[int, int]

    @property
    def uv_platform(self) -> str:
        """The nearest platform that uv can resolve for; never one that promises more than there is."""
        if self.libc == "musl":
            return f"{self.architecture}-unknown-linux-musl"
        _, minor = self.libc_version
        known = [number for number in UV_GLIBC_MINORS if number <= minor]
        return f"{self.architecture}-manylinux_2_{max(known, default=UV_GLIBC_MINORS[0])}"

    @cached_property
    def ranks(self) -> dict[Tag, int]:
        """Each tag that fits with its rank, 0 for the best."""
        major, minor = (int(part) for part in self.python.split("."))
        version = (major, minor)
        # Until 3.7 the ABI said that Python's own allocator was used (PEP 3149, "m").
        abi = f"cp{major}{minor}" + ("m" if version < (3, 8) else "")
        platforms = list(self._platforms())
        tags = [
            *cpython_tags(version, [abi], platforms),
            *compatible_tags(version, f"cp{major}{minor}", platforms),
        ]
        ranks: dict[Tag, int] = {}
        for rank, tag in enumerate(tags):
            ranks.setdefault(tag, rank)
        return ranks

    def _platforms(self) -> Iterator[str]:
        major, minor = self.libc_version
        if self.libc == "musl":
            for number in range(minor, -1, -1):
                yield f"musllinux_{major}_{number}_{self.architecture}"
        else:
            for number in range(minor, _OLDEST_GLIBC.get(self.architecture, 17) - 1, -1):
                yield f"manylinux_{major}_{number}_{self.architecture}"
                if number in _LEGACY:
                    yield f"{_LEGACY[number]}_{self.architecture}"
        yield f"linux_{self.architecture}"

    def rank(self, name: str) -> tuple[int, BuildTag] | None:
        """Give how well a wheel fits by its file name, less being better, or None where it does not.

        Raises ValueError for a name that is none of a wheel.
        """
        try:
            _, _, build, tags = parse_wheel_filename(name)
        except InvalidWheelFilename as error:
            raise ValueError(str(error)) from None
        ranks = [rank for tag in tags if (rank := self.ranks.get(tag)) is not None]
        return (min(ranks), build) if ranks else None

    def best(self, names: Iterable[str]) -> str | None:
        """Give the name of the wheel that fits best, None where none does.

        Of wheels with equally good tags the one with the highest build number wins (PEP 427), then
        the name that sorts first, so that the order of an index decides nothing.
        """
        fitting: list[tuple[int, BuildTag, str]] = []
        for name in names:
            try:
                rank = self.rank(name)
            except ValueError:
                continue
            if rank is not None:
                fitting.append((*rank, name))
        if not fitting:
            return None
        least = min(rank for rank, _, _ in fitting)
        newest = max(build for rank, build, _ in fitting if rank == least)
        return min(name for rank, build, name in fitting if rank == least and build == newest)
