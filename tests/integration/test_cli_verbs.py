"""The verbs that read: what they print for people and for programs, and what they say to bad input."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.projects import Project, make_project, require_sandbox

TESTS = """from reprobuild import load

def test_copies() -> None:
    assert load("copier").predict(text="own test") == "own test"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A locked and realized project, whose own recipe folder is the only one."""
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    made = make_project(tmp_path_factory.mktemp("verbs"))
    made.call("lock", "copier")
    made.call("realize", "copier")
    return made


def test_list_names_recipes_with_what_they_are(project: Project) -> None:
    assert "copier" in project.call("list").out
    (found,) = [row for row in project.call("list", "--json").json["recipes"] if row["name"] == "copier"]
    assert found["version"] == "1.0"
    assert found["locked"] is True
    assert found["summary"] == "Copies each text: made of busybox alone."


def test_a_recipe_that_says_nothing_of_itself_is_listed(tmp_path: Path) -> None:
    recipe = tmp_path / "recipes" / "silent"
    recipe.mkdir(parents=True)
    (tmp_path / "reprobuild.toml").touch()
    (recipe / "recipe.py").write_text(
        "from reprobuild import image, recipe, run\n"
        "@recipe(version='1')\ndef silent():\n    return image(run('x'))\n"
    )
    listed = Project(tmp_path, tmp_path / "store").call("list").out.splitlines()
    assert [line.split() for line in listed if "silent" in line] == [["silent", "1", "not", "locked"]]


def test_a_recipe_that_does_not_evaluate_is_listed_with_its_fault(tmp_path: Path) -> None:
    recipe = tmp_path / "recipes" / "broken"
    recipe.mkdir(parents=True)
    (tmp_path / "reprobuild.toml").touch()
    (recipe / "recipe.py").write_text("1 / 0\n")
    ended = Project(tmp_path, tmp_path / "store").call("list", check=False)
    assert ended.code == 2
    (line,) = [line for line in ended.out.splitlines() if line.startswith("broken")]
    assert "not locked" in line
    assert "ZeroDivisionError" in line


def test_show_tells_options_steps_pins_predictors_and_images(project: Project) -> None:
    value = project.call("show", "copier", "--json").json
    assert value["options"] == {"extra": {"type": "str", "default": "", "chosen": ""}}
    assert [step["kind"] for step in value["steps"]] == ["files", "url", "files", "run"]
    assert value["steps"][1]["pins"] == {"count": 1, "size": 256 * 1024}
    assert value["predictors"]["default"]["inputs"] == {"text": "str"}
    assert len(value["images"]) == 1
    assert value["locked"]
    text = project.call("show", "copier").out
    assert "not locked" not in text
    for part in (
        "copier 1.0",
        "extra=",
        "1 pin, 262.1 kB",
        "default(text: str) → text: str",
        value["images"][0]["tag"],
    ):
        assert part in text


def test_why_names_the_input_that_changed(project: Project) -> None:
    word = project.recipe / "src" / "word"
    word.write_text("another\n")
    try:
        ended = project.call("why", "copier", "--json").json
        assert [one["path"].partition(".")[0] for one in ended["differences"]] == ["step 3 (files)"]
        assert "step 3 (files)" in project.call("why", "copier").out
    finally:
        word.write_text("word\n")
    assert "the same inputs" in project.call("why", "copier").out


def test_test_runs_examples_and_the_recipes_own_tests(project: Project) -> None:
    (project.recipe / "tests").mkdir(exist_ok=True)
    own = project.recipe / "tests" / "test_copier.py"
    own.write_text(TESTS)
    try:
        ended = project.call("test", "copier", "--json")
        assert [one["passed"] for one in ended.json["examples"]] == [True]
        assert ended.json["own_tests"] == "passed"
        own.write_text(TESTS.replace('== "own test"', '== "something else"'))
        failed = project.call("test", "copier", check=False)
        assert failed.code == 1
        assert "own tests failed" in failed.err
    finally:
        own.unlink()
        own.parent.rmdir()


def test_a_tag_has_examples_too(project: Project) -> None:
    tag = project.call("realize", "copier", "--json").json["tag"]
    assert "example 1: passed" in project.call("test", tag).out


def test_predict_understands_a_tag_and_a_predictor(project: Project) -> None:
    tag = project.call("realize", "copier", "--json").json["tag"]
    for name in (tag, f"{tag}/default", "copier/default"):
        ended = project.call("predict", name, "--input", "-", "--output", "-", stdin='{"text": "abc"}\n')
        assert json.loads(ended.out) == {"text": "abc"}


def test_predict_sums_up_on_the_stream_that_is_free(project: Project, tmp_path: Path) -> None:
    arguments = ("predict", "copier", "--input", "-", "--json", "--output")
    to_file = project.call(*arguments, str(tmp_path / "out.jsonl"), stdin='{"text": "one"}\n')
    assert to_file.json["items"] == 1
    assert to_file.json["signature"].startswith("copier@")
    to_stdout = project.call(*arguments, "-", stdin='{"text": "one"}\n')
    assert json.loads(to_stdout.out) == {"text": "one"}
    assert json.loads(to_stdout.err.splitlines()[-1])["cached"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        pytest.param(["copier/nope", "--input", "-", "--output", "-"], 2, "nope", id="predictor"),
        pytest.param(["copier", "--input", "-"], 2, "--output", id="no output"),
        pytest.param(["copier", "--input", "gone.jsonl", "--output", "-"], 2, "gone.jsonl", id="no input"),
        pytest.param(["copier", "--input", "-", "--output", "-", "--param", "x"], 2, "NAME=VALUE", id="form"),
        pytest.param(["copier", "--input", "-", "--output", "-", "--param", "x=1"], 2, "'x'", id="parameter"),
        pytest.param(["copier", "--input", "-", "--output", "-", "--memory", "lots"], 2, "lots", id="memory"),
        pytest.param(["copier", "--input", "-", "--output", "-", "--cache", "no"], 2, "no", id="cache"),
        pytest.param(["copier", "--input", "-", "--output", "-", "--limit", "-1"], 2, "-1", id="limit"),
        pytest.param(["copier", "--input", "-", "--output", "-", "--device", "gpu"], 2, "gpu", id="device"),
    ],
)
def test_predict_explains_bad_input(project: Project, arguments: list[str], code: int, error: str) -> None:
    ended = project.call("predict", *arguments, check=False, stdin='{"text": "abc"}\n')
    assert (ended.code, ended.out) == (code, "")
    assert error in ended.err.splitlines()[0]


def test_run_gives_the_commands_streams_and_exit_code(project: Project) -> None:
    ended = project.call(
        "run", "copier", "--", "sh", "-c", "cat; echo wrong >&2; exit 3", check=False, stdin="in"
    )
    assert (ended.code, ended.out, ended.err) == (3, "in", "wrong\n")


def test_run_on_a_terminal_shows_no_control_character_of_the_command(project: Project) -> None:
    ours, theirs = pty.openpty()
    argv = project.argv("run", "copier", "--", "sh", "-c", "echo -e 'a\\033[31mb'")
    environment = project.full_environment()
    ended = subprocess.run(
        argv, cwd=project.folder, env=environment, stdout=theirs, stderr=theirs, check=False
    )
    shown = os.read(ours, 4096).decode()
    os.close(theirs)
    os.close(ours)
    assert (ended.returncode, shown.splitlines()) == (0, ["a\\x1b[31mb"])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        pytest.param(["nonsense"], "there is no program 'nonsense'", id="no program"),
        pytest.param(["/app/word"], "/app/word is not executable", id="not executable"),
    ],
)
def test_run_says_what_cannot_start(project: Project, words: list[str], problem: str) -> None:
    ended = project.call("run", "copier", "--", *words, check=False)
    assert (ended.code, ended.out) == (127, "")
    assert problem in ended.err.splitlines()[0]
    assert "bwrap" not in ended.err


def test_import_of_nothing_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "reprobuild.toml").touch()
    project = Project(tmp_path, tmp_path / "store")
    ended = project.call("import", "", check=False)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: import '': a file or a folder is needed\nhint: ")
    assert not project.blobs()


def test_a_shell_ends_with_its_own_exit_code(project: Project) -> None:
    assert project.call("shell", "copier", check=False, stdin="pwd; exit 4\n").code == 4
    before = project.call("shell", "copier", "--at", "2", check=False, stdin="pwd; exit 4\n")
    assert (before.code, before.out) == (4, "/\n"), "what makes the working folder comes later"
    empty = project.call("shell", "copier", "--at", "1", check=False, stdin="")
    assert empty.code == 127
    assert "there is no /bin/sh" in empty.err


def test_a_failing_step_of_a_recipe_without_a_lock_can_be_looked_at(project: Project) -> None:
    project.lock.unlink()
    ended = project.call("lock", "copier", "--set", "extra=exit 9", check=False)
    assert ended.code == 1
    assert "--at 5" in ended.err
    before = project.call("shell", "copier", "--at", "4", check=False, stdin="ls /opt; exit 4\n")
    assert (before.code, before.out) == (4, "weights.bin\n")
    assert not project.lock.exists()


def test_list_says_what_is_wrong_with_the_store_once(project: Project) -> None:
    ended = project.call("list", "--store", "/dev/null/store", check=False)
    assert (ended.code, ended.out) == (5, "")


def test_a_step_without_a_shell_is_told_what_brings_one(project: Project) -> None:
    (project.folder / "recipes" / "bare").mkdir()
    (project.folder / "recipes" / "bare" / "recipe.py").write_text(
        "from reprobuild import image, recipe, run\n"
        "@recipe(version='1')\ndef bare():\n    return image(run('true'))\n"
    )
    ended = project.call("lock", "bare", check=False)
    assert ended.code == 1
    assert "recipe.py:4: run true: there is no /bin/sh in the tree before this step" in ended.err


def test_a_shell_needs_a_step_that_there_is(project: Project) -> None:
    ended = project.call("shell", "copier", "--at", "nothing like it", check=False)
    assert ended.code == 2
    assert "no step fits" in ended.err


def test_doctor_finds_what_is_needed(project: Project) -> None:
    ended = project.call("doctor", "--json")
    found = {one["name"]: one["status"] for one in ended.json["findings"]}
    assert found["sandbox"] == found["store"] == found["python"] == "ok"
    assert "sandbox" in project.call("doctor").out


def test_doctor_says_what_is_missing_with_what_mends_it(project: Project, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = Project(project.folder, tmp_path / "file").call("doctor", check=False)
    assert ended.code == 5
    assert any(line.startswith("missing  store") for line in ended.out.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"store = [", id="no TOML"),
        pytest.param(b"stoer = 'x'", id="unknown setting"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b"jobs = 'many'", id="wrong type"),
    ],
)
@pytest.mark.parametrize("verb", ["list", "doctor", "audit", "gc"])
def test_bad_settings_are_explained(verb: str, text: bytes, tmp_path: Path) -> None:
    (tmp_path / "reprobuild.toml").write_bytes(text)
    ended = Project(tmp_path, tmp_path / "store").call(verb, check=False)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
