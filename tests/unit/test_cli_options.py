"""Options that several verbs have: what they do not take."""

from __future__ import annotations

import click
import pytest

from reprobuild.cli.options import allow_private_option
from reprobuild.cli.session import Session
from reprobuild.errors import UsageError


@click.command()
@allow_private_option
def command() -> None:
    """Take the option alone."""


def kept(*arguments: str) -> tuple[str, ...]:
    session = Session()
    command.main(arguments, obj=session, standalone_mode=False)
    found: tuple[str, ...] = session.flags["allow_private"]
    return found


@pytest.mark.parametrize("host", ["*", "files.example.org", "localhost", "10.1.2.3", "::1", "[fd00::1]"])
def test_a_host_is_allowed_by_its_name_or_address(host: str) -> None:
    assert kept("--allow-private", host) == (host,)


@pytest.mark.parametrize("host", ["", "a b", "http://x/", "10.0.0.0/8", "files.test:443", "a,b"])
def test_what_is_no_host_is_not_allowed(host: str) -> None:
    with pytest.raises(UsageError, match="not the name or the address of a host"):
        kept("--allow-private", host)
