"""``reprobuild publish``: push images to a registry, under tags that never move."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from reprobuild.cli.arguments import chosen_names, pairs
from reprobuild.cli.options import set_option, trust_option
from reprobuild.cli.output import print_error, print_json, print_text
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, seconds_text, size_text
from reprobuild.cli.ui import say
from reprobuild.errors import ReprobuildError, UsageError
from reprobuild.events import Note

if TYPE_CHECKING:
    from reprobuild.build.project import Project
    from reprobuild.publish.plan import Plan
    from reprobuild.publish.publish import Published

LONGEST_PASSWORD = 64 * 1024
"""Characters; tokens are long, and a file that was given by mistake is longer."""


@click.command("publish")
@click.argument("names", nargs=-1, metavar="NAME…")
@set_option
@click.option("--to", metavar="REPOSITORY", help="A registry with a namespace: docker.io/USER.")
@click.option("--auto", is_flag=True, help="The recipes that are marked publish=True.")
@click.option("--with-sources", is_flag=True, help="Push every pinned source too.")
@click.option("--dry-run", is_flag=True, help="Say what would be pushed.")
@click.option("--username", metavar="USER", help="Who pushes, instead of whoever is logged in.")
@click.option("--password-stdin", is_flag=True, help="Read that user's password, or token, from stdin.")
@trust_option
@click.pass_obj
def command(
    session: Session,
    names: tuple[str, ...],
    sets: tuple[str, ...],
    to: str | None,
    auto: bool,
    with_sources: bool,
    dry_run: bool,
    username: str | None,
    password_stdin: bool,
    trust: bool,
) -> int:
    """Push each recipe's image (built first if need be) to REPOSITORY/NAME, under its own tag.

    With it go its provenance, its bill of materials and its lock. A tag that is there with the same image is
    left alone; with another image, it is refused (exit code 4).
    """
    if auto and (names or sets):
        raise UsageError("--auto and names of recipes exclude each other", "leave one of them out")
    options = pairs(sets, "--set")
    password = _password(username, password_stdin)
    job = _Job(session, to, with_sources, password, dry_run)
    with session.working() as project:
        wanted = chosen_names(project, names, everything=auto, locked=True)
    first = done = 0
    for name in wanted:
        try:
            done += job.run(name, options, only_marked=auto, trust=trust)
        except ReprobuildError as error:
            if not auto:
                raise
            print_error(error, as_json=session.json)
            first = first or error.exit_code
    if auto and not done and not first and not session.quiet:
        say("no recipe is marked for publishing: @recipe(version=…, publish=True)")
    return first


class _Job:
    """What is the same for all recipes of a call."""

    def __init__(
        self,
        session: Session,
        to: str | None,
        with_sources: bool,
        password: tuple[str, str] | None,
        dry_run: bool,
    ) -> None:
        self._session = session
        self._to = to if to is not None else session.settings.publish_to
        self._with_sources = with_sources
        self._password = password
        self._dry_run = dry_run

    def run(self, name: str, options: Mapping[str, str], *, only_marked: bool, trust: bool) -> bool:
        """Publish a recipe, or say what that would do; tell whether it was to be published."""
        from reprobuild.build.evaluate import evaluate
        from reprobuild.publish.plan import Plan

        with self._session.working() as project:
            if only_marked and not evaluate(project, name, options, trust=trust).recipe.publish:
                return False
            done = self._do(project, name, options, trust=trust)
        if isinstance(done, Plan):
            self._show_plan(done)
        else:
            self._show(done)
        return True

    def _do(
        self, project: Project, name: str, options: Mapping[str, str], *, trust: bool
    ) -> Plan | Published:
        from reprobuild.build.derive import derive_recipe
        from reprobuild.publish.destination import destination
        from reprobuild.publish.plan import make_plan
        from reprobuild.publish.publish import publish
        from reprobuild.registry.repository import Repository

        derived = derive_recipe(project, name, options, trust=trust)
        reference = destination(self._to, derived)
        with Repository(
            reference, project.settings, tell=project.tell, password=self._password, store=project.store
        ) as repository:
            plan = make_plan(project, derived, repository, reference, with_sources=self._with_sources)
            if plan.note:
                project.tell(Note(plan.note))
            if self._dry_run:
                return plan
            return publish(project, derived, repository, plan)

    def _show_plan(self, plan: Plan) -> None:
        if self._session.json:
            print_json(plan.to_json())
        else:
            print_text("\n".join(plan_lines(plan)))

    def _show(self, published: Published) -> None:
        if not self._session.quiet:
            say(summary_of(published))
        if self._session.json:
            print_json(published.to_json())
        else:
            plan = published.plan
            print_text(
                f"{plan.reference}\n  image ID    {plan.image_id}\n  input hash  {plan.input_hash}\n"
                f"  manifest    {published.manifest}"
            )


def plan_lines(plan: Plan) -> list[str]:
    """Say what a plan would do: one line on the whole, one a blob, one on what refers to the image."""
    sources = f" ({count_text(plan.source_files, 'file')}, {size_text(plan.source_bytes)})"
    artifacts = [name + (sources if name == "sources" else "") for name in plan.artifacts]
    refer = [f"  refer  {name}" for name in artifacts]
    if plan.action == "nothing":
        return [f"{plan.recipe}: nothing to do; {plan.reference} is there"]
    if plan.action == "complete":
        return [f"{plan.recipe}: {plan.reference} is there, and lacks {' and '.join(plan.artifacts)}", *refer]
    lines = [f"{plan.recipe}: publish {plan.reference}"]
    if plan.realised is None:
        lines.append("  build  it is not built yet, so it is realized first")
    for blob in plan.blobs:
        size = size_text(blob.size) if blob.size is not None else "not built yet"
        if blob.size is not None and blob.digest is None:
            size += " before compression"
        lines.append(f"  {'reuse' if blob.is_there else 'push':5}  {blob.name} ({size})")
    return [*lines, *refer, f"  tag    {plan.reference.tag}"]


def summary_of(published: Published) -> str:
    """Give one line on what was pushed and what was there."""
    plan = published.plan
    if published.status == "there" and not published.sent:
        return f"{plan.recipe}: already there, 0 bytes pushed"
    pushed = f"{size_text(published.sent)} pushed, {seconds_text(published.seconds)}"
    if published.status == "published":
        return f"{plan.recipe}: published, {pushed}"
    if published.status == "completed":
        return f"{plan.recipe}: already there, {' and '.join(plan.artifacts)} added, {pushed}"
    return f"{plan.recipe}: somebody else was faster and published the same image, {pushed}"


def _password(username: str | None, from_stdin: bool) -> tuple[str, str] | None:
    """Give the user name and the password that were given, if any. Raises UsageError."""
    if username is None and not from_stdin:
        return None
    if not username or not from_stdin:
        raise UsageError(
            "--username USER and --password-stdin belong together",
            'printf %s "$TOKEN" | reprobuild publish NAME --username USER --password-stdin',
        )
    if ":" in username:
        raise UsageError(f"--username {username}: no user name has a colon", "--username USER")
    try:
        given = sys.stdin.read(LONGEST_PASSWORD + 1)
    except UnicodeDecodeError:
        raise UsageError("--password-stdin: what came is no text") from None
    password = given.removesuffix("\n").removesuffix("\r")
    if not password:
        raise UsageError("--password-stdin: nothing came", "pipe the password, or a token, into this command")
    if len(given) > LONGEST_PASSWORD or not password.isprintable():
        raise UsageError("--password-stdin: what came is no password", "one line of text is needed")
    return username, password
