"""Plain calls of ``predict``, which go past click: which they are, and that click would do the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reprobuild import cli
from reprobuild.cli import direct, prediction
from reprobuild.cli.session import Session

PLAIN = [
    pytest.param("predict a --input F --output G", id="files"),
    pytest.param("predict a/other --input - --output -", id="streams"),
    pytest.param("--quiet predict --input=- a --output=G --json", id="switches"),
    pytest.param("predict a --input F --input H --output G --set x=1 --set=y=2", id="several inputs"),
    pytest.param(
        "--offline --store S predict a --input F --output G --recipes R --engine auto", id="settings"
    ),
]


@pytest.mark.parametrize("line", PLAIN)
def test_a_plain_call_means_what_click_reads(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    defaults = prediction.predict.__kwdefaults__ or {}

    def note(session: Session, *places: str, **options: Any) -> int:
        flags = {name: list(value) if name == "recipes" else value for name, value in session.flags.items()}
        given = {name: tuple(found) if name == "sets" else found for name, found in options.items()}
        calls.append((flags, places, {**defaults, **given}))
        return 3

    monkeypatch.setattr(prediction, "predict", note)
    monkeypatch.setattr("reprobuild.cli.predict.predict", note)
    assert direct.answer(line.split()) == 3
    monkeypatch.setattr(direct, "answer", lambda arguments: None)
    monkeypatch.setattr(sys, "argv", ["reprobuild", *line.split()])
    assert cli.main() == 3
    assert calls[0] == calls[1]


@pytest.mark.parametrize(
    "line",
    [
        "predict a --input F",
        "predict a --output F",
        "predict --input F --output G",
        "predict a b --input F --output G",
        "predict a --input F --output G --param x=1",
        "predict a --input F --output G --trust",
        "predict a --input F --output G --debug",
        "predict a --input F --output",
        "predict a --input --output G",
        "predict a --inp F --output G",
        "--input F predict a --output G",
        "predict a --input F --output G -h",
        "realize predict --input F --output G",
    ],
)
def test_all_else_is_left_to_click(line: str) -> None:
    assert direct.answer(line.split()) is None


@pytest.mark.parametrize("before", [True, False])
def test_an_output_may_be_missing_beside_metrics_alone(
    before: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    calls: list[tuple[object, ...]] = []

    def note(session: Session, *places: object, **options: Any) -> int:
        calls.append((*places, options["metrics"], options["mapping"]))
        return 0

    monkeypatch.setattr("reprobuild.cli.predict.predict", note)
    metrics = ["--metrics", "M", "--map", "a=b"]
    inputs = ["--input", "F", "--input", "-"]
    line = [*metrics, "a", *inputs] if before else ["a", *inputs, *metrics]
    monkeypatch.setattr(sys, "argv", ["reprobuild", "predict", *line])
    assert cli.main() == 0
    assert calls == [("a", ("F", "-"), None, "M", ("a=b",))]
    store = ["--store", str(tmp_path / "S")]
    monkeypatch.setattr(sys, "argv", ["reprobuild", "predict", "tutorial", *inputs, *store])
    assert cli.main() == 2
    assert "missing option '--output'" in capsys.readouterr().err


def test_an_error_ends_a_plain_call_as_it_ends_any(tmp_path: Path) -> None:
    plain = ["predict", "nowhere", "--input", "F", "--output", "-", "--json", "--store", str(tmp_path / "S")]
    package = str(Path(cli.__file__).parents[2])
    ended = [
        subprocess.run(
            [sys.executable, "-m", "reprobuild", *arguments],
            capture_output=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": package},
        )
        for arguments in (plain, [*plain, "--cache", "use"])
    ]
    assert ended[0].returncode == 2
    assert ended[0].stderr.startswith(b"error: there is no recipe 'nowhere'")
    assert (ended[0].stdout, ended[0].stderr) == (ended[1].stdout, ended[1].stderr)


def test_a_plain_call_imports_no_click(tmp_path: Path) -> None:
    line = ["predict", "nowhere", "--input", "F", "--output", "-", "--store", str(tmp_path / "S")]
    call = f"from reprobuild.cli import direct; direct.answer({line!r})"
    code = f"import sys; {call}; print('click' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    assert found.stdout == "False\n"
