"""``reprobuild realize``: build what is missing; print tag, image ID, input hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from reprobuild.cli.arguments import chosen_names, pairs
from reprobuild.cli.options import (
    all_option,
    set_option,
    strict_network_option,
    substituter_option,
    trust_option,
)
from reprobuild.cli.output import print_error, print_json, print_text
from reprobuild.cli.report import answer_of, json_of, reused, text_of
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, size_text
from reprobuild.cli.ui import say
from reprobuild.errors import ReprobuildError, UsageError

if TYPE_CHECKING:
    from reprobuild.build.image import Realised
    from reprobuild.build.plan import Plan
    from reprobuild.build.project import Project


@click.command("realize")
@click.argument("names", nargs=-1, metavar="NAME…")
@set_option
@all_option
@click.option("--dry-run", is_flag=True, help="Say what would be fetched and built.")
@click.option("--check", is_flag=True, help="Build again from nothing while everything outside varies.")
@click.option("--keep-going", is_flag=True, help="Go on with the other recipes when one fails.")
@substituter_option
@strict_network_option
@trust_option
@click.pass_obj
def command(
    session: Session,
    names: tuple[str, ...],
    sets: tuple[str, ...],
    everything: bool,
    dry_run: bool,
    check: bool,
    keep_going: bool,
    trust: bool,
) -> int:
    """Build what is missing of each recipe; print its tag, image ID and input hash.

    Fetches what the lock pins, builds without a network, and compares what came out with what the
    lock says: equal, or exit code 4. Substituters are asked before; what they have is taken if it is what
    the lock says.
    """
    if dry_run and check:
        raise UsageError("--dry-run and --check exclude each other")
    options = pairs(sets, "--set")
    with session.working() as project:
        wanted = chosen_names(project, names, everything=everything, locked=True)
        first = 0
        for name in wanted:
            try:
                if dry_run:
                    _plan(session, project, name, options, trust=trust)
                elif check:
                    _check(session, project, name, options, trust=trust)
                else:
                    _realize(session, project, name, sets, options, trust=trust)
            except ReprobuildError as error:
                if not keep_going:
                    raise
                print_error(error, as_json=session.json)
                first = first or error.exit_code
    return first


def _realize(
    session: Session,
    project: Project,
    name: str,
    sets: Sequence[str],
    options: Mapping[str, str],
    *,
    trust: bool,
) -> None:
    from reprobuild.build.realize import realize
    from reprobuild.derivation.folder import folder_digests

    state = folder_digests(str(project.recipe_folder(name)))
    realised = realize(project, name, options, trust=trust)
    result = realised.to_json()
    answer = answer_of(result)
    if not session.quiet:
        say(answer.summary)
    print(answer.json if session.json else answer.text)
    if (
        folder_digests(str(project.recipe_folder(name))) == state
    ):  # else it is not known of which it is the image
        _remember(project, name, state, sets, realised)


def _remember(
    project: Project, name: str, state: Sequence[str], sets: Sequence[str], realised: Realised
) -> None:
    """Remember the answer for the next call, which will find everything there (``cli.warm``)."""
    from reprobuild.build.memo import memo_key, remember

    store = project.store
    record = store.realisations.get(realised.input_hash)
    if record is None:
        return
    from reprobuild.digest import Digest

    files = [store.realisations.locate(realised.input_hash), store.roots.locate(name)]
    files += [store.blobs.locate(Digest.parse(blob)) for blob in record["blobs"]]
    root = str(store.root)
    key = memo_key(name, state, sets, project.settings.engine)
    needs = [file.removeprefix(root).lstrip("/") for file in files]
    remember(root, key, answer_of(reused(realised.to_json())), needs)


def _plan(session: Session, project: Project, name: str, options: Mapping[str, str], *, trust: bool) -> None:
    from reprobuild.build.derive import derive_recipe
    from reprobuild.build.substitute import plan

    found = plan(project, derive_recipe(project, name, options, trust=trust))
    if session.json:
        print_json(found.to_json())
        return
    print_text("\n".join(plan_lines(found)))


def plan_lines(plan: Plan) -> list[str]:
    """Say what a plan would do: one line on the whole, one a step, one a download."""
    actions = [step.action for step in plan.steps]
    if plan.is_done:
        return [f"{plan.recipe}: nothing to do; {plan.tag} is there"]
    parts = []
    if plan.pull is not None:
        parts.append(f"pull {count_text(plan.pull.layers, 'layer')}, {size_text(plan.pull.size)}")
    if plan.downloads:
        parts.append(f"fetch {count_text(len(plan.downloads), 'file')}, {size_text(plan.fetch_bytes)}")
    built = len(actions) - actions.count("reuse") - actions.count("pull")
    parts += [f"build {built}"] * bool(built) + [f"reuse {actions.count('reuse')}"] * ("reuse" in actions)
    lines = [f"{plan.recipe}: {'; '.join(parts)}"]
    lines += [f"  from   {plan.pull.where}"] if plan.pull is not None else []
    lines += [f"  {step.action:5}  {step.title}" for step in plan.steps]
    lines += [
        f"  fetch  {one.name}" + (f" ({size_text(one.size)})" if one.size is not None else "")
        for one in plan.downloads
    ]
    return lines


def _check(session: Session, project: Project, name: str, options: Mapping[str, str], *, trust: bool) -> None:
    from reprobuild.build.check import check

    result = check(project, name, options, trust=trust).to_json()
    if not session.quiet:
        say(f"{name}: built twice, and equal")
    print(json_of(result) if session.json else text_of(result))
