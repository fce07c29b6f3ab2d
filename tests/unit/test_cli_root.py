"""Errors as sentences with exit codes, options before and after the verb, verbs by a table."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from reprobuild.cli import root
from reprobuild.cli.session import Session
from reprobuild.errors import (
    BuildFailedError,
    CheckFailedError,
    OfflineError,
    RefusedFetchError,
    ReprobuildError,
    UnpinnedError,
    UsageError,
)


def verb(act: Callable[[Session], int | None]) -> Callable[[str], click.Command]:
    """Make a table of verbs in which each one does the same."""

    @click.pass_obj
    def callback(session: Session) -> int | None:
        return act(session)

    command = click.Command("list", callback=callback)
    return lambda name: command


def raising(error: BaseException) -> Callable[[str], click.Command]:
    def act(session: Session) -> int:
        raise error

    return verb(act)


def reprobuild(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "reprobuild", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(root.__file__).parents[2])}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(BuildFailedError("it broke", "try again"), 1, id="build"),
        pytest.param(UsageError("it broke", "try again"), 2, id="usage"),
        pytest.param(UnpinnedError("it broke", "try again"), 3, id="unpinned"),
        pytest.param(RefusedFetchError("it broke", "try again"), 3, id="refused"),
        pytest.param(CheckFailedError("it broke", "try again"), 4, id="check"),
        pytest.param(OfflineError("it broke", "try again"), 5, id="offline"),
    ],
)
def test_an_error_is_a_line_a_hint_and_an_exit_code(
    error: ReprobuildError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert root.run(["list"], raising(error)) == code
    assert capsys.readouterr() == ("", "error: it broke\nhint: try again\n")


def test_an_error_without_hint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    root.run(["list"], raising(ReprobuildError("it broke")))
    assert capsys.readouterr().err == "error: it broke\n"


def test_under_json_an_error_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    root.run(["list", "--json"], raising(UnpinnedError("it broke", "try again")))
    out, err = capsys.readouterr()
    fields = {"kind": "Unpinned", "message": "it broke", "hint": "try again", "exit_code": 3}
    assert json.loads(out) == {"schema": 1, "error": fields}
    assert err == "error: it broke\nhint: try again\n"


def test_control_characters_of_an_error_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root.run(["list"], raising(ReprobuildError("a\x1b[31mb\x9b\u202e", "c\rd")))
    assert capsys.readouterr().err == "error: a\\x1b[31mb\\x9b\\u202e\nhint: c\\x0dd\n"


@pytest.mark.parametrize("arguments", [["--debug", "list"], ["list", "--debug"]], ids=["before", "after"])
def test_debug_shows_where_an_error_came_from(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root.run(arguments, raising(UsageError("it broke")))
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.endswith("error: it broke\n")


def test_a_fault_of_ours_is_a_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert root.run(["list"], raising(ZeroDivisionError("division by zero"))) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: a fault in reprobuild itself: ZeroDivisionError: division by zero\n")
    assert "--debug" in err
    assert "Traceback" not in err


def test_a_full_disk_is_outside_and_names_what_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert root.run(["list"], raising(OSError(errno.ENOSPC, "No space left on device", "/store/x"))) == 5
    assert capsys.readouterr().err == (
        "error: /store/x: No space left on device\nhint: reprobuild gc gives space back\n"
    )


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert root.run(["list"], raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_verb_gives_its_exit_code() -> None:
    assert root.run(["list"], verb(lambda session: 7)) == 7
    assert root.run(["list"], verb(lambda session: None)) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--json", "--store", "S", "list"], id="before"),
        pytest.param(["list", "--json", "--store", "S"], id="after"),
        pytest.param(["--store", "other", "list", "--store", "S", "--json"], id="after wins"),
    ],
)
def test_shared_options_stand_before_or_after_the_verb(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[tuple[bool, str]] = []
    root.run(arguments, verb(lambda session: seen.append((session.json, session.settings.store))))
    assert seen == [(True, str(tmp_path / "S"))]


def test_recipes_is_a_list_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[tuple[str, ...]] = []
    arguments = ["list", "--recipes", "a", "--recipes", "b"]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    root.run(arguments, verb(lambda session: seen.append(session.settings.recipes[:2])))
    assert seen == [(str(tmp_path / "a"), str(tmp_path / "b"))]


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        pytest.param(["relize"], "there is no verb 'relize'", "did you mean realize?", id="unknown verb"),
        pytest.param(
            ["diff"],
            "the verb diff is not in this release (reprobuild 0.1.0)",
            "reprobuild --help lists what is",
            id="later verb",
        ),
        pytest.param(
            ["list", "--engine", "vm"],
            "the command line: there is no engine 'vm'",
            "one of auto, sandbox, docker",
            id="engine",
        ),
    ],
)
def test_bad_arguments_are_explained(arguments: list[str], error: str, hint: str) -> None:
    ended = reprobuild(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"error: {error}\nhint: {hint}\n"


def test_an_option_that_there_is_not_points_to_the_help_of_its_verb() -> None:
    ended = reprobuild("list", "--zzzz")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: no such option")
    assert ended.stderr.endswith("hint: reprobuild list --help\n")


def test_nothing_said_is_help() -> None:
    assert reprobuild().stdout == reprobuild("--help").stdout


@pytest.mark.parametrize("name", root.VERBS)
def test_every_verb_has_help_and_the_shared_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert root.run([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: reprobuild {name}")
    assert all(option in out for option in ("--json", "--store DIR", "--engine NAME", "--debug"))


def test_later_verbs_are_in_no_help(capsys: pytest.CaptureFixture[str]) -> None:
    root.run(["--help"])
    listed = capsys.readouterr().out.partition("Verbs:")[2].split()
    assert not set(root.LATER) & set(listed)


def test_help_imports_no_verb() -> None:
    code = (
        "import sys; from reprobuild.cli.root import run; run(['--help']); "
        "print([m for m in sys.modules if m.startswith('reprobuild.cli.')], 'rich' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = ended.stdout.splitlines()[-1]
    assert "reprobuild.cli.realize" not in modules
    assert modules.endswith("False")


def test_a_reader_that_has_gone_is_no_error() -> None:
    command = f"{sys.executable} -m reprobuild --help | true; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("0\n", "")


def test_a_recipes_folder_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["list", "--recipes", str(tmp_path / "none")]
    assert root.run(arguments, verb(lambda session: len(session.settings.recipes))) == 2
    assert capsys.readouterr() == ("", f"error: --recipes {tmp_path / 'none'}: there is no such folder\n")


@pytest.mark.parametrize(
    ("arguments", "closed", "code", "error"),
    [
        pytest.param(["--help"], ">&-", 5, "a standard stream is closed", id="out"),
        pytest.param(["--version"], "2>&-", 0, "", id="err"),
        pytest.param(["--version"], "<&-", 0, "", id="in"),
        pytest.param(["list", "--none"], ">&- <&- 2>&-", 2, "", id="all"),
        pytest.param(["list", "--none", "--json"], ">&-", 2, "no such option '--none'", id="error as JSON"),
        pytest.param(["--help"], ">/dev/full", 5, "No space left on device", id="full"),
        pytest.param(["list", "--none", "--json"], ">/dev/full", 2, "no such option", id="full, as JSON"),
    ],
)
def test_streams_that_are_closed_or_full(arguments: list[str], closed: str, code: int, error: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(root.__file__).parents[2])}
    script = f'"$@" {closed}'
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "reprobuild", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert error in ended.stderr


def test_a_locale_without_the_characters_gets_them_escaped() -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(root.__file__).parents[2]),
        "PYTHONIOENCODING": "ascii",
    }
    program = (
        "from reprobuild.cli import root; import click\n"
        "print_text = __import__('reprobuild.cli.output', fromlist=['x']).print_text\n"
        "raise SystemExit(root.run(['list'], lambda name: click.Command("
        "'list', callback=lambda: print_text('a → b'))))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "a \\u2192 b\n")


def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(root.__file__).parents[2])}
    script = f'rmdir "{gone}"; exec "$@"'
    command = ["sh", "-c", script, "sh", sys.executable, "-P", "-m", "reprobuild", "list"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=gone, env=environment, check=False)
    assert ended.returncode == 5
    assert ended.stderr.splitlines()[-2:] == [
        "error: the current folder is gone",
        "hint: change to another one: cd",
    ]
