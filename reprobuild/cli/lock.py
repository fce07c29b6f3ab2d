"""``reprobuild lock``: write pins and outputs; renew some; say what upstream would give today."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from reprobuild.cli.arguments import chosen_names, pairs
from reprobuild.cli.options import all_option, allow_private_option, set_option, trust_option
from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, visible
from reprobuild.derivation.folder import RECORDED
from reprobuild.errors import UsageError

if TYPE_CHECKING:
    from reprobuild.derivation.pins import Pin
    from reprobuild.lock.bodies import Written
    from reprobuild.lock.changes import PinChange, SourceChange

SHOWN = 40
"""Packages of a source that are shown; the lock's own diff has them all."""


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
@all_option
@set_option
@allow_private_option
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
                fields = {**locked.realised.to_json(), "lock": str(locked.path), **_written(locked.written)}
                print_json({**fields, "changed": _plain(locked.changed)})
                continue
            lines = [f"{name}: {locked.path} {_written_text(locked.written)}", *change_lines(locked.changed)]
            lines.append(f"  image ID    {locked.realised.image_id}")
            lines.append(f"  input hash  {locked.realised.input_hash}")
            print_text("\n".join(lines))
    return 0


def _written(one: Written) -> dict[str, Any]:
    return {"written": one.lock, "recorded": {"written": one.added, "removed": one.removed}}


def _written_text(one: Written) -> str:
    counts = ((one.added, "written"), (one.removed, "removed"))
    beside = ", ".join(f"{count_text(count, 'body', 'bodies')} {what}" for count, what in counts if count)
    what = "written" if one.lock else "says all of it already"
    return f"{what}; in {RECORDED}/: {beside}" if beside else what


def _show_check(session: Session, name: str, found: Sequence[SourceChange]) -> None:
    if session.json:
        print_json(document(recipe=name, changed=_plain(found)))
    elif not found:
        print_text(f"{name}: upstream gives what the lock says")
    else:
        print_text("\n".join([f"{name}: upstream gives other things today", *change_lines(found)]))


def change_lines(found: Sequence[SourceChange]) -> list[str]:
    """Write a line for each source, and one for each package of it, where it was pinned before."""
    lines: list[str] = []
    for one in found:
        if not one.before:
            lines.append(f"  {one.source}: {count_text(one.after, 'pin')}")
        elif not one.after:
            lines.append(f"  {one.source}: no source any more ({count_text(one.before, 'pin')})")
        else:
            pins, changes = count_text(one.after, "pin"), count_text(len(one.changes), "change")
            lines.append(f"  {one.source}: {pins}, {changes}")
            lines += [f"    {visible(pin.package)}: {_pin_change(pin)}" for pin in one.changes[:SHOWN]]
            if len(one.changes) > SHOWN:
                lines.append(f"    and {len(one.changes) - SHOWN:,} more")
    return lines


def _pin_change(one: PinChange) -> str:
    if one.before is None or one.after is None:
        pin = one.after or one.before
        assert pin is not None
        return f"{'new' if one.before is None else 'gone'} ({_version(pin)})"
    if "status" in one.before.hashed and "status" in one.after.hashed:
        return _exchange_change(one.before, one.after)
    before, after = _version(one.before), _version(one.after)
    if before != after:
        return f"{before} → {after}"
    digests = f"{one.before.sha256.short} → {one.after.sha256.short}"
    return f"{before}, other bytes: {digests} ({one.before.size:,} → {one.after.size:,} bytes)"


def _exchange_change(before: Pin, after: Pin) -> str:
    parts = []
    if before.hashed["status"] != after.hashed["status"]:
        parts.append(f"status {before.hashed['status']} → {after.hashed['status']}")
    if before.sha256 != after.sha256:
        digests = f"{before.sha256.short} → {after.sha256.short}"
        parts.append(f"other bytes: {digests} ({before.size:,} → {after.size:,} bytes)")
    old, new = (pin.hashed.get("headers", {}) for pin in (before, after))
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if names:
        parts.append(f"other headers: {', '.join(names)}")
    return "; ".join(parts) or "another request"


def _version(pin: Pin) -> str:
    if "status" in pin.hashed:
        return f"status {pin.hashed['status']}, {pin.size:,} bytes"
    return pin.hashed.get("version") or pin.name


def _plain(found: Sequence[SourceChange]) -> list[dict[str, Any]]:
    return [
        {
            "source": one.source,
            "package": pin.package,
            "before": None if pin.before is None else pin.before.content,
            "after": None if pin.after is None else pin.after.content,
        }
        for one in found
        for pin in one.changes
    ]
