"""Predictors of protocol ``stream`` in each engine: what they answer, and what they should not do."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reprobuild import load
from reprobuild.errors import ItemFailedError, PredictionFailedError, ReprobuildError
from reprobuild.events import Event, OutputLine
from reprobuild.predict.model import Model
from tests.daemons import Docker
from tests.engines import Engines
from tests.projects import Project, require_sandbox
from tests.streamed import make_streamed
from tests.waiting import wait_until

ENGINES = ("sandbox", "docker")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    return make_streamed(tmp_path_factory.mktemp("streamed"))


@dataclass
class Bench:
    """A project, the engine that runs its commands, and what was told of models that were loaded."""

    project: Project
    daemon: Docker | None = None
    events: list[Event] = field(default_factory=list)

    def load(self, name: str = "copier", **more: Any) -> Model:
        engine = "sandbox" if self.daemon is None else "docker"
        given = {"cache": "off", "tell": self.events.append, "recipes": self.project.folder / "recipes"}
        return load(name, engine=engine, store=self.project.store, **{**given, **more})

    @property
    def starts(self) -> int:
        return [event.text for event in self.events if isinstance(event, OutputLine)].count("started")

    def leftovers(self) -> list[str]:
        scratch = [path.name for path in (self.project.store / "tmp").iterdir() if path.is_dir()]
        kept = [name for name in scratch if name.startswith(("command", "predict"))]
        return kept + ([] if self.daemon is None else self.daemon("ps", "--all", "--quiet").split())


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, made: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with opened(request, request.param, made, monkeypatch) as bench:
        yield bench


@pytest.fixture
def podman_bench(
    request: pytest.FixtureRequest, made: Project, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    with opened(request, "podman", made, monkeypatch) as bench:
        yield bench


@contextmanager
def opened(
    request: pytest.FixtureRequest, engine: str, made: Project, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    shutil.rmtree(made.store / "predictions", ignore_errors=True)
    if engine == "sandbox":
        bench = Bench(made)
    else:
        daemon: Docker = request.getfixturevalue(engine)
        engines = Engines(daemon, request.getfixturevalue("gateway_packages"))
        bench = Bench(engines.there(made), daemon)
        for name, value in engines.environment.items():
            monkeypatch.setenv(name, value)
    yield bench
    assert bench.leftovers() == []


def test_from_the_command_line_and_then_from_the_cache(bench: Bench) -> None:
    assert "1 example, 0 failed" in bench.project.call("test", "copier").err
    given = "".join(f'{{"text":"text {index}"}}\n' for index in range(300))
    argv = ("predict", "copier", "--input", "-", "--output", "-")
    first = bench.project.call(*argv, stdin=given)
    assert first.out == given
    assert "0 from the cache, 300 computed" in first.err
    again = bench.project.call(*argv, stdin=given + '{"text":"one more"}\n')
    assert again.out == given + '{"text":"one more"}\n'
    assert "300 from the cache" in again.err
    assert " 1 computed" in again.err


def test_one_process_for_many_calls(bench: Bench) -> None:
    with bench.load() as model:
        assert [model.predict(text=text) for text in ("a", "b\n", "garbage", "")] == [
            "a",
            "b\n",
            "garbage",
            "",
        ]
        many = [{"text": f"text {index} {'x' * index}"} for index in range(1000)]
        assert model.predict_batch(many) == [record["text"] for record in many]
        assert model.predict(text="x" * 3_000_000) == "x" * 3_000_000
        assert bench.starts == 1
        model.close()
        assert bench.leftovers() == []
        assert model.predict(text="again") == "again"
        assert bench.starts == 2


def waiting(bench: Bench, marker: str) -> list[str]:
    """Give what waits for the next record: containers, or processes with the marker in their command."""
    if bench.daemon is not None:
        names = bench.daemon("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Status}} {{.Command}}")
        return [line.split()[0] for line in names.splitlines() if " Created " in line and marker in line]
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if f": {marker};".encode() in entry.read_bytes():
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


def test_what_waits_for_a_record_and_is_lost_is_made_again(bench: Bench) -> None:
    marker = f"waiting-{os.getpid()}"
    with bench.load("copier/once") as model:
        for text in ("one", "two"):
            assert model.predict(text=text, marker=marker) == text
        wait_until(lambda: bool(waiting(bench, marker)))
        lost = waiting(bench, marker)
        if bench.daemon is not None:
            bench.daemon("rm", "--force", *lost)
        else:
            for process in lost:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
        wait_until(lambda: not set(lost) & set(waiting(bench, marker)))
        for text in ("three", "four"):
            assert model.predict(text=text, marker=marker) == text


TRACED = """
import sys

events = []
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"}
sys.addaudithook(lambda event, _: events.append(event) if event in STARTS else None)
from reprobuild.cli import main

code = main()
print(code, *events)
"""
"""The command line, and then its exit code and everything that started a process."""


def test_only_what_is_missing_reaches_the_model_and_nothing_starts_where_nothing_is(
    made: Project, tmp_path: Path
) -> None:
    shutil.rmtree(made.store / "predictions", ignore_errors=True)
    source, destination = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    argv = ["predict", "copier/numbered", "--input", str(source), "--output", str(destination)]

    def write(numbers: Iterable[int]) -> None:
        source.write_text("".join(f'{{"text":"text {number}"}}\n' for number in numbers))

    write(range(9000))
    made.call(*argv)
    write(range(9999, -1, -1))
    summary = made.call(*argv, "--json").json
    assert (summary["items"], summary["cached"], summary["computed"]) == (10_000, 9000, 1000)
    given = [int(json.loads(line)["text"]) for line in destination.read_text().splitlines()]
    assert given[:1000] == list(range(1000)), "its own count of the records that it was given"
    before = destination.read_bytes()
    assert traced(made, argv) == "0\n"
    assert destination.read_bytes() == before
    write(range(10_001))
    assert traced(made, argv).startswith("0 subprocess.Popen"), "a process that starts is seen"


def traced(project: Project, arguments: list[str]) -> str:
    done = subprocess.run(
        [project.python, "-c", TRACED, *project.argv(*arguments)[3:]],
        cwd=project.folder,
        env=project.full_environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    return done.stdout


ONE_IS_TO_BLAME = {"die": "exit code 9", "abort": "exit code 139", "leave": "exit code 9"}
NOBODY_KNOWS = {"twice": "answered twice", "unknown": "record 1234567 was answered, and never given to it"}


def test_who_dies_or_answers_wrongly_is_ended_and_the_record_named(bench: Bench) -> None:
    with bench.load() as model:
        model.predict(text="first")
        for text, why in ONE_IS_TO_BLAME.items():
            with pytest.raises(ItemFailedError, match=f"item 2, .*{text}.*{why}") as caught:
                model.predict_batch([{"text": "a"}, {"text": "b"}, {"text": text}, {"text": "c"}])
            assert caught.value.index == 2
        for text, why in NOBODY_KNOWS.items():
            with pytest.raises(PredictionFailedError, match=why):
                model.predict_batch([{"text": text}, {"text": "a"}])
        assert model.predict(text="again") == "again"


def test_who_does_not_answer_is_ended(bench: Bench) -> None:
    with bench.load(timeout=3) as model:
        for text in ("hang", "mute", "deaf"):
            model.predict(text="first")
            with pytest.raises(ItemFailedError, match=rf"item 0, .*{text}.*no answer within 3 s"):
                model.predict_batch([{"text": text + "x" * 1_000_000}])
        assert model.predict(text="again") == "again"


def test_who_takes_too_much_memory_is_ended(bench: Bench) -> None:
    with bench.load(memory=100 << 20) as model:
        model.predict(text="first")
        with pytest.raises(ItemFailedError, match=r"item 1, .*greedy"):
            model.predict_batch([{"text": "a"}, {"text": "greedy"}])
        assert model.predict(text="again") == "again"


def test_a_batch_is_answered_as_a_whole(bench: Bench) -> None:
    with bench.load("copier/batch") as model:
        for count in (3, 200):
            texts = [f"text {index}" for index in range(count)]
            assert model.predict_batch([{"text": text} for text in texts]) == texts


def test_files_come_also_while_it_lives(bench: Bench, tmp_path: Path) -> None:
    with bench.load("copier/file") as model:
        for text in ("one", "two", "one"):
            (tmp_path / text).write_text(text)
            assert model.predict(path=str(tmp_path / text)) == text
        assert bench.starts == 1


def test_podman_carries_the_same(podman_bench: Bench) -> None:
    with podman_bench.load(timeout=30) as model:
        assert model.predict(text="x" * 3_000_000) == "x" * 3_000_000
        many = [{"text": f"text {index} {'x' * (index % 100) ** 2}"} for index in range(300)]
        assert model.predict_batch(many) == [record["text"] for record in many]
        assert podman_bench.starts == 1
        with pytest.raises(ItemFailedError, match=r"item 1, .*die.*exit code 9"):
            model.predict_batch([{"text": "a"}, {"text": "die"}])


def test_what_is_missing_in_the_image_is_named(bench: Bench) -> None:
    with bench.load("copier/missing") as model, pytest.raises(ReprobuildError, match="nothing: not found"):
        model.predict(text="a")


def test_what_it_asks_the_network_for_is_refused_and_told(bench: Bench) -> None:
    argv = ("predict", "copier/online", "--input", "-", "--output", "-")
    ended = bench.project.call(*argv, stdin='{"text":"a"}\n')
    assert ended.out == '{"text":"a"}\n'
    assert "GET http://example.org/" in ended.err
    strict = bench.project.call(*argv, "--strict-network", stdin='{"text":"b"}\n', check=False)
    assert (strict.code, strict.out) == (3, "")


def test_a_model_that_nobody_closes_ends_with_its_process(bench: Bench) -> None:
    program = "from reprobuild import load; print(load('copier', cache='off').predict(text='a'))"
    project = bench.project
    environment = {**project.full_environment(), "REPROBUILD_STORE": str(project.store)}
    done = subprocess.run(
        [project.python, "-c", program],
        cwd=project.folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "a\n"), done.stderr
