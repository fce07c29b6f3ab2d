"""Closures on the command line: what ``export --closure`` and ``import`` say of them.

Knows nothing of what is in one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprobuild.cli.arguments import pairs
from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.pull import lines_of
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, size_text

if TYPE_CHECKING:
    from reprobuild.publish.receive import Received

KINDS = {
    "application/vnd.in-toto+json": "provenance",
    "application/vnd.cyclonedx+json": "bill of materials",
    "application/vnd.reprobuild.lock.v1+json": "lock",
    "application/vnd.reprobuild.sources.v1": "sources",
    "application/vnd.reprobuild.predictions.v1+jsonl+gzip": "predictions",
}
"""What people call what goes with an image."""


def export(
    session: Session,
    name: str,
    path: str,
    sets: tuple[str, ...],
    *,
    with_sources: bool,
    predictions: bool,
    trust: bool,
) -> int:
    """Write a closure; give the exit code."""
    from reprobuild.publish.about import about
    from reprobuild.publish.closure import export_closure

    to = Path(path).absolute()
    options = pairs(sets, "--set")
    with session.working() as project:
        done = export_closure(
            project,
            name,
            options,
            to,
            about(project.settings),
            with_sources=with_sources,
            predictions=predictions,
            trust=trust,
        )
    image = done.image
    if session.json:
        fields = {"tag": image.tag, "image_id": str(image.image_id), "path": str(to), "format": "closure"}
        more = {"manifest": str(done.manifest), "artifacts": list(done.artifacts), "size": done.size}
        print_json(document(**fields, **more, written=done.is_written))
        return 0
    how = "written" if done.is_written else "is there already"
    parts = ", ".join(dict.fromkeys(KINDS.get(kind, kind) for kind in done.artifacts)) or "nothing else"
    print_text(
        f"{to}: {image.tag} {how}, {size_text(done.size)}\n"
        f"  image ID  {image.image_id}\n  with      {parts}\n  next      reprobuild import {to}"
    )
    return 0


def describe(received: Received, predictions: int) -> dict[str, Any]:
    """Give what came of a closure as a part of a document."""
    fields = {name: value for name, value in received.realised.to_json().items() if name != "schema"}
    return {
        **fields,
        "manifest": str(received.manifest),
        "confirmed_by": list(received.confirmed_by),
        "derivation": received.has_derivation,
        "predictions": predictions,
    }


def lines(received: Received, predictions: int) -> list[str]:
    """Write what came of a closure for people."""
    found = lines_of(received.realised.to_json(), received)
    if predictions:
        found.append(
            f"  {count_text(predictions, 'prediction')} taken, as somebody else's: not computed here"
        )
    return found
