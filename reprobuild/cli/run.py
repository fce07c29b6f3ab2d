"""``reprobuild run``: a command in an image, without network."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from reprobuild.cli.arguments import image_of
from reprobuild.cli.options import set_option, strict_network_option, trust_option
from reprobuild.cli.session import Session
from reprobuild.cli.text import visible
from reprobuild.cli.ui import say
from reprobuild.errors import NoProgramError

if TYPE_CHECKING:
    from reprobuild.gateway.gate import Gate


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@click.argument("name", metavar="NAME")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD…")
@set_option
@strict_network_option
@trust_option
@click.pass_obj
def command(session: Session, name: str, argv: tuple[str, ...], sets: tuple[str, ...], trust: bool) -> int:
    """Run a command in a recipe's image, built first if need be: no network, changes are lost.

    The exit code is the command's own.
    """
    from reprobuild.engine.program import obstacle
    from reprobuild.engine.protocol import Command
    from reprobuild.gateway.gate import refusing

    with session.working() as project:
        realised = image_of(project, name, sets, trust=trust)
        engine = project.engine
    with engine.ground([layer.listing for layer in realised.layers]) as ground:
        # Raw streams for a pipe or a file; on a terminal, nothing that would steer it.
        drawn = sys.stdout.isatty()
        asked = Command(argv=argv, env=realised.env, workdir=realised.workdir, terminal=not drawn)
        if problem := obstacle(ground, asked):
            raise NoProgramError(f"{realised.tag}: {problem}", f"look around in it: reprobuild shell {name}")
        gate = refusing(project.store)
        result = engine.run(ground, asked, gateway=gate, output=_show if drawn else None)
    report_refused(gate, f"{realised.tag}: {argv[0]}", result.exit_code, session)
    return result.exit_code


def report_refused(gate: Gate, what: str, exit_code: int, session: Session) -> None:
    """Say on stderr what a command was refused, if anything.

    Raises RefusedFetchError where it ended well and ``--strict-network`` makes that a failure.
    """
    if not gate.refused:
        return
    from reprobuild.build.refusals import refused_error

    error = refused_error(what, gate, "it coped without" if not exit_code else "")
    if session.settings.strict_network and not exit_code:
        raise error
    say(visible(f"note: {error.message}\nhint: {error.hint}"))


def _show(line: bytes) -> None:
    text = line.decode(errors="replace")
    print(visible(text.rstrip("\r\n")), flush=True)
