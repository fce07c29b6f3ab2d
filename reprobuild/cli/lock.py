"""``reprobuild lock``: write pins and outputs; renew some; say what upstream would give today."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from reprobuild.cli.arguments import chosen_names, pairs, set_option, trust_option
from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text
from reprobuild.errors import UsageError

if TYPE_CHECKING:
    from reprobuild.derivation.derive import Difference

SHOWN = 40
"""Differences that are shown; the lock's own diff has them all."""


@click.command("lock")
@click.argument("names", nargs=-1, metavar="NAME…")
@click.option(
    "--update",
    "update",
    multiple=True,
    metavar="SOURCE",
    help="Pin a source anew: its kind, or a part of it.",
)
@click.option("--check", is_flag=True, help="Say what upstream would give today; change nothing.")
@click.option("--all", "everything", is_flag=True, help="Every recipe that there is.")
@set_option
@trust_option
@click.pass_obj
def command(
    session: Session,
    names: tuple[str, ...],
    update: tuple[str, ...],
    check: bool,
    everything: bool,
    sets: tuple[str, ...],
    trust: bool,
) -> int:
    """Pin every source that has no pin, build, and write pins and outputs to recipe.lock.

    Pins that are there stay as they are, unless --update names their source.
    """
    if check and update:
        raise UsageError("--check and --update exclude each other", "first see what --check says")
    options = pairs(sets, "--set")
    from reprobuild.lock.lock import check as check_lock
    from reprobuild.lock.lock import lock

    with session.working() as project:
        for name in chosen_names(project, names, everything=everything):
            if check:
                _show_check(session, name, check_lock(project, name, options, trust=trust))
                continue
            locked = lock(project, name, options, update=update, trust=trust)
            if session.json:
                fields = {**locked.realised.to_json(), "lock": str(locked.path), "written": locked.is_written}
                print_json({**fields, "changed": [_plain(one) for one in locked.changed]})
                continue
            what = "written" if locked.is_written else "says all of it already"
            lines = [f"{name}: {locked.path} {what}", *difference_lines(locked.changed)]
            lines.append(f"  image ID    {locked.realised.image_id}")
            lines.append(f"  input hash  {locked.realised.input_hash}")
            print_text("\n".join(lines))
    return 0


def _show_check(session: Session, name: str, found: Sequence[Difference]) -> None:
    if session.json:
        print_json(document(recipe=name, changed=[_plain(one) for one in found]))
    elif not found:
        print_text(f"{name}: upstream gives what the lock says")
    else:
        count = count_text(len(found), "difference")
        print_text(
            "\n".join([f"{name}: upstream gives other things today ({count})", *difference_lines(found)])
        )


def difference_lines(found: Sequence[Difference]) -> list[str]:
    """Write differences as lines: ``path: before → after``."""
    lines = [f"  {one.path}: {value_text(one.before)} → {value_text(one.after)}" for one in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"  and {len(found) - SHOWN:,} more")
    return lines


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


def _plain(one: Difference) -> dict[str, Any]:
    return {"path": one.path, "before": one.before, "after": one.after}
