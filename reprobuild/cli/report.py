"""How the result of ``realize`` reads: as text, as JSON, and as one line on stderr.

Knows nothing of how images come about. What it makes is remembered for calls with nothing to do, so
it depends on the result alone, never on the clock or the terminal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from reprobuild.build.memo import Answer
from reprobuild.cli.text import count_text, seconds_text, size_text, visible


def answer_of(result: Mapping[str, Any]) -> Answer:
    """Give what is printed of one recipe's result (the fields of DESIGN section 13)."""
    return Answer(json_of(result), visible(text_of(result)), visible(summary_of(result)))


def json_of(result: Mapping[str, Any]) -> str:
    """Give the result as a document of one line."""
    return json.dumps(result, ensure_ascii=False)


def text_of(result: Mapping[str, Any]) -> str:
    """Give the lines for people: tag, image ID, input hash."""
    return f"{result['tag']}\n  image ID    {result['image_id']}\n  input hash  {result['input_hash']}"


def summary_of(result: Mapping[str, Any]) -> str:
    """Give one line on what was done and what was there."""
    statuses = [layer["status"] for layer in result["layers"]]
    made = [status for status in ("built", "pulled", "reused") if status in statuses]
    parts = [f"{count_text(statuses.count(status), 'layer')} {status}" for status in made]
    if result["fetched_bytes"]:
        parts.append(f"{size_text(result['fetched_bytes'])} fetched")
    if set(statuses) - {"reused"}:
        parts.append(seconds_text(result["seconds"]))
    return f"{result['recipe']}: {', '.join(parts) or 'no layers'}"


def reused(result: Mapping[str, Any]) -> dict[str, Any]:
    """Give a result as the next call will see it: everything there, nothing fetched, no time spent."""
    layers = [{**layer, "status": "reused"} for layer in result["layers"]]
    return {**result, "layers": layers, "fetched_bytes": 0, "seconds": 0.0}
