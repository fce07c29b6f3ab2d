"""Options that several verbs have, for click.

Knows nothing of what a verb does with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def set_option(function: Function) -> Function:
    """Add ``--set OPTION=VALUE``, as ``sets``, to a command."""
    return click.option(
        "--set", "sets", multiple=True, metavar="OPTION=VALUE", help="Choose an option of the recipe."
    )(function)


def trust_option(function: Function) -> Function:
    """Add ``--trust`` to a command."""
    return click.option(
        "--trust", is_flag=True, help="Evaluate a stranger's recipe even where it cannot be isolated."
    )(function)
