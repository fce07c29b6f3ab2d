"""What a server calls the file that it sends (``Content-Disposition``, RFC 6266 and RFC 8187).

Knows nothing of requests. A name that could lead out of a folder is none.
"""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import unquote

_EXTENDED = re.compile(r";\s*filename\*\s*=\s*([\w-]+)'[^']*'([^;\s]+)", re.IGNORECASE)
_QUOTED = re.compile(r';\s*filename\s*=\s*"((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_TOKEN = re.compile(r";\s*filename\s*=\s*([^;\s\"]+)", re.IGNORECASE)


def is_attachment(value: str) -> bool:
    """Tell whether a header says that a file is sent, whatever is in it."""
    return value.partition(";")[0].strip().lower() == "attachment"


def file_name(value: str) -> str:
    """Give the name in a header's value, its last part alone; ``""`` where there is none to be had."""
    name = ""
    if match := _EXTENDED.search(value):
        try:
            name = unquote(match[2], encoding=match[1], errors="strict")
        except (LookupError, UnicodeDecodeError):
            name = ""
    if not name and (match := _QUOTED.search(value)):
        name = re.sub(r"\\(.)", r"\1", match[1])
    elif not name and (match := _TOKEN.search(value)):
        name = match[1]
    with suppress(UnicodeError):
        # Header fields travel as bytes; many servers mean UTF-8 by them.
        name = name.encode("latin-1").decode()
    name = re.split(r"[/\\]", name)[-1].strip()
    return name if name not in ("", ".", "..") and name.isprintable() else ""
