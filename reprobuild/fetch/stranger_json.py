"""JSON that a stranger wrote: a value, or a ValueError in words, whatever it is.

Knows nothing of what the value should be.
"""

from __future__ import annotations

import json
from typing import Any


def read_json(text: str | bytes) -> Any:
    """Read JSON. Raises ValueError for what is none, or is nested deeper than it can be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
