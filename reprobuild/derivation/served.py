"""What is served to a recorded command beside the usual: more ports, and answers of its recipe.

Knows nothing of how servers are met or recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from reprobuild.derivation.steps import Fetched, Gdrive, Hub, Url
from reprobuild.derivation.where import Where
from reprobuild.errors import RecipeError

SERVED_PORTS = (53, 80, 443)
"""Where names are looked up, and where servers are: served for every recorded command."""


def checked_ports(ports: tuple[int, ...] | list[int], where: Where) -> tuple[int, ...]:
    """Give TCP ports beside those that are always served, ascending. Raises RecipeError."""
    if not isinstance(ports, list | tuple):
        raise RecipeError(f"{where}: ports={ports!r}: a list is needed", f"ports=[{ports}]")
    for port in ports:
        if type(port) is not int or not 0 < port < 65536 or port in SERVED_PORTS:
            raise RecipeError(
                f"{where}: ports={list(ports)!r}: TCP ports beside those that are always served "
                f"({', '.join(map(str, SERVED_PORTS))}) are needed"
            )
    return tuple(sorted(set(ports)))


def checked_answers(answers: Mapping[str, Fetched], where: Where) -> dict[str, Fetched]:
    """Give URL → the source whose one file answers it, by URL. Raises RecipeError."""
    if not isinstance(answers, Mapping):
        raise RecipeError(
            f"{where}: answers={answers!r}: addresses and what answers them are needed",
            'answers={"https://…": url("https://…")}',
        )
    for address, source in answers.items():
        parts = urlsplit(address) if isinstance(address, str) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise RecipeError(f"{where}: answers={{{address!r}: …}}: not an http or https address")
        if not isinstance(source, Url | Gdrive | Hub):
            raise RecipeError(
                f"{where}: answers={{{address!r}: …}}: the answer is a source of one file",
                "one of url(…), gdrive(…), hub(…)",
            )
        if getattr(source, "unpack", False):
            raise RecipeError(
                f"{where}: answers={{{address!r}: …}}: the file itself answers, without unpack="
            )
        if isinstance(source, Hub) and (len(source.files) != 1 or "*" in source.files[0]):
            raise RecipeError(
                f"{where}: answers={{{address!r}: hub(…)}} needs exactly one file", 'files=["model.bin"]'
            )
    return {address: answers[address] for address in sorted(answers)}
