"""``reprobuild new``: start a recipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.session import Session
from reprobuild.settings import PROJECT_FILE

SHOWN_FILES = 12


def home(session: Session) -> tuple[Path, bool]:
    """Give the folder for new recipes: the one that was named, the project's, else one here.

    And whether a project begins here with it.
    """
    settings = session.settings
    begins = not settings.project and not session.flags.get("recipes") and len(settings.recipes) == 1
    return (Path.cwd() / "recipes" if begins else Path(settings.recipes[0])), begins


QUESTIONS = {
    "title": "What is it, in a line?",
    "publication": "Its publication (authors: title. place and year)?",
    "repository": "Where is its code?",
    "licence": "Its licence (SPDX: MIT, Apache-2.0)?",
    "version": "The recipe's version (0.1)?",
}


def _may_ask(session: Session) -> bool:
    """Tell whether somebody is there who reads questions and can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty() and not session.quiet and not session.json


def answers(said: Mapping[str, str | None]) -> dict[str, str]:
    """Ask for what no option says; an empty line, or the end of what is typed, leaves it open."""
    found = {}
    for name, question in QUESTIONS.items():
        answer = said[name]
        if answer is None:
            print(question, end=" ", file=sys.stderr, flush=True)
            answer = sys.stdin.readline().strip()
        found[name] = answer
    return found


@click.command("new")
@click.argument("name", metavar="NAME")
@click.option(
    "--from-dockerfile", "dockerfile", metavar="FILE", help="Draft it from a Dockerfile and its folder."
)
@click.option("--title", metavar="TEXT", help="What it is, in a line.")
@click.option("--publication", "--paper", metavar="TEXT", help="Authors, title, place and year.")
@click.option("--repository", metavar="ADDRESS", help="Where its code is.")
@click.option("--licence", "--license", metavar="SPDX", help="Of the model and its code: MIT.")
@click.option("--version", "version", metavar="V", help="Of the recipe: the first part of its tags.")
@click.pass_obj
def command(
    session: Session,
    name: str,
    dockerfile: str | None,
    title: str | None,
    publication: str | None,
    repository: str | None,
    licence: str | None,
    version: str | None,
) -> int:
    """Start a recipe: a folder with recipe.py, src/, tests/ and README.md that locks and predicts.

    What is to be said of the model is asked for on a terminal, where no option says it; an empty answer
    leaves it open. From a Dockerfile, what it fetches becomes steps where they can say it, the rest stays
    commands whose fetches are recorded; lines that hide failures are pointed out.
    """
    from reprobuild.build.new import demand_free, start, start_from_dockerfile
    from reprobuild.build.template import About

    folder, is_begun = home(session)
    folders = session.settings.recipes
    said = {
        "title": title,
        "publication": publication,
        "repository": repository,
        "licence": licence,
        "version": version,
    }
    about = About(**{key: text or "" for key, text in said.items()})
    demand_free(folder, name, folders)  # before anything is asked
    if _may_ask(session):
        about = About(**answers(said))
    if dockerfile is None:
        started = start(folder, name, folders, about)
    else:
        started = start_from_dockerfile(folder, name, Path(dockerfile), folders, about)
    if is_begun and not (marker := folder.parent / PROJECT_FILE).exists():
        marker.write_text("")
    shown = os.path.relpath(started.folder)
    if session.json:
        findings = [{"line": one.line, "text": one.text} for one in started.findings]
        print_json(
            document(recipe=name, folder=str(started.folder), files=list(started.files), findings=findings)
        )
        return 0
    lines = [f"{shown}: {len(started.files)} files"]
    lines += [f"  {path}" for path in started.files[:SHOWN_FILES]]
    if len(started.files) > SHOWN_FILES:
        lines.append(f"  … and {len(started.files) - SHOWN_FILES} more")
    if started.findings:
        lines += ["", f"to look at in {dockerfile}:"]
        lines += [f"  line {one.line}: {one.text}" for one in started.findings]
    if dockerfile is not None:
        lines += ["", f"next: write the predictor in {shown}/recipe.py, then: reprobuild lock {name}"]
    else:
        lines += ["", f"next: reprobuild lock {name}"]
    print_text("\n".join(lines))
    return 0
