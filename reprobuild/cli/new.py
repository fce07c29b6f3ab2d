"""``reprobuild new``: start a recipe."""

from __future__ import annotations

import os
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


@click.command("new")
@click.argument("name", metavar="NAME")
@click.option(
    "--from-dockerfile", "dockerfile", metavar="FILE", help="Draft it from a Dockerfile and its folder."
)
@click.pass_obj
def command(session: Session, name: str, dockerfile: str | None) -> int:
    """Start a recipe: a folder with recipe.py, src/, tests/ and README.md that locks and predicts.

    From a Dockerfile, what it fetches becomes steps where they can say it, the rest stays commands whose
    fetches are recorded; lines that hide failures are pointed out.
    """
    from reprobuild.build.new import start, start_from_dockerfile

    folder, is_begun = home(session)
    if dockerfile is None:
        started = start(folder, name, session.settings.recipes)
    else:
        started = start_from_dockerfile(folder, name, Path(dockerfile), session.settings.recipes)
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
