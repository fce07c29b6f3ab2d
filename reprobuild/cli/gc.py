"""``reprobuild gc``: give space back."""

from __future__ import annotations

from pathlib import Path

import click

from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, size_text
from reprobuild.cli.ui import say
from reprobuild.errors import OutsideError

KINDS = (
    ("realisation", "realisations"),
    ("blob", "blobs"),
    ("checkout", "checkouts"),
    ("leftover", "leftovers"),
)


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Say what would go.")
@click.option(
    "--grace", type=click.FloatRange(min=0), metavar="HOURS", help="Keep what is newer; 24 by default."
)
@click.option("--checkouts", is_flag=True, help="Give up laid-out trees of kept images too.")
@click.pass_obj
def command(session: Session, dry_run: bool, grace: float | None, checkouts: bool) -> int:
    """Remove what no realized recipe needs, nothing uses, and nothing has touched for a day."""
    from reprobuild.build.memo import clear
    from reprobuild.store.gc import GRACE, carry_out, plan

    store = session.project().store
    seconds = GRACE if grace is None else grace * 3600
    planned = plan(store, grace=seconds, all_checkouts=checkouts)
    swept = 0
    if not dry_run:
        planned = carry_out(store, planned)
        clear(str(store.root))
        swept = _sweep_predictions(store.root, seconds)
    if session.json:
        victims = [
            {"kind": victim.kind, "name": victim.name, "size": victim.size} for victim in planned.victims
        ]
        print_json(
            document(dry_run=dry_run, size=planned.size, kept=planned.kept, victims=victims, swept=swept)
        )
        return 0
    counts = [(len(planned.of_kind(kind)), kind, plural) for kind, plural in KINDS]
    what = ", ".join(count_text(count, kind, plural) for count, kind, plural in counts if count)
    verb = "would go" if dry_run else "gone"
    lines = [
        f"{what or 'nothing'} {verb}: {size_text(planned.size)}; {size_text(planned.kept)} of blobs stay"
    ]
    if dry_run:
        lines += [
            f"  {victim.kind:11}  {size_text(victim.size):>9}  {victim.name}" for victim in planned.victims
        ]
    if swept:
        lines.append(f"files that no prediction names gone: {size_text(swept)}")
    print_text("\n".join(lines))
    return 0


def _sweep_predictions(store: Path, age: float) -> int:
    """Remove what writes that were cut off left among the predictions; give its bytes."""
    from reprobuild.predict.cache import PredictionCache, cache_folder

    if not (cache_folder(store) / "cache.db").exists():
        return 0
    try:
        with PredictionCache.open(store) as cache:
            return cache.sweep(age=age)
    except OutsideError as error:  # as where the disk is full: what could go has gone
        say(f"warning: {error.message}")
        return 0
