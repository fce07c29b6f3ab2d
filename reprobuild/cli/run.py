"""``reprobuild run``: a command in an image, without network."""

from __future__ import annotations

import sys

import click

from reprobuild.cli.arguments import image_of
from reprobuild.cli.options import set_option, trust_option
from reprobuild.cli.session import Session
from reprobuild.cli.text import visible
from reprobuild.cli.ui import say
from reprobuild.errors import NoProgramError


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("name", metavar="NAME")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD…")
@set_option
@trust_option
@click.pass_obj
def command(session: Session, name: str, argv: tuple[str, ...], sets: tuple[str, ...], trust: bool) -> int:
    """Run a command in a recipe's image, built first if need be: no network, changes are lost.

    The exit code is the command's own.
    """
    from reprobuild.build.image import checked_out
    from reprobuild.engine.program import obstacle
    from reprobuild.engine.protocol import Command

    with session.working() as project:
        realised = image_of(project, name, sets, trust=trust)
        engine = project.engine
    with checked_out(project.store, realised) as checkout:
        # Raw streams for a pipe or a file; on a terminal, nothing that would steer it.
        drawn = sys.stdout.isatty()
        asked = Command(argv=argv, env=realised.env, workdir=realised.workdir, terminal=not drawn)
        if problem := obstacle(checkout, asked):
            raise NoProgramError(f"{realised.tag}: {problem}", f"look around in it: reprobuild shell {name}")
        result = engine.run(checkout, asked, output=_show if drawn else None)
    if result.refused:
        say("note: it reached for the network, which does not exist inside: " + "; ".join(result.refused))
    return result.exit_code


def _show(line: bytes) -> None:
    text = line.decode(errors="replace")
    print(visible(text.rstrip("\r\n")), flush=True)
