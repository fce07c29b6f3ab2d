"""``reprobuild why``: which input differs between two recipes, tags or images."""

from __future__ import annotations

import click

from reprobuild.cli.lock import difference_lines
from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text


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
