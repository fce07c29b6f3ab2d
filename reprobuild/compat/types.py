"""Types that wrapped models annotate their methods with.

Knows nothing of what is in them.
"""

from __future__ import annotations

from typing import Any

TextType = str | list[str]
"""A text, or its sentences."""
DocumentType = TextType
SummaryType = TextType
MetricsType = dict[str, Any]
"""Numbers by their names, nested or not."""
NestedDict = dict[str, Any]
InstanceDict = dict[str, Any]
"""One input."""
