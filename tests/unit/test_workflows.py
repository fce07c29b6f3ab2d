"""The workflows of this repository: their calls of the command line are understood, their secrets kept."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from reprobuild.cli import root
from reprobuild.cli.session import Session
from tests.projects import SOURCE

FOLDER = SOURCE / ".github" / "workflows"
CALL = re.compile(r"\breprobuild ([a-z].*)$", re.MULTILINE)
CALLS = [
    (path.name, call) for path in sorted(FOLDER.glob("*.yml")) for call in CALL.findall(path.read_text())
]


def test_there_are_calls() -> None:
    assert len(CALLS) == 2


@pytest.mark.parametrize(("workflow", "call"), CALLS)
def test_a_call_is_understood(workflow: str, call: str) -> None:
    verb, *arguments = shlex.split(call)
    command = root.root(root.load_verb).get_command(click.Context(click.Group()), verb)
    assert command is not None
    with command.make_context(verb, arguments, obj=Session()) as context:
        assert context.params["auto"]


def test_pull_requests_get_no_secret() -> None:
    steps = (FOLDER / "publish.yml").read_text().split("\n      - ")
    secret = [step for step in steps if "secrets." in step]
    assert len(secret) == 1 and "if: github.event_name == 'push'" in secret[0]
    assert [step for step in steps if "--dry-run" in step and "pull_request" in step]
