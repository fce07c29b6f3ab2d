"""Options that several verbs have, for click.

Knows nothing of what a verb does with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from reprobuild.cli.session import Session
from reprobuild.errors import UsageError

_HOST = re.compile(r"\*|[\w.-]+|\[?[0-9A-Fa-f.]*:[0-9A-Fa-f:.]+\]?")

Function = TypeVar("Function", bound=Callable[..., Any])


def set_option(function: Function) -> Function:
    """Add ``--set OPTION=VALUE``, as ``sets``, to a command."""
    return click.option(
        "--set", "sets", multiple=True, metavar="OPTION=VALUE", help="Choose an option of the recipe."
    )(function)


def form_options(function: Function) -> Function:
    """Add ``--format`` (``input_format``) and ``--map`` (``mapping``) to a command that reads records."""
    function = click.option(
        "--map",
        "mapping",
        multiple=True,
        metavar="FIELD=NAME",
        help="What a field of the predictor, or instance_id, is called in the inputs.",
    )(function)
    return click.option(
        "--format",
        "input_format",
        metavar="F",
        help="What inputs are, whatever their names: jsonl, csv, tsv-plain, tsv-quoted, parquet, csv.gz, …",
    )(function)


def param_option(function: Function) -> Function:
    """Add ``--param NAME=VALUE``, as ``parameters``, to a command."""
    return click.option(
        "--param", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter of the predictor."
    )(function)


def all_option(function: Function) -> Function:
    """Add ``--all``, as ``everything``, to a command."""
    return click.option("--all", "everything", is_flag=True, help="Every recipe that there is.")(function)


def strict_network_option(function: Function) -> Function:
    """Add ``--strict-network``, kept in the session, to a command."""
    return click.option(
        "--strict-network",
        is_flag=True,
        expose_value=False,
        callback=_keep,
        help="Fail where a command was refused something on the network, although it coped.",
    )(function)


def allow_private_option(function: Function) -> Function:
    """Add ``--allow-private HOST``, kept in the session, to a command."""
    return click.option(
        "--allow-private",
        multiple=True,
        metavar="HOST",
        expose_value=False,
        callback=_keep_hosts,
        help="Ask this host although its address is not public.",
    )(function)


def substituter_option(function: Function) -> Function:
    """Add ``--substituter`` and ``--no-pull``, kept in the session, to a command."""
    function = click.option(
        "--no-pull",
        is_flag=True,
        expose_value=False,
        callback=_keep,
        help="Build here, whatever substituters have.",
    )(function)
    return click.option(
        "--substituter",
        "substituters",
        multiple=True,
        metavar="REGISTRY/NAMESPACE",
        expose_value=False,
        callback=_keep,
        help="Ask here for images before building them.",
    )(function)


def _keep_hosts(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    for host in value:
        if not _HOST.fullmatch(host):
            raise UsageError(
                f"--allow-private {host}: not the name or the address of a host",
                "a name or an address alone, as files.example.org, 10.1.2.3 or fd00::1; '*' for all",
            )
    _keep(context, parameter, value)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    session = context.ensure_object(Session)
    assert parameter.name is not None
    if value:
        session.flags[parameter.name] = value


def trust_option(function: Function) -> Function:
    """Add ``--trust`` to a command."""
    return click.option(
        "--trust", is_flag=True, help="Evaluate a stranger's recipe even where it cannot be isolated."
    )(function)
