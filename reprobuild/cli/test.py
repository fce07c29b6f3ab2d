"""``reprobuild test``: the predictors' examples, then the recipe's own tests."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reprobuild.cli.arguments import chosen_names, image_of
from reprobuild.cli.options import all_option, set_option, strict_network_option, trust_option
from reprobuild.cli.output import document, flush, print_json, print_text
from reprobuild.cli.session import Session
from reprobuild.cli.text import count_text, seconds_text
from reprobuild.cli.ui import say

if TYPE_CHECKING:
    from reprobuild.build.project import Project

FAILED = 1
NO_TESTS = 5
"""pytest's exit code where it found nothing to run."""


@click.command("test")
@click.argument("names", nargs=-1, metavar="NAME…")
@all_option
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    metavar="D",
    help="For predictors with cuda: a GPU: 0, 1, …",
)
@set_option
@strict_network_option
@trust_option
@click.pass_obj
def command(
    session: Session,
    names: tuple[str, ...],
    everything: bool,
    device: str,
    sets: tuple[str, ...],
    trust: bool,
) -> int:
    """Run the examples of each predictor, then the recipe's own tests with pytest where it is installed.

    A tag or an image ID has examples too: they travel in the image. Own tests are told of the device by
    TEST_DEVICES. Exit code 1 if any fails.
    """
    code = 0
    with session.working() as project:
        chosen = chosen_names(project, names, everything=everything, locked=True)
    for name in chosen:
        with session.working() as project:
            passed = _test(session, project, name, device, sets, trust=trust)
        code = code if passed else FAILED
    return code


def _test(
    session: Session, project: Project, name: str, device: str, sets: tuple[str, ...], *, trust: bool
) -> bool:
    from reprobuild.build.find import is_reference
    from reprobuild.predict.target import make_target
    from reprobuild.predict.testing import run_examples

    target = make_target(project, image_of(project, name, sets, trust=trust))
    folder = Path() if is_reference(project, name) else project.recipe_folder(name)
    examples: list[dict[str, Any]] = []
    for outcome in run_examples(target, tell=project.tell, folder=folder, device=device):
        examples.append(
            {
                "predictor": outcome.predictor,
                "example": outcome.index,
                "passed": outcome.passed,
                "problem": outcome.problem,
                "seconds": round(outcome.seconds, 3),
            }
        )
        if not session.json and not (session.quiet and outcome.passed):
            how = "passed" if outcome.passed else f"failed: {outcome.problem}"
            print_text(
                f"{outcome.predictor} example {outcome.index + 1}: {how} ({seconds_text(outcome.seconds)})"
            )
    if not examples and not session.json:
        say(f"note: {name} has no examples")
    flush()  # what pytest prints, and the summary on stderr, come after it in a pipe, too
    own = None if is_reference(project, name) else _own_tests(session, project, folder, device)
    failed = sum(not example["passed"] for example in examples)
    if session.json:
        print_json(document(recipe=name, examples=examples, own_tests=own))
    elif not session.quiet:
        say(
            f"{name}: {count_text(len(examples), 'example')}, {failed} failed"
            + (f"; own tests {own}" if own else "")
        )
    return not failed and own != "failed"


def _own_tests(session: Session, project: Project, folder: Path, device: str) -> str | None:
    """Run a recipe's ``tests`` with pytest: ``passed``, ``failed``, ``not run``; None where it has none."""
    tests = folder / "tests"
    if not tests.is_dir():
        return None
    if util.find_spec("pytest") is None:
        say(f"note: {tests} not run: pytest is not installed\nhint: {sys.executable} -m pip install pytest")
        return "not run"
    package = str(Path(__file__).resolve().parents[2])
    settings = project.settings
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH")))),
        "PYTHONDONTWRITEBYTECODE": "1",
        **({} if device in ("cpu", "-1") else {"TEST_DEVICES": device}),
        "REPROBUILD_STORE": settings.store,
        "REPROBUILD_RECIPES": os.pathsep.join(settings.recipes),
        "REPROBUILD_ENGINE": settings.engine,
        "REPROBUILD_OFFLINE": "1" if settings.offline else "0",
        "REPROBUILD_STRICT_NETWORK": "1" if settings.strict_network else "0",
    }
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        str(tests),
    ]
    ended = subprocess.run(
        # Data goes to stdout alone: what pytest prints is for people.
        argv,
        cwd=folder,
        env=environment,
        stdout=sys.stderr,
        check=False,
    )
    return "passed" if ended.returncode in (0, NO_TESTS) else "failed"
