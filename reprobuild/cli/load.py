"""``reprobuild load``: put an image into the container daemon."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from reprobuild.cli.arguments import image_of
from reprobuild.cli.options import set_option, trust_option
from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, seconds_text, size_text
from reprobuild.cli.ui import say

if TYPE_CHECKING:
    from reprobuild.build.load import Loaded


@click.command("load")
@click.argument("name", metavar="NAME")
@set_option
@trust_option
@click.pass_obj
def command(session: Session, name: str, sets: tuple[str, ...], trust: bool) -> int:
    """Put a recipe's image (built first if need be), or one of the store by its tag or image ID, into Docker.

    There it has its tag, and our image ID. The daemon is the one that DOCKER_HOST names, else that of the
    docker context in use, else one at a usual socket. What it has already is not sent.
    """
    from reprobuild.build.load import load
    from reprobuild.engine.docker.daemon import connect

    with connect(os.environ) as daemon, session.working() as project:
        realised = image_of(project, name, sets, trust=trust)
        loaded = load(project.store, realised, daemon, project.tell)
    if not session.quiet:
        say(summary(realised.recipe, loaded))
    if session.json:
        print_json(_document(loaded))
    else:
        print_text(
            f"{loaded.tag}\n  image ID  {loaded.image_id}\n  daemon    {loaded.daemon}\n"
            f"  next      docker run --rm --network none {loaded.tag} …"
        )
    return 0


def summary(recipe: str, loaded: Loaded) -> str:
    """Give one line on what was sent and what was there."""
    if not loaded.is_sent:
        return f"{recipe}: nothing sent, the daemon has it"
    sent = sum(is_sent for _, _, is_sent in loaded.layers)
    there = len(loaded.layers) - sent
    parts = [f"{count_text(sent, 'layer')} sent"]
    parts += [f"{there} there already"] * bool(there)
    return f"{recipe}: {', '.join(parts)}, {size_text(loaded.sent_bytes)}, {seconds_text(loaded.seconds)}"


def _document(loaded: Loaded) -> dict[str, Any]:
    layers = [
        {"diff_id": str(diff_id), "size": size, "status": "sent" if is_sent else "there"}
        for diff_id, size, is_sent in loaded.layers
    ]
    return document(
        tag=loaded.tag,
        image_id=str(loaded.image_id),
        daemon=loaded.daemon,
        layers=layers,
        sent_bytes=loaded.sent_bytes,
        seconds=loaded.seconds,
    )
