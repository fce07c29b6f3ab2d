"""``reprobuild shell``: a shell in an image, or in a step as it was before it ran."""

from __future__ import annotations

import click

from reprobuild.cli.arguments import image_of, pairs
from reprobuild.cli.options import set_option, trust_option
from reprobuild.cli.session import Session
from reprobuild.cli.ui import say
from reprobuild.errors import NoProgramError, UnpinnedError
from reprobuild.value import replace

BASH = ("/bin/bash",)
SHELL = ("/bin/sh", "+m")
"""Without job control: the process group outside, to which it would give the terminal back, has no number
inside, so that ``exit`` would end with a complaint and another exit code."""


@click.command("shell")
@click.argument("name", metavar="NAME")
@click.option(
    "--at", metavar="STEP", help="The tree before a step: its number, from 1, or a part of its title."
)
@set_option
@trust_option
@click.pass_obj
def command(session: Session, name: str, at: str | None, sets: tuple[str, ...], trust: bool) -> int:
    """Open a shell in a recipe's image: no network, changes are lost.

    With --at, in the tree that a step found: where one failed, its command can be tried by hand.
    """
    from reprobuild.cli.run import report_refused
    from reprobuild.engine.program import has_program, obstacle
    from reprobuild.engine.protocol import Command
    from reprobuild.gateway.gate import refusing

    with session.working() as project:
        engine = project.engine
        if at is None:
            realised = image_of(project, name, sets, trust=trust)
            place = engine.ground([layer.listing for layer in realised.layers])
            command = Command(argv=SHELL, env=realised.env, workdir=realised.workdir, terminal=True)
            what = realised.tag
        else:
            from reprobuild.build.derive import derive_recipe
            from reprobuild.build.step import before_step

            options = pairs(sets, "--set")
            try:
                derived = derive_recipe(project, name, options, trust=trust)
            except UnpinnedError:
                from reprobuild.lock.lock import pin_below

                derived = pin_below(project, name, options, at, trust=trust)
            before = before_step(project, derived, at)
            place = engine.ground(before.layers)
            command = before.command(SHELL)
            what = f"{name} before {before.title}"
    with place as ground:
        if has_program(ground, BASH[0]):
            command = replace(command, argv=BASH)
        if at is not None and obstacle(ground, command).startswith("there is no folder"):
            command = replace(command, workdir="/")  # a later step makes it
        if problem := obstacle(ground, command):
            raise NoProgramError(f"{what}: {problem}", f"a later step may bring it: reprobuild show {name}")
        if not session.quiet:
            say(f"{what}: no network inside, changes are lost; exit leaves")
        gate = refusing(project.store)
        ended = engine.run(ground, command, gateway=gate)
    report_refused(gate, f"{what}: the shell", ended.exit_code, session)
    return ended.exit_code
