"""``reprobuild list``: what recipes there are."""

from __future__ import annotations

import os
from typing import Any

import click

from reprobuild.cli.output import document, print_json, print_text, table
from reprobuild.cli.session import Session
from reprobuild.cli.ui import say
from reprobuild.errors import OutsideError, ReprobuildError


@click.command("list")
@click.pass_obj
def command(session: Session) -> int:
    """List the recipes that there are: name, version, whether locked, what they are; and the images that were
    pulled or imported without a recipe.
    """
    from reprobuild.build import recipes
    from reprobuild.build.evaluate import evaluate
    from reprobuild.build.find import taken_images
    from reprobuild.derivation.lockfile import LOCK_FILE

    project = session.project()
    project.store  # noqa: B018 - what is wrong with it is said once, not for each recipe
    found: list[dict[str, Any]] = []
    code = 0
    for name in recipes.names(project.settings.recipes):
        folder = recipes.find(project.settings.recipes, name)
        row = {"name": name, "folder": folder, "locked": os.path.isfile(os.path.join(folder, LOCK_FILE))}
        try:
            recipe = evaluate(project, name, {}).recipe
            row |= {"version": recipe.version, "summary": recipe.summary}
        except ReprobuildError as error:
            row |= {"version": "", "summary": "", "error": error.message}
            code = code or error.exit_code
        except OSError as error:
            row |= {"version": "", "summary": "", "error": f"{error.filename}: {error.strerror}"}
            code = code or OutsideError.exit_code
        found.append(row)
    taken = taken_images(project.store)
    if session.json:
        images = [{"tag": one.tag, "image_id": str(one.image_id), "origin": one.isolation} for one in taken]
        print_json(document(recipes=found, images=images))
        return code
    if found:
        rows = [
            (
                str(row["name"]),
                str(row["version"]) or "?",
                "locked" if row["locked"] else "not locked",
                f"error: {row['error']}".partition("\n")[0] if "error" in row else str(row["summary"]),
            )
            for row in found
        ]
        print_text(table(rows))
    elif not session.quiet:
        say("no recipes here; reprobuild list --recipes DIR looks elsewhere")
    if taken:
        print_text(table([(one.tag, one.image_id.short, one.engine) for one in taken]))
    return code
