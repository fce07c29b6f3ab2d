"""``reprobuild cache``: look after predictions that were kept."""

from __future__ import annotations

import copy
import re
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reprobuild.cli.options import form_options, param_option, set_option, trust_option
from reprobuild.cli.output import document, print_json, print_text, table
from reprobuild.cli.records import Records
from reprobuild.cli.root import shared_options
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, did_you_mean, seconds_text, size_text
from reprobuild.cli.ui import say
from reprobuild.errors import CheckFailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reprobuild.build.project import Project
    from reprobuild.predict.cache import PredictionCache
    from reprobuild.predict.upkeep import Kept

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


class Actions(click.Group):
    """Finds what can be done with the cache, and gives it the options that all verbs share."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        if command is None:
            raise UsageError(f"cache has nothing called {cmd_name!r}", did_you_mean(cmd_name, self.commands))
        found = copy.copy(command)
        found.params = [*found.params, *shared_options()]
        return found


@click.group("cache", cls=Actions, no_args_is_help=True, subcommand_metavar="stats|verify|explain|…")
def command() -> None:
    """Look after predictions that were kept: what there is, whether it is as it was written, why a record is
    there or not; forget some, take them to another machine.
    """


@command.command("stats")
@click.pass_obj
def stats(session: Session) -> int:
    """Say how many predictions are kept of which predictor, their size, and the time that they saved."""
    project = session.project()
    with opened(project) as cache:
        from reprobuild.predict.upkeep import summaries

        kept = summaries(cache)
        found = cache.stats()
    limit = project.settings.cache_bytes
    if session.json:
        fields = {"folder": str(found.folder), "predictions": found.predictions, "size": found.size}
        print_json(document(**fields, limit=limit, predictors=[_as_json(one) for one in kept]))
        return 0
    rows = [
        (
            one.name,
            count_text(one.predictions, "prediction"),
            size_text(one.size),
            count_text(one.makings, "way"),
            f"{count_text(one.computed, 'item')} computed in {seconds_text(one.seconds)}; "
            f"{one.hits:,} from the cache, {seconds_text(one.saved)} saved",
        )
        for one in kept
    ]
    lines = [table(rows)] if rows else []
    over = limit is not None and found.size > limit
    limited = "no limit" if limit is None else f"limit {size_text(limit)}"
    lines.append(
        f"{count_text(found.predictions, 'prediction')}, {size_text(found.size)} on disk, {limited}"
        + (": reprobuild gc enforces it" if over else "")
        + f"; in {found.folder}"
    )
    print_text("\n".join(lines))
    return 0


@command.command("verify")
@click.option("--repair", is_flag=True, help="Forget what is damaged: it is computed again when asked for.")
@click.pass_obj
def verify(session: Session, repair: bool) -> int:
    """Check every prediction against its own digest, and the database. Exit code 4 if anything is found."""
    from reprobuild.predict.audit import audit_predictions

    with opened(session.project()) as cache:
        audited = audit_predictions(cache, repair=repair)
    findings = [
        {
            "where": one.where,
            "problem": one.problem,
            "hint": one.hint,
            "mended": repair and one.can_be_forgotten,
            **({"details": list(one.details)} if one.details else {}),
        }
        for one in audited.findings
    ]
    mended = sum(bool(one["mended"]) for one in findings)
    if session.json:
        print_json(document(predictions=audited.checked, findings=findings, mended=mended))
    else:
        for one in findings:
            told = "  forgotten" if one["mended"] else f"  hint: {one['hint']}"
            more = " (--json has them all)" if "details" in one else ""
            print_text(f"{one['where']}: {one['problem']}{more}\n{told}")
        if not session.quiet:
            how = count_text(len(findings), "finding") if findings else "nothing amiss"
            say(f"{count_text(audited.checked, 'prediction')} checked: {how}")
    return CheckFailedError.exit_code if len(findings) > mended else 0


@command.command("explain")
@click.argument("name", metavar="NAME[/PREDICTOR]")
@click.option("--input", "source", required=True, metavar="FILE", help="Records; - is standard input.")
@form_options
@param_option
@click.option("--device", default="cpu", show_default=True, metavar="D", help="cpu, or the number of a GPU.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="The first N records alone.")
@set_option
@trust_option
@click.pass_obj
def explain(
    session: Session,
    name: str,
    source: str,
    input_format: str | None,
    mapping: tuple[str, ...],
    parameters: tuple[str, ...],
    device: str,
    limit: int | None,
    sets: tuple[str, ...],
    trust: bool,
) -> int:
    """Say for each record whether its prediction is kept, under which key, and how it was made; where it is
    not kept, which part of the key differs from the nearest prediction of this predictor.

    Options that predict was called with belong here too: they are in the key.
    """
    from reprobuild.cli.explain import explain as explain_records

    given = Records(source, input_format, mapping)
    return explain_records(
        session, name, given, parameters=parameters, device=device, limit=limit, sets=sets, trust=trust
    )


@command.command("clear")
@click.argument("names", nargs=-1, metavar="[NAME[/PREDICTOR]…]")
@click.option("--all", "everything", is_flag=True, help="Of all predictors.")
@click.option("--older-than", "age", metavar="AGE", help="Kept longer ago alone: 30d, 12h, 2w.")
@click.option("--dry-run", is_flag=True, help="Say what would go.")
@click.pass_obj
def clear(session: Session, names: tuple[str, ...], everything: bool, age: str | None, dry_run: bool) -> int:
    """Forget predictions: of recipes or predictors by name, of all, or those kept longer ago than an age."""
    if names and everything:
        raise UsageError("--all and names exclude each other", "leave one of them out")
    if not names and not everything and age is None:
        raise UsageError(
            "what is to be forgotten?", "name a recipe or a predictor, or --older-than 30d, or --all"
        )
    before = None if age is None else time.time() - seconds_of(age)
    with opened(session.project()) as cache:
        from reprobuild.predict.upkeep import clear as forget

        demand_known(cache, names)
        gone = forget(cache, names, before=before, dry_run=dry_run)
    if session.json:
        print_json(document(dry_run=dry_run, predictions=gone.predictions, size=gone.size))
        return 0
    verb = "would go" if dry_run else "gone"
    print_text(f"{count_text(gone.predictions, 'prediction')} {verb}, {size_text(gone.size)}")
    return 0


@command.command("export")
@click.argument("names", nargs=-1, metavar="[NAME[/PREDICTOR]…]")
@click.option("--to", "path", required=True, metavar="FILE", help="Where to write it.")
@click.option(
    "--with-inputs",
    is_flag=True,
    help="With the sample of inputs that is kept, so that audit --predictions works there too.",
)
@click.pass_obj
def export(session: Session, names: tuple[str, ...], path: str, with_inputs: bool) -> int:
    """Write predictions as one file, for cache import on another machine: of those named, or all."""
    to = Path(path).absolute()
    with session.working() as project, opened(project) as cache:
        from reprobuild.publish.predictions import export_cache

        demand_known(cache, names)
        done = export_cache(cache, to, names, with_inputs=with_inputs)
    if session.json:
        fields = {"path": str(to), "predictions": done.predictions, "size": done.size}
        print_json(document(**fields, left_out=done.left_out))
        return 0
    left = f"\n  {done.left_out:,} left out: damaged, or without a word on how they were made"
    print_text(
        f"{to}: {count_text(done.predictions, 'prediction')}, {size_text(done.size)}"
        + left * bool(done.left_out)
        + f"\n  next      reprobuild cache import {to}"
    )
    return 0


@command.command("import")
@click.argument("paths", nargs=-1, required=True, metavar="FILE…")
@click.pass_obj
def import_(session: Session, paths: tuple[str, ...]) -> int:
    """Take predictions of cache export into this cache, as somebody else's: each is checked on the way in,
    and none takes the place of one that is there.
    """
    with session.working() as project, opened(project) as cache:
        from reprobuild.publish.predictions import import_cache

        taken = {path: import_cache(cache, Path(path)) for path in paths}
    if session.json:
        files = [
            {"path": path, "predictions": one.predictions, "new": one.new} for path, one in taken.items()
        ]
        print_json(document(files=files))
        return 0
    for path, one in taken.items():
        print_text(
            f"{path}: {count_text(one.predictions, 'prediction')}, {one.new:,} of them new; taken as "
            "somebody else's: not computed here"
        )
    return 0


@contextmanager
def opened(project: Project) -> Iterator[PredictionCache]:
    """Give the cache of a project's store as long as a block lasts."""
    from reprobuild.predict.cache import PredictionCache

    with PredictionCache.open(project.store.root) as cache:
        yield cache


def seconds_of(text: str) -> float:
    """Read an age: ``30d``, ``12h``, ``1.5w``; a number alone is days. Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw]?)", text.strip())
    if match is None:
        raise UsageError(f"--older-than {text}: no age", "for example 30d, 12h or 2w")
    return float(match[1]) * UNITS[match[2] or "d"]


def demand_known(cache: PredictionCache, names: Sequence[str]) -> None:
    """Raise UsageError for names of which nothing is kept: more likely a slip than a wish."""
    if not names:
        return
    from reprobuild.predict.upkeep import summaries
    from reprobuild.publish.predictions import is_of

    known = [one.name for one in summaries(cache)]
    recipes = {name.rpartition("/")[0] for name in known}
    for name in names:
        if not any(is_of(tag, [name]) for tag in known):
            raise UsageError(
                f"no prediction of {name} is kept",
                did_you_mean(name, [*known, *recipes], "reprobuild cache stats lists what is")
                if known
                else "nothing is kept at all",
            )


def _as_json(one: Kept) -> dict[str, Any]:
    return {
        "name": one.name,
        "predictions": one.predictions,
        "size": one.size,
        "ways": one.makings,
        "oldest": one.oldest,
        "newest": one.newest,
        "computed": one.computed,
        "computed_seconds": round(one.seconds, 3),
        "hits": one.hits,
        "saved_seconds": round(one.saved, 3),
    }
