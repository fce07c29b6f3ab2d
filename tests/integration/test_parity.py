"""repro's faults, each by its number in the list of what it gets wrong: here they can't happen."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from reprobuild import aggregate, load
from reprobuild.compat import DockerContainer, Model, ParallelModel, image_exists, predict_with_model
from reprobuild.errors import (
    EngineError,
    InputError,
    PredictionFailedError,
    RefusedFetchError,
    UsageError,
)
from tests.daemons import Docker
from tests.projects import SOURCE, Project, make_project, require_sandbox

RECIPE = '''\
"""Predictors of busybox alone."""
from reprobuild import files, image, predictor, recipe, run, url

TEXT = {"inputs": {"text": str}, "outputs": {"text": str}, "scope": "item"}

@recipe(version="1.0")
def copier(extra: str = ""):
    return image(
        files("root", to="/"),
        url("file:weights.bin", to="/opt/weights.bin"),
        *([run(extra)] if extra else []),
        workdir="/tmp",
        predictors={
            "default": predictor("cp {input} {output}", **TEXT),
            "broken": predictor("cp {input} {output}; echo it is the weights; exit 7", **TEXT),
            "short": predictor("head -n 1 {input} > {output}", **TEXT),
            "word": predictor(
                "echo '{\\"text\\":\\"'{word}'\\"}' > {output}; : {input}", **TEXT, parameters={"word": "a"}
            ),
            "drawn": predictor(
                "while read -r line; do echo '{\\"text\\":\\"'$(cat /proc/sys/kernel/random/uuid)'\\"}'; done"
                " < {input} > {output}; : {seed}", **TEXT, random=True,
            ),
            "sampled": predictor(
                "while read -r line; do drawn=$(echo {seed} $line | sha256sum | cut -c1-16);"
                " echo '{\\"text\\":\\"'$drawn'\\"}'; done"
                " < {input} > {output}", **TEXT, random=True,
            ),
            "lines": predictor(
                "cp {input} {output}; echo '{\\"_macro\\":{\\"lines\\":'$(wc -l < {input})'}}' >> {output}",
                inputs={"text": str}, outputs={"text": str}, macro="corpus",
            ),
            "loads": predictor(
                "loaded=$(cat /proc/sys/kernel/random/uuid); while IFS= read -r line; do"
                " number=${line#*:}; number=${number%%,*};"
                " printf '{\\"_id\\":%s,\\"text\\":\\"%s\\"}\\n' \\"$number\\" \\"$loaded\\"; done",
                **TEXT, protocol="stream",
            ),
            "numbers": predictor(
                "cp {input} {output}", inputs={"number": float}, outputs={"number": float}, scope="item",
                macro="mean",
            ),
        },
    )
'''
ENGINES = ("sandbox", "docker")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose image is built; tests change neither its recipe nor its lock."""
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("built"))
    (project.recipe / "recipe.py").write_text(RECIPE)
    project.call("lock", "copier")
    return project


@pytest.fixture
def here(built: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project as this process's own: settings are found as users' are."""
    monkeypatch.chdir(built.folder)
    monkeypatch.setenv("REPROBUILD_STORE", str(built.store))
    return built


@pytest.fixture(params=ENGINES)
def either(request: pytest.FixtureRequest, here: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The same with each engine."""
    daemon: Mapping[str, str] = {}
    if request.param == "docker":
        daemon = request.getfixturevalue("docker").environment
    environment = {**daemon, "REPROBUILD_ENGINE": request.param}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return replace(here, environment=environment)


class Wrapped(Model):
    """A model that people wrapped by themselves."""

    def predict_batch(self, inputs: list[dict[str, Any]], *args: Any, **kwargs: Any) -> list[str]:
        with DockerContainer("copier") as backend:
            Path(backend.host_dir, "in").write_text("".join(f"{one['text']}\n" for one in inputs))
            return backend.run_command(
                f"sed s/^/{kwargs.get('prefix', '')}/ {backend.container_dir}/in", silent=True
            ).split()


def lines(*texts: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def predict(project: Project, name: str, stdin: str, *more: str, check: bool = True) -> Any:
    return project.call("predict", name, "--input", "-", "--output", "-", *more, stdin=stdin, check=check)


def test_b1_an_exit_code_is_an_error_with_the_last_lines(either: Project) -> None:
    with DockerContainer("copier") as backend, pytest.raises(PredictionFailedError) as caught:
        backend.run_command(command="echo it is the weights >&2; exit 3", silent=True)
    assert "exit code 3" in caught.value.message and "it is the weights" in caught.value.message
    ended = predict(either, "copier/broken", lines("a"), check=False)
    assert (ended.code, ended.out) == (1, "")
    assert "exit code 7" in ended.err and "it is the weights" in ended.err


WAITING = """
from reprobuild.compat import DockerContainer
with DockerContainer("copier") as backend:
    backend.run_command("echo begun; exec sleep 45678")
"""


def test_b2_nothing_is_left_behind_by_an_interrupt(either: Project) -> None:
    process = subprocess.Popen(
        [either.python, "-u", "-c", WAITING],
        cwd=either.folder,
        env={**either.full_environment(), "REPROBUILD_STORE": str(either.store)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0 and "KeyboardInterrupt" in errors
    assert not [command for command in commands() if "45678" in command]
    assert not [path.name for path in (either.store / "tmp").iterdir() if path.name.startswith("compat")]


def commands() -> list[str]:
    """Give the command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def test_b2_no_container_is_left_behind(here: Project, docker: Docker) -> None:
    before = docker("ps", "--all", "--quiet")
    project = replace(here, environment={**docker.environment, "REPROBUILD_ENGINE": "docker"})
    for name in ("default", "broken"):
        predict(project, f"copier/{name}", lines("b2"), "--cache", "off", check=False)
    assert docker("ps", "--all", "--quiet") == before


def test_b3_a_build_that_fails_is_no_success(built: Project) -> None:
    ended = built.call("lock", "copier", "--set", "extra=echo no such weights >&2; exit 5", check=False)
    assert ended.code == 1
    assert "exit code 5" in ended.err and "no such weights" in ended.err
    assert built.call("realize", "copier", "--set", "extra=exit 5", check=False).code != 0


HIDES = "extra=wget -O /opt/weights http://example.org/weights; rm -rf /tmp/x"
"""A script without ``set -e`` whose download fails, and which ends well."""


def test_b4_a_download_that_fails_in_a_script_that_goes_on_is_named(built: Project, tmp_path: Path) -> None:
    project = copied(built, tmp_path)
    ended = project.call("lock", "copier", "--set", HIDES, check=False)
    assert "http://example.org/weights" in ended.err and "reached for the network" in ended.err
    strict = replace(project, store=tmp_path / "other", environment={"REPROBUILD_STRICT_NETWORK": "true"})
    ended = strict.call("realize", "copier", "--set", HIDES, check=False)
    assert ended.code == 3, ended.err
    assert "http://example.org/weights" in ended.err


def copied(project: Project, folder: Path) -> Project:
    """Give a copy of a project, with an empty store."""
    shutil.copytree(project.folder / "recipes", folder / "recipes", symlinks=True)
    (folder / "reprobuild.toml").touch()
    return Project(folder, folder / "store")


@pytest.mark.once
def test_b5_other_bytes_than_the_pinned_ones_are_refused(built: Project, tmp_path: Path) -> None:
    project = copied(built, tmp_path)
    pins = [line for line in project.lock.read_text().splitlines() if "weights.bin" in line]
    assert any("sha256" in line for line in pins)
    (project.recipe / "weights.bin").write_bytes(b"other weights")
    ended = project.call("realize", "copier", check=False)
    assert ended.code == 4, ended.err
    assert "weights.bin" in ended.err


def test_b6_outputs_are_never_shifted(here: Project) -> None:
    texts = ["a\nb", "c", "\u2028\r\n", "", "d\t\0"]
    with load("copier") as model:
        assert model.predict_batch([{"text": text} for text in texts]) == texts
    with pytest.raises(PredictionFailedError, match=r"wrote 1 of 2 outputs; .* item 1"):
        load("copier/short").predict_batch([{"text": "b6 a"}, {"text": "b6 b"}])


def test_b7_parts_keep_their_arguments_and_are_joined_rightly_or_not_at_all(here: Project) -> None:
    parallel = ParallelModel(Wrapped, num_models=2)
    assert parallel.predict_batch([{"text": "a"}, {"text": "b"}, {"text": "c"}], prefix="x") == [
        ["xa", "xb"],
        ["xc"],
    ]
    assert parallel.predict_batch([], prefix="x") == []
    metric = load("copier/lines")
    shards = [metric.evaluate([{"text": "a"}, {"text": "b"}]), metric.evaluate([{"text": "c"}])]
    assert [shard.macro for shard in shards] == [{"lines": 2}, {"lines": 1}]
    with pytest.raises(UsageError, match="copier/lines is a corpus metric"):
        aggregate(shards)


@pytest.mark.once
def test_b7_shards_of_the_command_line_are_joined_too(here: Project, tmp_path: Path) -> None:
    records = [{"number": number} for number in (1.5, 2, 5)]
    shards = []
    for name, part in (("one", records[:2]), ("two", records[2:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in part))
        paths = ("--input", str(tmp_path / f"{name}.jsonl"), "--metrics", str(tmp_path / f"{name}.json"))
        here.call("predict", "copier/numbers", *paths, "--output", "-")
        shards.append(json.loads((tmp_path / f"{name}.json").read_text()))
    joined = aggregate(shards)
    assert joined == load("copier/numbers").evaluate(records)
    assert joined.macro == {"number": 17 / 6}


@pytest.mark.once
def test_b8_a_missing_field_is_named_before_anything_starts(here: Project) -> None:
    ended = predict(here, "copier/broken", lines("a") + '{"txt": "b"}\n', check=False)
    assert ended.code == 2
    assert "line 2" in ended.err and "text" in ended.err and "weights" not in ended.err
    with pytest.raises(InputError, match="item 1: the field text is missing"):
        load("copier/broken").predict_batch([{"text": "a"}, {}])

    class Reads(Model):
        def predict(self, text: str, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError

    with pytest.raises(InputError, match="instance 0 lacks text"):
        predict_with_model(Reads(), [{"txt": "a"}])


@pytest.mark.once
def test_b9_records_need_no_instance_id_and_keep_the_one_that_they_have(built: Project) -> None:
    named = '{"instance_id": "first", "text": "b9"}\n'
    outputs = [json.loads(line) for line in predict(built, "copier", named).out.splitlines()]
    assert outputs == [{"instance_id": "first", "text": "b9"}]
    assert json.loads(predict(built, "copier", lines("b9")).out) == {"text": "b9"}


@pytest.mark.once
def test_b10_what_there_is_does_not_depend_on_the_working_directory(built: Project, tmp_path: Path) -> None:
    elsewhere = Project(tmp_path, built.store)
    names = [one["name"] for one in elsewhere.call("list", "--json").json["recipes"]]
    assert {"tutorial", "post2018", "lin2004"} <= set(names)
    tag = built.call("realize", "copier", "--json").json["tag"]
    assert predict(elsewhere, tag, lines("b10")).out == '{"text":"b10"}\n'


@pytest.mark.once
def test_b11_one_setting_names_the_daemon_and_a_dead_one_is_no_missing_image(
    here: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tag = here.call("realize", "copier", "--json").json["tag"]
    monkeypatch.setenv("REPROBUILD_ENGINE", "docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    assert image_exists(tag)
    with DockerContainer(tag) as backend, pytest.raises(EngineError, match=r"none\.sock"):
        backend.run_command("true")
    with pytest.raises(EngineError, match=r"none\.sock"):
        load(tag).predict(text="b11")


def test_b12_what_a_command_leaves_is_removed_and_hides_no_error(either: Project) -> None:
    with (
        pytest.raises(PredictionFailedError, match="exit code 9"),
        DockerContainer("copier") as backend,
    ):
        folder = Path(backend.host_dir)
        made = f"{backend.container_dir}/deep/er"
        backend.run_command(
            f"mkdir -p {made}; echo a > {made}/a; chown 7:7 {made}/a; chmod 0 {made}/a {made}", silent=True
        )
        assert (folder / "deep" / "er" / "a").exists() and (folder / "deep").stat().st_uid == os.geteuid()
        backend.run_command("exit 9", silent=True)
    assert not folder.exists()


@pytest.mark.parametrize("network_disabled", [True, False])
def test_b13_there_is_no_network_and_what_asks_for_it_is_named(
    either: Project, network_disabled: bool
) -> None:
    with DockerContainer("copier") as backend, pytest.raises(RefusedFetchError, match=r"example\.org"):
        backend.run_command(
            "wget -O /tmp/x http://example.org/weights", network_disabled=network_disabled, silent=True
        )


def test_b14_a_model_is_loaded_once_for_many_calls(either: Project) -> None:
    with load("copier/loads", cache="off") as model:
        loaded = model.predict("a")
        assert model.predict_batch([{"text": str(n)} for n in range(100)]) == [loaded] * 100
        assert list(model.predict_iter({"text": str(n)} for n in range(3))) == [loaded] * 3
    # Closed for certain: what comes next is another process.
    with model:
        assert model.predict("a") not in ("", loaded)
    assert not [command for command in commands() if loaded in command or "loaded=$(cat" in command]


@pytest.mark.once
def test_b14_what_was_computed_starts_nothing(here: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with load("copier/loads") as model:
        known = model.predict("b14")
    # With no engine at hand, nothing could be run.
    monkeypatch.setenv("REPROBUILD_ENGINE", "docker")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    assert load("copier/loads").predict("b14") == known


def test_b15_values_reach_the_command_as_they_are_and_its_words_come_back_whole(either: Project) -> None:
    word = "$(touch /x) `id`; 'é' \\\\ %s"
    model = load("copier/word", cache="off")
    assert model.predict("b15", word=word) == word.replace("\\\\", "\\")
    with DockerContainer("copier") as backend:
        said = backend.run_command("yes grüße☃ | head -n 30000", silent=True)
    assert said == "grüße☃\n" * 30000


@pytest.mark.once
def test_b16_arguments_are_taken_or_refused_by_name_everywhere(here: Project) -> None:
    model = load("copier/word")
    assert model.predict("a", word="b") == "b" == model.predict_batch([{"text": "a"}], word="b")[0]
    calls: list[Callable[..., Any]] = [
        model.predict_batch,
        model.predict_iter,
        partial(model.evaluate, macro="mean"),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="no parameter 'beam'"):
            call([{"text": "a"}], beam=3)


@pytest.mark.once
def test_b17_another_content_has_another_tag_though_nobody_changed_the_version(
    built: Project, tmp_path: Path
) -> None:
    project = copied(built, tmp_path)
    before = built.call("realize", "copier", "--json").json
    (project.recipe / "root" / "note").write_text("new")
    project.call("lock", "copier")
    after = project.call("realize", "copier", "--json").json
    assert before["version"] == after["version"] == "1.0"
    assert before["tag"].partition("-")[0] == after["tag"].partition("-")[0]
    assert before["tag"] != after["tag"] and before["image_id"] != after["image_id"]


@pytest.mark.once
def test_b18_no_dependency_is_held_at_an_old_version() -> None:
    with open(SOURCE / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    needed = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    # Its output is in digests: another version is another digest.
    assert held_back(needed) == ["deflate"]


@pytest.mark.once
@pytest.mark.parametrize(
    "needed",
    ["a==1", "a===1", "a==1.*", "a<2", "a<=2", "a>=1,<2", "a~=5.0", "a @ https://example.org/a.whl"],
)
def test_b18_each_way_to_hold_a_dependency_back_is_seen(needed: str) -> None:
    assert held_back(["b>=1", "c>1,!=1.5", "d", needed]) == ["a"]


def held_back(needed: Iterable[str]) -> list[str]:
    """Give the names of those that may not be as new as one likes."""
    found = [Requirement(one) for one in needed]
    return [
        one.name
        for one in found
        if one.url or any(part.operator in {"==", "===", "<", "<=", "~="} for part in one.specifier)
    ]


def test_b18_daemons_are_spoken_with_by_the_libraries_of_today(docker: Docker, here: Project) -> None:
    import requests

    assert tuple(map(int, requests.__version__.split(".")[:2])) >= (2, 32)
    project = replace(here, environment={**docker.environment, "REPROBUILD_ENGINE": "docker"})
    assert predict(project, "copier", lines("b18"), "--cache", "off").out == '{"text":"b18"}\n'


@pytest.mark.once
def test_b19_samples_are_remembered_by_their_seed_alone(here: Project) -> None:
    model = load("copier/drawn")
    first = model.predict_batch([{"text": "a"}, {"text": "a"}, {"text": "b"}])
    assert len(set(first)) == 3 and not set(first) & set(model.predict_batch([{"text": "a"}]))
    seeded = model.predict_batch([{"text": "a"}, {"text": "b"}], seed=1)
    assert model.predict_batch([{"text": "b"}, {"text": "a"}], seed=1) == seeded[::-1]
    assert model.predict("a", seed=2) not in seeded


def test_b19_a_predictor_gets_the_seed_that_was_asked_for(either: Project) -> None:
    with load("copier/sampled", cache="off") as model:
        records = [{"text": "a"}, {"text": "b"}]
        first = model.predict_batch(records, seed=1)
        assert model.predict_batch(records, seed=1) == first
        drawn = [first, *(model.predict_batch(records, seed=seed) for seed in (0, 2))]
        # What it draws without a seed is another each time: it is no fixed one.
        drawn += [model.predict_batch(records) for _ in range(2)]
    assert len({text for texts in drawn for text in texts}) == 10
    said = [
        predict(either, "copier/sampled", lines("a"), "--cache", "off", "--param", f"seed={seed}").out
        for seed in (1, 1, 2)
    ]
    assert [json.loads(one)["text"] for one in said[:2]] == [first[0]] * 2
    assert json.loads(said[2])["text"] == drawn[2][0]


@pytest.mark.once
def test_b20_help_imports_nothing_of_models_and_daemons(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "reprobuild", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "predict" in done.stdout and "reprobuild.cli" in imported
    heavy = {"docker", "datasets", "evaluate", "requests", "urllib3", "numpy", "pyarrow", "rich", "sqlite3"}
    ours = {
        "reprobuild.predict.model",
        "reprobuild.compat",
        "reprobuild.engine.sandbox",
        "reprobuild.lock.lock",
    }
    assert not imported & (heavy | ours)
