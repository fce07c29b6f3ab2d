"""Place a file of Google Drive: as any other fetched file.

Knows nothing of Google Drive.
"""

from __future__ import annotations

from reprobuild.build.place.url import facts, place

__all__ = ["facts", "place"]
