"""``reprobuild why``: which input differs between two recipes, tags or images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text

if TYPE_CHECKING:
    from reprobuild.derivation.derive import Difference

SHOWN = 40
"""Differences that are shown; --json has them all."""


@click.command("why")
@click.argument("first", metavar="A")
@click.argument("second", metavar="[B]", required=False)
@click.pass_obj
def command(session: Session, first: str, second: str | None) -> int:
    """Say which inputs differ between A and B: recipes by name, images by tag or image ID.

    With A alone: what has changed in the recipe since it was last realized here.
    """
    from reprobuild.build.why import why

    found = why(session.project(), first, second)
    before, after = found.before, found.after
    if session.json:
        fields = [{"path": one.path, "before": one.before, "after": one.after} for one in found.differences]
        sides = [{"label": side.label, "input_hash": str(side.input_hash)} for side in (before, after)]
        print_json(document(a=sides[0], b=sides[1], differences=fields))
        return 0
    lines = [f"A  {before.label}  {before.input_hash}", f"B  {after.label}  {after.input_hash}"]
    if found.differences:
        lines.append(f"{count_text(len(found.differences), 'input')} differ, A → B:")
        lines += difference_lines(found.differences)
    else:
        lines.append("the same inputs")
    print_text("\n".join(lines))
    return 0


def difference_lines(found: Sequence[Difference]) -> list[str]:
    """Write differences as lines: ``path: A's → B's``, or ``only in A``."""
    lines = [f"  {one.path}: {_change_text(one.before, one.after)}" for one in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"  and {len(found) - SHOWN:,} more")
    return lines


def _change_text(before: Any, after: Any) -> str:
    for side, value, other in (("A", before, after), ("B", after, before)):
        if isinstance(value, dict) and "sha256" not in value and other is None:
            return f"only in {side}"
    return f"{value_text(before)} → {value_text(after)}"


def value_text(value: Any) -> str:
    """Write a part of a derivation on one line: a text as it is, a digest shortened, None as nothing."""
    import json

    if value is None:
        return "nothing"
    if isinstance(value, str):
        shown = value if value and value == value.strip() and "\n" not in value else json.dumps(value)
    elif isinstance(value, dict) and "sha256" in value:
        named = value.get("version") or value.get("name", "")
        shown = f"{named} ({str(value['sha256'])[:12]})"
    else:
        shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 160 else shown[:159] + "…"
