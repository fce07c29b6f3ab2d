"""Golden values: what formats and digests were when somebody last looked at them.

``assert_golden("name", value)`` compares with ``tests/goldens/name.json``; ``pytest --accept`` writes
what is there now, to be reviewed as a diff. Knows nothing of what the values mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "goldens"

accept = False
"""Whether to write instead of compare; ``conftest.py`` sets it from the command line."""


def assert_golden(name: str, value: Any) -> None:
    """Compare a JSON value with the golden of that name (``tar/whiteouts`` is a file in a folder)."""
    path = FOLDER / f"{name}.json"
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if accept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    assert path.exists(), f"there is no golden {name}: look at the value, then pytest --accept"
    # Compared as values, so that pytest shows the part that differs.
    assert json.loads(text) == json.loads(path.read_text(encoding="utf-8")), (
        f"the golden {name} differs: if that is meant, raise what versions it, then pytest --accept"
    )
