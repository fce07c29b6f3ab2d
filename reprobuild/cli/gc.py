"""``reprobuild gc``: give space back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, size_text
from reprobuild.cli.ui import line_of, say
from reprobuild.errors import OutsideError, UsageError

if TYPE_CHECKING:
    from reprobuild.events import Event
    from reprobuild.store.daemons import KeptTree
    from reprobuild.store.gc import GcPlan
    from reprobuild.store.store import Store

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
@click.option(
    "--forget", multiple=True, metavar="TAG", help="Keep an image that was pulled or imported no longer."
)
@click.option("--checkouts", is_flag=True, help="Give up laid-out trees of kept images too.")
@click.pass_obj
def command(
    session: Session, dry_run: bool, grace: float | None, forget: tuple[str, ...], checkouts: bool
) -> int:
    """Remove what no realized recipe needs, nothing uses, and nothing has touched for a day.

    Predictions go only past the setting cache_limit: first those of the image and parameters that were not
    predicted with for longest, of these the oldest, however new they are.
    """
    from reprobuild.build.memo import clear
    from reprobuild.store.gc import GRACE, carry_out, plan

    project = session.project()
    store = project.store
    if not dry_run:
        _forget(store, forget)
    seconds = GRACE if grace is None else grace * 3600
    planned = plan(store, grace=seconds, all_checkouts=checkouts)
    swept = 0
    trees = [(one, 0) for one in planned.idle_trees]  # how large they are is known to their daemons alone
    if not dry_run:
        planned = carry_out(store, planned)
        clear(str(store.root))
        swept = _sweep_predictions(store.root, seconds)
        trees = _collect_trees(store, planned)
    cache = _limit_predictions(store.root, project.settings.cache_bytes, dry_run=dry_run)
    if session.json:
        victims = [
            {"kind": victim.kind, "name": victim.name, "size": victim.size} for victim in planned.victims
        ]
        victims += [{"kind": "tree", "name": _name(one), "size": size} for one, size in trees]
        fields = {"size": planned.size, "kept": planned.kept, "victims": victims, "swept": swept}
        print_json(document(dry_run=dry_run, **fields, predictions=cache.as_json() if cache else None))
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
        lines += [f"  {'tree':11}  {'':>9}  {_name(one)}" for one, _ in trees]
    elif trees:
        size = sum(size for _, size in trees)
        lines.append(f"{count_text(len(trees), 'tree')} gone from container daemons: {size_text(size)}")
    if swept:
        lines.append(f"files that no prediction names gone: {size_text(swept)}")
    if cache is not None:
        lines.append(cache.line(verb))
    print_text("\n".join(lines))
    return 0


class CacheLimit(NamedTuple):
    """What the limit of predictions meant."""

    limit: int | None
    """Bytes; None: there is none."""
    size: int
    """Bytes that are kept now."""
    predictions: int
    """How many went, or would."""
    freed: int
    """Bytes of these, about."""

    def as_json(self) -> dict[str, int | None]:
        """Give it as a part of the document."""
        return {"limit": self.limit, "size": self.size, "gone": self.predictions, "freed": self.freed}

    def line(self, verb: str) -> str:
        """Give it as a line for people."""
        kept = f"predictions: {size_text(self.size)} kept, "
        if self.limit is None:
            return kept + "no limit (setting cache_limit)"
        went = f"; {count_text(self.predictions, 'prediction')} {verb}: {size_text(self.freed)}"
        return kept + f"limit {size_text(self.limit)}" + went * bool(self.predictions)


def _limit_predictions(store: Path, limit: int | None, *, dry_run: bool) -> CacheLimit | None:
    """Hold predictions to their limit; None where there are none at all."""
    from reprobuild.predict.cache import PredictionCache, cache_folder

    if not (cache_folder(store) / "cache.db").exists():
        return None
    from reprobuild.predict.upkeep import enforce

    with PredictionCache.open(store) as cache:
        gone = None if limit is None else enforce(cache, limit, dry_run=dry_run)
        size = cache.stats().size
    return CacheLimit(limit, size, gone.predictions if gone else 0, gone.size if gone else 0)


def _name(tree: KeptTree) -> str:
    from reprobuild.engine.docker.trees import REPOSITORY

    return f"{REPOSITORY}:{tree.tree.hex} in {tree.host}"


def _collect_trees(store: Store, planned: GcPlan) -> list[tuple[KeptTree, int]]:
    """Remove what container daemons keep for nothing; no daemon is asked where there is no such thing."""
    if not planned.idle_trees:
        return []
    from reprobuild.engine.docker.garbage import collect

    def tell(event: Event) -> None:
        say(line_of(event))

    return list(collect(store, planned.idle_trees, planned.cutoff, os.environ, tell))


def _forget(store: Store, tags: tuple[str, ...]) -> None:
    """Let go of images that have no recipe. Raises UsageError for what is none of them."""
    from reprobuild.build.find import taken_images

    known = [one.tag for one in taken_images(store)] if tags else []
    for tag in tags:
        if tag not in known:
            hint = f"there are: {', '.join(known)}" if known else "an image of a recipe is kept by its name"
            raise UsageError(f"{tag} was neither pulled nor imported here", hint)
    for tag in tags:
        store.roots.remove(tag)


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
