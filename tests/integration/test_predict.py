"""Predictions in the sandbox, with the command line as users run it."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.projects import SOURCE, Project, make_project, require_sandbox

RECIPE = '''\
"""Predictors of busybox alone."""
from reprobuild import File, files, image, predictor, recipe

TEXT = {"inputs": {"text": str}, "outputs": {"text": str}, "scope": "item"}

@recipe(version="1.0")
def copier():
    return image(
        files("root", to="/"),
        env={"GREETING": "hello"},
        workdir="/tmp",
        predictors={
            "default": predictor("cp {input} {output}", **TEXT),
            "batch": predictor("cp {input} {output}", **{**TEXT, "scope": "batch"}),
            "online": predictor("wget -O {output} http://example.org/answer < {input}", **TEXT),
            "copes": predictor("wget -O - http://example.org/; cp {input} {output}", **TEXT),
            "broken": predictor("cp {input} {output}; printf 'it is \\\\033[31mwrong\\\\n'; exit 7", **TEXT),
            "picky": predictor(
                "if grep -q bad {input}; then echo it is bad; exit 3; fi; cp {input} {output}", **TEXT
            ),
            "short": predictor("head -n 1 {input} > {output}", **TEXT),
            "stuck": predictor(
                "[ $(wc -l < {input}) -le 100 ] || sleep 600; cp {input} {output}", **TEXT
            ),
            "slow": predictor("sleep 600; : {input} {output}", **TEXT),
            "greedy": predictor("dd if=/dev/zero of=/dev/null bs=1G count=1 && cp {input} {output}", **TEXT),
            "large": predictor("yes | head -c 20000000 > {output}; : {input}", **TEXT),
            "file": predictor(
                "tr '{{}}' '  ' < {input} > /dev/null; for f in /in/files/*; do "
                "echo '{\\"text\\":\\"'$(cat $f)' '$(stat -c %u:%a:%Y $f)'\\"}'; done > {output}",
                inputs={"path": File}, outputs={"text": str}, scope="item",
            ),
            "world": predictor(
                "echo '{\\"text\\":\\"'"
                "$GREETING $PWD $OMP_NUM_THREADS $(id -u) {device} {word}'\\"}' > {output};"
                " : {input}",
                **TEXT, threads=3, parameters={"word": "a b"},
            ),
            "writes": predictor("echo x >> {input}; touch /x /in/x /app; cp {input} {output}", **TEXT),
        },
    )
'''


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose image is built; tests predict with it and change nothing else."""
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("built"))
    (project.recipe / "recipe.py").write_text(RECIPE)
    project.call("lock", "copier")
    return project


@pytest.fixture
def project(built: Project) -> Project:
    """The built project, with nothing predicted yet."""
    shutil.rmtree(built.store / "predictions", ignore_errors=True)
    return built


def lines(*texts: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def predict(project: Project, name: str, stdin: str, *more: str, check: bool = True) -> Any:
    return project.call("predict", name, "--input", "-", "--output", "-", *more, stdin=stdin, check=check)


def kept(project: Project) -> int:
    path = project.store / "predictions" / "cache.db"
    if not path.exists():
        return 0
    with sqlite3.connect(path) as connection:
        (count,) = connection.execute("SELECT count(*) FROM Cache").fetchone()
    connection.close()
    return int(count)


def test_from_pipe_to_pipe_and_then_from_the_cache(project: Project) -> None:
    texts = lines("abc", "a\nb\t\0", "äöü😀", "abc")
    first = predict(project, "copier", texts, "--json")
    second = predict(project, "copier", texts, "--json")
    assert [json.loads(line)["text"] for line in first.out.split("\n")[:-1]] == [
        "abc",
        "a\nb\t\0",
        "äöü😀",
        "abc",
    ]
    assert second.out == first.out
    summaries = [json.loads(ended.err.splitlines()[-1]) for ended in (first, second)]
    assert [(one["items"], one["cached"], one["computed"]) for one in summaries] == [(4, 0, 3), (4, 4, 0)]


def test_from_file_to_file_beside_the_caller(project: Project, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(lines("a", "b"))
    arguments = ("--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl"))
    summary = project.call("predict", "copier/batch", *arguments, "--json").json
    assert (tmp_path / "out.jsonl").read_text() == '{"text":"a"}\n{"text":"b"}\n'
    assert summary["signature"].startswith("copier@") and summary["signature"].endswith("|batch|cpu|v1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


FAILURES: dict[str, tuple[str, tuple[str, ...], int, tuple[str, ...]]] = {
    "exit code": ("broken", (), 1, ("copier/broken ended with exit code 7", "wrong")),
    "too few": ("short", (), 1, ("wrote 1 of 2 outputs", "line 2 of standard input")),
    "network": ("online", (), 3, ("copier/online reached for the network", "example.org")),
    "time": ("slow", ("--timeout", "1"), 1, ("was ended after 1 s", "--timeout")),
    "memory": ("greedy", ("--memory", "50MB"), 1, ("out of memory",)),
    "no JSON": ("large", (), 1, ("line 1 of standard input", "no JSON")),
    "a GPU": ("default", ("--device", "0"), 2, ("does not use a GPU",)),
}


@pytest.mark.parametrize("name, more, code, shown", FAILURES.values(), ids=FAILURES)
def test_failures(
    project: Project, name: str, more: tuple[str, ...], code: int, shown: tuple[str, ...]
) -> None:
    ended = predict(project, f"copier/{name}", lines("a", "b"), *more, check=False)
    assert ended.code == code, ended.err
    assert ended.out == ""
    for text in shown:
        assert text in ended.err
    assert "\x1b" not in ended.err
    assert kept(project) == 0
    assert not [path.name for path in (project.store / "tmp").iterdir() if path.name.startswith("predict")]


def test_keep_going_writes_the_others_and_lists_those_that_failed(project: Project, tmp_path: Path) -> None:
    texts, listed = lines("a", "bad one", "b", "a", "bad two"), tmp_path / "failed.jsonl"
    more = ["--keep-going", "--failed", str(listed), "--jobs", "2", "--json"]
    ended = predict(project, "copier/picky", texts, *more, check=False)
    assert ended.code == 1
    outputs = [json.loads(line) for line in ended.out.splitlines()]
    assert [output.get("text") for output in outputs] == ["a", None, "b", "a", None]
    assert [set(outputs[place]) for place in (1, 4)] == [{"_error"}, {"_error"}]
    assert (
        'failed: line 2 of standard input, {"text":"bad one"}: the predictor copier/picky ended' in ended.err
    )
    summary = json.loads(ended.err.splitlines()[-1])
    assert [failure["index"] for failure in summary["failed"]] == [1, 4]
    failures = [json.loads(line) for line in listed.read_text().splitlines()]
    assert failures == summary["failed"]
    assert failures[1]["input"] == {"text": "bad two"} and "it is bad" in failures[1]["error"]
    assert kept(project) == 2
    assert (
        predict(project, "copier/picky", lines("a", "b"), "--keep-going", "--failed", str(listed)).code == 0
    )
    assert listed.read_text() == ""
    places = ("--input", "-", "--output", "/dev/null", "--failed", "-", "--keep-going", "--json")
    shown = project.call("predict", "copier/picky", *places, stdin=texts, check=False)
    assert [json.loads(line)["index"] for line in shown.out.splitlines()] == [1, 4]
    assert len(json.loads(shown.err.splitlines()[-1])["failed"]) == 2
    wrong = predict(project, "copier/picky", lines("a"), *more[1:3], check=False)
    assert wrong.code == 2 and "--keep-going" in wrong.err


def test_an_interrupt_ends_all_jobs_and_keeps_what_is_done(project: Project, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(lines(*(f"{n}" for n in range(1000))))
    paths = ("--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl"))
    predict(project, "copier/stuck", lines("another"))  # so that there is a cache to look at
    process = subprocess.Popen(
        project.argv("predict", "copier/stuck", *paths, "--jobs", "2"),
        cwd=project.folder,
        env=project.full_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while kept(project) < 1 + 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert kept(project) == 1 + 200 and not (tmp_path / "out.jsonl").exists()
    assert not [path for path in (project.store / "tmp").iterdir() if path.name.startswith("predict")]
    again = project.call("predict", "copier/stuck", *paths, "--limit", "200")
    assert "200 from the cache, 0 computed" in again.err


def test_network_that_is_coped_without_is_a_warning(project: Project) -> None:
    ended = predict(project, "copier/copes", lines("a"))
    assert ended.out == '{"text":"a"}\n'
    assert "reached for the network" in ended.err


def test_wrong_input_is_refused_before_anything_starts(project: Project) -> None:
    ended = predict(project, "copier/broken", lines("a") + '{"text": 1}\n', check=False)
    assert ended.code == 2
    assert "standard input, line 2: the field text is an integer where a text is needed" in ended.err
    assert "wrong\n" not in ended.err


def test_the_world_of_a_predictor(project: Project) -> None:
    ended = predict(project, "copier/world", lines("x"), "--param", "word=$(id) ; 'c'")
    assert json.loads(ended.out)["text"] == "hello /tmp 3 0 -1 $(id) ; 'c'"


def test_files_are_there_by_digest_and_readable(project: Project, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("read me")
    (tmp_path / "secret.txt").chmod(0o600)
    ended = predict(project, "copier/file", json.dumps({"path": str(tmp_path / "secret.txt")}) + "\n")
    assert json.loads(ended.out)["text"] == "read me 0:644:315619200"


def test_inputs_can_not_be_written_to(project: Project, tmp_path: Path) -> None:
    ended = predict(project, "copier/writes", lines("a"))
    assert ended.out == '{"text":"a"}\n'


def test_offline_and_with_new_inputs(project: Project) -> None:
    assert predict(project, "copier", lines("new"), "--offline").out == lines("new").replace(": ", ":")


def test_tampered_prediction_is_found_by_audit(project: Project) -> None:
    predict(project, "copier", lines("abc", "def"))
    assert project.call("audit").code == 0
    with sqlite3.connect(project.store / "predictions" / "cache.db") as connection:
        connection.execute(
            "UPDATE Cache SET value = CAST(replace(CAST(value AS TEXT), 'abc', 'abd') AS BLOB)"
        )
    connection.close()
    ended = project.call("audit", check=False)
    assert ended.code == 4
    assert "of copier/default" in ended.out + ended.err
    again = predict(project, "copier", lines("abc", "def"))
    assert again.out == lines("abc", "def").replace(": ", ":")
    assert project.call("audit").code == 0


PYTHON = """
import os, pickle
from reprobuild import load

model = load("copier", store={store!r})
assert model.predict(text="abc") == "abc" == model.predict("abc")
assert model.predict_batch([{{"text": "x"}}, {{"text": "y"}}]) == ["x", "y"]
pickled = pickle.dumps(model)
assert len(pickled) < 1000
os.chdir("/")
assert pickle.loads(pickled).predict("z") == "z"
"""


def test_from_python(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PYTHON.format(store=str(project.store))],
        cwd=project.folder,
        env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin", "HOME": str(project.folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


POOL = """
import multiprocessing, os, pickle
from concurrent.futures import ProcessPoolExecutor
from reprobuild import load

if __name__ == "__main__":
    model = load("copier", store={store!r}, keep_going=True)
    assert len(pickle.dumps(model.predict)) < 1000
    context = multiprocessing.get_context("spawn")
    os.chdir("/")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        found = list(pool.map(model.predict, [str(n) for n in range(20)], chunksize=5))
    assert found == [str(n) for n in range(20)], found
    outputs, summary = model.answer({{"text": str(n)}} for n in range(20))
    assert (outputs, summary.cached) == (found, 20)
"""


def test_in_a_pool_of_processes(project: Project) -> None:
    script = project.folder / "pool.py"
    script.write_text(POOL.format(store=str(project.store)))
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=project.folder,
        env=project.full_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


PEAK = """
import resource, sys
from reprobuild.cli import main
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit as ended:
    assert not ended.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.once
def test_memory_does_not_grow_with_cached_records(project: Project, tmp_path: Path) -> None:
    peaks = []
    for count in (20_000, 200_000):
        (tmp_path / "in.jsonl").write_text(lines(*(f"{n}" for n in range(count))))
        paths = ["--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
        arguments = ["--store", str(project.store), "--quiet", "predict", "copier", *paths]
        project.call(*arguments[2:])
        done = subprocess.run(
            [sys.executable, "-c", PEAK.format(arguments=arguments)],
            cwd=project.folder,
            env=project.full_environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        peaks.append(int(done.stdout) / 1000)
    # The database, of which up to 256 MB are mapped, has 36 MB more.
    assert peaks[1] - peaks[0] < 120, peaks


def test_tables_through_pipes_and_inputs_by_name(project: Project, tmp_path: Path) -> None:
    table = 'id,body\n7,"a\nb"\n8,"c,d"\n'
    more = ("--format", "csv", "--output-format", "tsv", "--map", "text=body", "--map", "instance_id=id")
    ended = predict(project, "copier", table, *more)
    assert ended.out == 'instance_id\ttext\n7\t"a\nb"\n8\tc,d\n'
    with gzip.open(tmp_path / "1.csv.gz", "wt") as file:
        file.write("text,note\nabc,x\n")
    (tmp_path / "2.jsonl").write_text(lines("def"))
    inputs = ("--input", str(tmp_path / "1.csv.gz"), "--input", str(tmp_path / "2.jsonl"))
    ended = project.call("predict", "copier", *inputs, "--output", str(tmp_path / "out.parquet"))
    assert "ignored, since copier/default does not take it: note" in ended.err
    ended = project.call(
        "predict", "copier", "--input", str(tmp_path / "out.parquet"), "--output", "-", "--include-input"
    )
    assert ended.out == '{"input":{"text":"abc"},"text":"abc"}\n{"input":{"text":"def"},"text":"def"}\n'
    piped = (tmp_path / "out.parquet").read_bytes()
    done = subprocess.run(
        project.argv("predict", "copier", "--input", "-", "--format", "parquet", "--output", "-"),
        input=piped,
        capture_output=True,
        check=True,
        cwd=project.folder,
        env=project.full_environment(),
    )
    assert done.stdout == lines("abc", "def").replace(": ", ":").encode()
    ended = predict(project, "copier", "text\na\nb,c\n", "--format", "csv", check=False)
    assert (ended.code, ended.out) == (2, "")
    assert "standard input, line 3: the row has 2 values, the header 1" in ended.err
    ended = predict(project, "copier", "", "--format", "cvs", check=False)
    assert ended.code == 2 and "--format cvs: there is no such format" in ended.err
