"""Calls that are answered before click is imported: which are understood, and what that costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reprobuild.cli.plain import parse
from reprobuild.cli.warm import answer


@pytest.mark.parametrize(
    ("line", "names", "sets", "switches", "options", "recipes"),
    [
        pytest.param("realize a", ["a"], [], set(), {}, [], id="name"),
        pytest.param("--json realize a b", ["a", "b"], [], {"--json"}, {}, [], id="names"),
        pytest.param("realize a --store S --json", ["a"], [], {"--json"}, {"store": "S"}, [], id="after"),
        pytest.param("--store=S realize a", ["a"], [], set(), {"store": "S"}, [], id="equals"),
        pytest.param("realize --set x=1 a --set=y=2", ["a"], ["x=1", "y=2"], set(), {}, [], id="set"),
        pytest.param("realize a --recipes R --recipes Q", ["a"], [], set(), {}, ["R", "Q"], id="recipes"),
        pytest.param(
            "--quiet --offline realize a --engine auto",
            ["a"],
            [],
            {"--quiet", "--offline"},
            {"engine": "auto"},
            [],
            id="others",
        ),
    ],
)
def test_plain_calls_are_understood(
    line: str,
    names: list[str],
    sets: list[str],
    switches: set[str],
    options: dict[str, str],
    recipes: list[str],
) -> None:
    call = parse(line.split(), "realize")
    assert call is not None
    found = (call.names, call.sets, call.switches, call.options, call.recipes)
    assert found == (names, sets, switches, options, recipes)


@pytest.mark.parametrize(
    "line",
    [
        "realize a --dry-run",
        "realize a --check",
        "realize --all",
        "realize a --keep-going",
        "realize a --debug",
        "realize a --trust",
        "realize -- a",
        "realize a --store",
        "realize a --store --json",
        "realize a --json=1",
        "list realize",
        "run a -- realize",
        "--set x=1 realize a",
        "realize a -h",
    ],
)
def test_all_else_is_left_to_click(line: str) -> None:
    assert parse(line.split(), "realize") is None


@pytest.mark.parametrize("line", ["realize", "realize nowhere", "realize a --engine nope"])
def test_what_cannot_be_answered_is_left_to_click(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(line.split()) is None
    assert capsys.readouterr() == ("", "")


def test_the_fast_lane_imports_nothing_heavy() -> None:
    modules = (
        "reprobuild.cli.warm",
        "reprobuild.cli.plain",
        "reprobuild.build.memo",
        "reprobuild.build.recipes",
        "reprobuild.derivation.folder",
        "reprobuild.settings",
    )
    taken = f"before = set(sys.modules); import {', '.join(modules)}; print(*set(sys.modules) - before)"
    code = f"import sys; {taken}"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(found.stdout.split())
    assert imported.issuperset(modules)
    assert not imported & {
        "click",
        "rich",
        "json",
        "re",
        "typing",
        "dataclasses",
        "enum",
        "pathlib",
        "inspect",
    }
