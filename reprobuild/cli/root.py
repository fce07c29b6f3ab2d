"""The ``reprobuild`` command: the table of verbs, the options that all share, how errors end a call.

A verb's module is imported when the verb is called. Knows nothing of what any verb does.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import click

from reprobuild import __version__
from reprobuild.cli.ending import ended
from reprobuild.cli.session import Session
from reprobuild.cli.text import did_you_mean
from reprobuild.errors import NotBuiltError, ReprobuildError, UsageError

VERBS = {
    "new": "start a recipe, or draft one from a Dockerfile",
    "list": "what recipes there are",
    "show": "one recipe: options, pins, predictors, realisations",
    "lock": "write pins and outputs; the only verb that asks upstream what is current",
    "realize": "build what is missing; print tag, image ID, input hash",
    "predict": "run a predictor over files of records",
    "run": "a command in an image, without network",
    "shell": "a shell in an image, or in a step as it was before it ran",
    "test": "the predictors' examples, then the recipe's own tests",
    "why": "which input differs between two recipes, tags or images",
    "audit": "check what is kept against its names, pins and outputs",
    "export": "write an image as an OCI layout or a docker archive, or all that it pins",
    "import": "take files into the store by digest, for pins whose servers are gone",
    "pull": "take an image from a registry by its tag alone",
    "load": "put an image into the container daemon: Docker's or Podman's",
    "publish": "push images to a registry, under tags that never move",
    "gc": "give space back",
    "cache": "look after predictions: stats, verify, explain, clear, export, import",
    "doctor": "what this machine offers, what is missing, the command that mends it",
}
"""Verb → its line of help; ``reprobuild.cli.<verb>`` (``<verb>_`` for Python's own words) has ``command``."""

LATER = ("init", "diff")
"""Verbs of the design that this release does not have."""

MODULES = {"import": "import_", "list": "list_"}


class Root(click.Group):
    """Finds a verb by the table, without importing the others."""

    def __init__(self, load: Callable[[str], click.Command], **more: Any) -> None:
        super().__init__(**more)
        self.load = load

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in LATER:
            raise NotBuiltError(
                f"the verb {cmd_name} is not in this release (reprobuild {__version__})",
                "reprobuild --help lists what is",
            )
        if cmd_name not in VERBS:
            raise UsageError(
                f"there is no verb {cmd_name!r}",
                did_you_mean(cmd_name, VERBS, "reprobuild --help lists them"),
            )
        found = copy.copy(self.load(cmd_name))
        found.params = [*found.params, *shared_options()]
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the table: asking each command for its help would import them all.
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


def load_verb(name: str) -> click.Command:
    """Import a verb's module; give its command."""
    found = importlib.import_module(f"reprobuild.cli.{MODULES.get(name, name)}").command
    assert isinstance(found, click.Command)
    return found


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep a shared option in the session; what was said after the verb wins."""
    session = context.ensure_object(Session)
    assert parameter.name is not None
    if value is not None and value is not False and value != ():
        session.flags[parameter.name] = value


def shared_options() -> list[click.Parameter]:
    """Give the options that are understood before and after every verb."""
    keep: dict[str, Any] = {"expose_value": False, "callback": _keep}
    return [
        click.Option(["--json"], is_flag=True, help="Print JSON.", **keep),
        click.Option(["--quiet"], is_flag=True, help="Show errors and warnings alone.", **keep),
        click.Option(["--debug"], is_flag=True, help="Show where an error came from.", **keep),
        click.Option(["--store"], metavar="DIR", help="Where every byte lives.", **keep),
        click.Option(
            ["--recipes"], multiple=True, metavar="DIR", help="A folder that holds recipes.", **keep
        ),
        click.Option(["--offline"], is_flag=True, help="Use no network.", **keep),
        click.Option(["--engine"], metavar="NAME", help="sandbox, docker or auto.", **keep),
    ]


def root(load: Callable[[str], click.Command]) -> click.Group:
    """Make the ``reprobuild`` command; ``load`` gives the command of a verb of the table."""
    version = click.version_option(__version__, message="reprobuild %(version)s")
    group = Root(
        load,
        name="reprobuild",
        params=shared_options(),
        help="Published models, pinned to the byte, built without a network, predicted with offline.",
        epilog="reprobuild VERB --help says more. A recipe is named NAME, a predictor NAME/PREDICTOR.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        no_args_is_help=True,
        subcommand_metavar="VERB …",
    )
    return version(group)


def run(arguments: Sequence[str], load: Callable[[str], click.Command] = load_verb) -> int:
    """Run one call; give its exit code. No exception gets out of here."""
    session = Session()
    return ended(lambda: _invoke(list(arguments), load, session), session, arguments)


def _invoke(arguments: list[str], load: Callable[[str], click.Command], session: Session) -> object:
    """Let click read the arguments and call the verb; its own errors become ours."""
    try:
        # Not click's own main(): it ends the process where output has no reader, and words errors itself.
        with root(load).make_context("reprobuild", arguments or ["--help"], obj=session) as context:
            code: object = context.command.invoke(context)
            return code
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        raise _from_click(error) from error


def _from_click(error: click.ClickException) -> ReprobuildError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "reprobuild"
    message = error.format_message().rstrip(".")
    return UsageError(message[:1].lower() + message[1:], f"{path} --help")
