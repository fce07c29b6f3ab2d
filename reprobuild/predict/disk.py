"""What diskcache keeps of a prediction: bytes under 32 bytes, never a pickle.

Knows nothing of what the bytes mean. The class is all that diskcache asks for to write and read
values; anything but bytes is refused on the way in, and a pickle that somebody put there on the way out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diskcache  # type: ignore[import-untyped]

from reprobuild.predict import bulk

NO_LIMIT = 1 << 62
"""Bytes: predictions are never evicted silently; ``gc`` gives space back, and says what it took."""


class PredictionDisk(diskcache.Disk):  # type: ignore[misc]
    """diskcache's serialisation, narrowed to bytes."""

    def put(self, key: Any) -> Any:
        """Give the row's key; raises TypeError for anything but 32 bytes."""
        if type(key) is not bytes or len(key) != 32:
            raise TypeError(f"the key of a prediction is 32 bytes, not {key!r}")
        return super().put(key)

    def get(self, key: Any, raw: Any) -> Any:
        """Give the key of a row; raises ValueError where it is a pickle."""
        if not raw:
            raise ValueError("a key that is no prediction's")
        return super().get(key, raw)

    def store(self, value: Any, read: Any, key: Any = diskcache.UNKNOWN) -> Any:
        """Give the row's value; raises TypeError for anything but bytes."""
        if read or type(value) is not bytes:
            raise TypeError("a prediction is kept as bytes")
        return super().store(value, False, key=key)

    def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> Any:
        """Give the value of a row; raises ValueError where it is a pickle or a text."""
        if mode not in (bulk.RAW, bulk.BINARY):
            raise ValueError("a value that is no prediction's")
        return super().fetch(mode, filename, value, read)


def open_diskcache(folder: Path) -> Any:
    """Open a folder as ``diskcache.Cache``, making what is missing of it, with nothing ever evicted."""
    return diskcache.Cache(
        str(folder),
        timeout=bulk.BUSY_SECONDS,
        disk=PredictionDisk,
        cull_limit=0,
        disk_min_file_size=bulk.LARGEST_ROW,
        eviction_policy="none",
        size_limit=NO_LIMIT,
        statistics=0,
    )
