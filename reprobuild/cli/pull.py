"""``reprobuild pull``: take an image from a registry by its tag alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from reprobuild.cli.output import document, print_json, print_text
from reprobuild.cli.report import summary_of
from reprobuild.cli.session import Session
from reprobuild.cli.text import visible
from reprobuild.cli.ui import say

if TYPE_CHECKING:
    from reprobuild.publish.receive import Received


@click.command("pull")
@click.argument("tag", metavar="TAG")
@click.pass_obj
def command(session: Session, tag: str) -> int:
    """Take an image from a registry, for whoever has no recipe of it: predict, test, run and show then take
    its tag. Predictors and examples come with it.

    TAG is what publish prints, docker.io/user/tutorial:1.0-0123456789ab; with @sha256:… behind it that very
    manifest is taken. A tag without a registry is looked for at the substituters.
    """
    from reprobuild.publish.pull import pull

    with session.working() as project:
        received = pull(project, tag)
    report(session, received)
    return 0


def report(session: Session, received: Received, **more: Any) -> None:
    """Print what came: tag, image ID, input hash, and how far it is to be believed."""
    result = received.realised.to_json()
    if not session.quiet:
        say(visible(summary_of(result)))
    if session.json:
        checks = {
            "manifest": str(received.manifest),
            "confirmed_by": list(received.confirmed_by),
            "derivation": received.has_derivation,
            "predictors": sorted(received.realised.predictors),
        }
        print_json(
            document(**{name: value for name, value in result.items() if name != "schema"}, **checks, **more)
        )
        return
    print_text("\n".join(lines_of(result, received)))


def lines_of(result: Mapping[str, Any], received: Received) -> list[str]:
    """Write what came for people."""
    realised = received.realised
    name = next(iter(sorted(realised.predictors, key=lambda name: (name != "default", name))), "")
    predictor = realised.tag + ("" if name == "default" else f"/{name}")
    lines = [
        str(result["tag"]),
        f"  image ID    {result['image_id']}",
        f"  input hash  {result['input_hash']}",
        f"  manifest    {received.manifest}",
        "  checked     layers, config and manifest fit each other and the tag"
        + (", the derivation fits the input hash" if received.has_derivation else ""),
    ]
    if received.confirmed_by:
        lines.append(f"  confirmed   by the lock of {', '.join(received.confirmed_by)}")
    else:
        lines.append("  unchecked   that these inputs come to this image: no lock here says so")
        lines.append("              (with its recipe: reprobuild realize NAME compares)")
    if name:
        lines.append(f"  next        reprobuild test {result['tag']}")
        lines.append(f"              reprobuild predict {predictor} --input FILE --output FILE")
    else:
        lines.append(f"  next        reprobuild run {result['tag']} -- COMMAND")
    return lines
