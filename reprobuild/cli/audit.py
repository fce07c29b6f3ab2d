"""``reprobuild audit``: check what is kept against its names, pins and outputs."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from reprobuild.cli.options import form_options, param_option
from reprobuild.cli.output import document, print_error, print_json, print_text
from reprobuild.cli.records import Records
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text
from reprobuild.cli.ui import say
from reprobuild.errors import CheckFailedError, OutsideError, UsageError
from reprobuild.events import Note

if TYPE_CHECKING:
    from reprobuild.build.project import Project
    from reprobuild.publish.online import Compared


@click.command("audit")
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="The locks of all recipes, not of realized ones alone; and each layer's digest made again.",
)
@click.option(
    "--online",
    is_flag=True,
    help="Compare published images, too, with those that are here: image and inputs.",
)
@click.option("--repair", is_flag=True, help="Take what is damaged out of the way, so that it comes back.")
@click.option(
    "--predictions",
    "sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="Instead: compute N kept predictions again, and compare.",
)
@click.option(
    "--purity",
    is_flag=True,
    help="Instead: see that outputs of item-scoped predictors depend on their own record alone.",
)
@click.option("--input", "source", metavar="FILE", help="With --purity: records, in the place of examples.")
@form_options
@param_option
@click.option("--device", default="cpu", show_default=True, metavar="D", help="With --purity.")
@click.pass_obj
def command(
    session: Session,
    names: tuple[str, ...],
    everything: bool,
    online: bool,
    repair: bool,
    sample: int | None,
    purity: bool,
    source: str | None,
    input_format: str | None,
    mapping: tuple[str, ...],
    parameters: tuple[str, ...],
    device: str,
) -> int:
    """Check the whole store (blobs, listings, checkouts, realisations, images, cached predictions), and
    the locks of the recipes named, or of those that were realized here. Exit code 4 if anything is found.

    With --predictions or --purity, recipes and predictors named (or all that are here) are put to the test
    instead: a sample of what is kept is computed again; records are given in other orders and batches.
    """
    if sample is not None or purity:
        from reprobuild.cli.audit_predictions import audit_purity, audit_sample

        if everything or online or repair or (purity and sample is not None):
            raise UsageError(
                "--predictions and --purity each stand alone", "give one, with names of recipes or predictors"
            )
        if source is None and (input_format or mapping or parameters):
            raise UsageError("--format, --map and --param go with --input", "examples have theirs")
        if purity:
            given = None if source is None else Records(source, input_format, mapping)
            return audit_purity(session, names, given, parameters, device)
        assert sample is not None
        return audit_sample(session, names, sample)
    if source is not None or input_format or mapping or parameters:
        raise UsageError(
            "--input, and what goes with it, is for --purity",
            f"reprobuild audit --purity NAME --input {source or 'FILE'}",
        )
    if everything and names:
        raise UsageError("--all and names of recipes exclude each other", "leave one of them out")
    if online and session.settings.offline:
        raise UsageError("--online and --offline exclude each other", "leave one of them out")
    failures: list[OutsideError] = []
    published = 0
    with session.working() as project:
        findings = [
            *_store(project, repair=repair, deep=everything),
            *_locks(project, names, everything=everything),
        ]
        predictions, checked = _predictions(project, repair=repair)
        findings += predictions
        for one in _published(project, names) if online else ():
            published += one.is_there
            failures += [one.failure] if one.failure is not None else []
            if (what := one.finding) is not None:
                findings.append(_finding(what.kind, what.what, what.where, what.problem, what.hint))
    mended = sum(bool(finding["mended"]) for finding in findings)
    if session.json:
        asked = {"published": published, "silent": [one.message for one in failures]} if online else {}
        print_json(document(findings=findings, predictions=checked, mended=mended, **asked))
    else:
        for finding in findings:
            lines = [f"{finding['kind']} {finding['what']}: {finding['problem']}"]
            lines += [f"  {finding['where']}"] * bool(finding["where"])
            lines += (
                ["  mended"] if finding["mended"] else [f"  hint: {finding['hint']}"] * bool(finding["hint"])
            )
            print_text("\n".join(lines))
        if not session.quiet:
            found = count_text(len(findings), "finding") if findings else "nothing amiss"
            compared = f", {count_text(published, 'published image')} compared" if online else ""
            say(f"audit: {found}" + (f", {mended} mended" if mended else "") + compared)
    for failure in failures:
        print_error(failure, as_json=False)
    if len(findings) > mended:
        return CheckFailedError.exit_code
    return failures[0].exit_code if failures else 0


def _published(project: Project, names: tuple[str, ...]) -> Iterator[Compared]:
    from reprobuild.publish.online import compare_published

    if not (project.settings.substituters or project.settings.publish_to):
        project.tell(Note("no registry is named: only images that were pulled are asked for"))
    return compare_published(project, names)


def _finding(
    kind: str, what: str, where: str, problem: str, hint: str, *, mended: bool = False
) -> dict[str, Any]:
    return {"kind": kind, "what": what, "where": where, "problem": problem, "hint": hint, "mended": mended}


def _store(project: Project, *, repair: bool, deep: bool) -> Iterator[dict[str, Any]]:
    from reprobuild.store.audit import audit, set_aside

    # While other processes hash, this one has time to import what comes after.
    threading.Thread(target=_import_the_rest, daemon=True).start()
    found = list(audit(project.store, tell=project.tell))
    from reprobuild.build.audit import audit_images

    for one in [*found, *audit_images(project.store, deep=deep)]:
        mended = repair and set_aside(project.store, one)
        yield _finding(one.kind, one.what, one.where, one.problem, one.hint, mended=mended)


def _import_the_rest() -> None:
    for name in ("reprobuild.build.audit", "reprobuild.predict.audit"):
        importlib.import_module(name)


def _locks(project: Project, names: tuple[str, ...], *, everything: bool) -> Iterator[dict[str, Any]]:
    from reprobuild.build.audit import all_names, audit_locks

    if not names:
        there = all_names(project)
        realized = {root.name for root in project.store.roots}
        names = tuple(name for name in there if everything or name in realized)
    for one in audit_locks(project, names):
        yield _finding(one.kind, one.what, one.where, one.problem, one.hint)


def _predictions(project: Project, *, repair: bool) -> tuple[list[dict[str, Any]], int]:
    from reprobuild.predict.audit import audit_predictions
    from reprobuild.predict.cache import PredictionCache, cache_folder

    if not (cache_folder(project.store.root) / "cache.db").exists():
        return [], 0
    with PredictionCache.open(project.store.root) as cache:
        audited = audit_predictions(cache, repair=repair)
    found = [
        _finding(
            "cache" if one.rowid is None else "prediction",
            one.where.removeprefix("prediction "),
            str(cache.folder),
            one.problem,
            one.hint,
            mended=repair and one.can_be_forgotten,
        )
        for one in audited.findings
    ]
    return found, audited.checked
