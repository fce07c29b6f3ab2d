"""What is read is never written over, nor are two things written to one place; lists are whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from reprobuild.cli.prediction import predict
from reprobuild.cli.session import Session
from reprobuild.derivation.predictors import predictor
from reprobuild.errors import OutsideError, PredictionFailedError, UsageError
from reprobuild.predict.apart import demand_apart
from reprobuild.predict.call import Options
from reprobuild.predict.files import Shape, predict_file
from reprobuild.predict.places import written
from tests.host_engine import HostEngine, make_target

pytestmark = pytest.mark.once


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.csv").write_text("text\na\n")
    (tmp_path / "other.csv").write_text("text\nb\n")
    (tmp_path / "link").symlink_to("in.csv")
    os.link(tmp_path / "in.csv", tmp_path / "hard.csv")
    (tmp_path / "to come").symlink_to("new.csv")
    (tmp_path / "saved").mkdir()
    (tmp_path / "folder link").symlink_to("saved")
    (tmp_path / "saved" / "state.json").write_text("{}")
    (tmp_path / "saved" / "data.arrow").write_bytes(b"")
    os.link(tmp_path / "saved" / "data.arrow", tmp_path / "rows")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


SAME: dict[str, tuple[list[str], dict[str, str], str]] = {
    "output": (["in.csv"], {"--output": "in.csv"}, "--output in.csv is the input in.csv"),
    "./": (["other.csv", "in.csv"], {"--output": "./in.csv"}, "--output ./in.csv is the input in.csv"),
    "link": (["link"], {"--metrics": "in.csv"}, "--metrics in.csv is the input link"),
    "through a link": (["in.csv"], {"--failed": "link"}, "--failed link is the input in.csv"),
    "hard link": (["in.csv"], {"--output": "hard.csv"}, "--output hard.csv is the input in.csv"),
    "two": ([], {"--output": "z", "--failed": "z"}, "z is named twice, by --output and --failed"),
    "two, ./": ([], {"--output": "z", "--failed": "./z"}, "--failed ./z is the same file as --output"),
    "two that are there": (
        [],
        {"--metrics": "link", "--failed": "hard.csv"},
        "--failed hard.csv is the same file as --metrics",
    ),
    "link to nothing": (
        [],
        {"--output": "to come", "--failed": "new.csv"},
        "--failed new.csv is the same file as --output",
    ),
    "stdout": ([], {"--output": "-", "--failed": "-"}, "standard output is named twice"),
    "stdout, by path": ([], {"--output": "-", "--failed": "/dev/stdout"}, "standard output is named twice"),
    "in a dataset": (["saved"], {"--output": "saved/data.arrow"}, "is in the folder of the input saved"),
    "new in a dataset": (["saved"], {"--failed": "folder link/x"}, "is in the folder of the input saved"),
    "hard link to a dataset": (["saved/"], {"--output": "rows"}, "is in the folder of the input saved/"),
}


@pytest.mark.parametrize("inputs, outputs, message", SAME.values(), ids=SAME)
def test_same_files_are_refused(
    folder: Path, inputs: list[str], outputs: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        demand_apart(inputs, outputs)
    assert caught.value.hint.startswith("name ")


DIFFERENT: dict[str, tuple[list[str], dict[str, str | None]]] = {
    "files": (["in.csv", "in.csv"], {"--output": "x", "--metrics": "y", "--failed": "other.csv"}),
    "nowhere": (["in.csv"], {"--output": None, "--metrics": "", "--failed": "y"}),
    "nothing": (["in.csv"], {"--output": "/dev/null", "--failed": "/dev/null"}),
    "through": (["-"], {"--output": "-", "--failed": "x"}),
    "by names": (["/dev/null"], {"--output": "/dev/null"}),
    "pipe": (["pipe"], {"--output": "pipe"}),
    "beside a dataset": (["saved"], {"--output": "saved.jsonl"}),
    "names alike": (["in.csv"], {"--output": "saved/in.csv"}),
    "no such input": (["none.csv", "none/none.csv", "\0"], {"--output": "none/none.jsonl"}),
}


@pytest.mark.parametrize("inputs, outputs", DIFFERENT.values(), ids=DIFFERENT)
def test_different_places_are_not(folder: Path, inputs: list[str], outputs: dict[str, str | None]) -> None:
    demand_apart(inputs, outputs)


def test_a_file_behind_standard_input_or_output_counts(folder: Path) -> None:
    kept = os.dup(0), os.dup(1)
    opened = os.open("in.csv", os.O_RDWR | os.O_APPEND)
    try:
        os.dup2(opened, 0)
        with pytest.raises(UsageError, match=r"--output hard.csv is the input standard input"):
            demand_apart(["-"], {"--output": "hard.csv"})
        os.dup2(kept[0], 0)
        os.dup2(opened, 1)
        with pytest.raises(UsageError, match=r"--output - is the input in.csv"):
            demand_apart(["in.csv"], {"--output": "-"})
        with pytest.raises(UsageError, match="--failed - is the same file as --output"):
            demand_apart([], {"--output": "in.csv", "--failed": "-"})
    finally:
        os.dup2(kept[0], 0)
        os.dup2(kept[1], 1)
        for one in (*kept, opened):
            os.close(one)


PICKY = predictor(
    'python3 -c "import json, sys\n'
    "with open(sys.argv[2], 'w') as out:\n"
    "    for line in open(sys.argv[1]):\n"
    "        text = json.loads(line)['text']\n"
    "        sys.exit('no') if text == 'bad' else print(json.dumps({'output': text}), file=out)"
    '" {input} {output}',
    inputs={"text": str},
    outputs={"output": str},
    scope="item",
)


class Bench:
    """A target on the host whose predictor fails for some records, and an input with such a one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = HostEngine()
        self.target = make_target(folder, self.engine, default=PICKY)
        self.source = folder / "in.jsonl"
        self.source.write_text('{"text":"a"}\n{"text":"bad"}\n')
        self.out = folder / "out.jsonl"

    def predict(self, out: Path | None = None, *, keep_going: bool = True, **shape: Any) -> None:
        options = Options(keep_going=keep_going)
        places = str(self.source), str(out or self.out)
        predict_file(self.target, "default", *places, options=options, limit=2, shape=Shape(**shape))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_an_input_stays_as_it_was(bench: Bench) -> None:
    before = bench.source.read_bytes()
    for given in ({"out": bench.source}, {"failed": str(bench.source)}, {"failed": str(bench.out)}):
        with pytest.raises(UsageError):
            bench.predict(**given)
    assert bench.source.read_bytes() == before
    assert not bench.out.exists() and not bench.engine.commands


def test_the_command_line_says_it_before_it_looks_for_a_recipe(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"--failed in.csv is the input in.csv"):
        predict(Session({}), "none", ["in.csv"], "x", keep_going=True, failed="in.csv")


def test_records_that_failed_are_listed(bench: Bench) -> None:
    listed = bench.folder / "failed.jsonl"
    bench.predict(failed=str(listed))
    (found,) = [json.loads(line) for line in listed.read_text().splitlines()]
    assert (found["index"], found["input"]) == (1, {"text": "bad"})
    bench.source.write_text('{"text":"a"}\n')
    bench.predict(failed=str(listed))
    assert listed.read_text() == ""


def test_a_list_that_can_not_be_written_is_told_before_anything_is_computed(bench: Bench) -> None:
    with pytest.raises(OutsideError, match="can't be written: No such file") as caught:
        bench.predict(failed=str(bench.folder / "no" / "failed.jsonl"))
    assert caught.value.hint == f"mkdir -p {bench.folder / 'no'}"
    assert not bench.engine.commands


def test_a_list_is_whole_or_as_it_was(bench: Bench) -> None:
    listed = bench.folder / "failed.jsonl"
    listed.write_text("as it was\n")
    with pytest.raises(PredictionFailedError):
        bench.predict(keep_going=False, failed=str(listed))
    assert listed.read_text() == "as it was\n"
    assert not list(bench.folder.glob("*.part"))


def test_what_is_no_file_is_written_to_as_it_is() -> None:
    reading, writing = os.pipe()
    with written(f"/dev/fd/{writing}") as write, written("/dev/null") as forget:
        write(b"abc\n")
        forget(b"abc\n")
    os.close(writing)
    with open(reading, "rb") as file:
        assert file.read() == b"abc\n"
