"""Looking after predictions with the command line; and predictors put to the test in the sandbox."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from reprobuild.predict.cache import PredictionCache
from tests.projects import Project, make_project, require_sandbox

pytestmark = pytest.mark.once

RECIPE = '''\
"""Predictors of busybox alone."""
from reprobuild import files, image, predictor, recipe, run

TEXT = {"inputs": {"text": str}, "outputs": {"text": str}, "scope": "item"}

@recipe(version="1.0")
def copier(extra: str = ""):
    return image(
        files("root", to="/"),
        *([run(extra)] if extra else []),
        workdir="/tmp",
        predictors={
            "default": predictor("cp {input} {output}; : {word}", **TEXT, parameters={"word": "a"},
                examples=[([{"text": "abc"}, {"text": "def"}], [{"text": "abc"}, {"text": "def"}])]),
            "batch": predictor("cp {input} {output}", **{**TEXT, "scope": "batch"}),
            "random": predictor("cp {input} {output}; : {seed}", **TEXT, random=True),
            "backwards": predictor("tac {input} > {output}", **TEXT),
            "either": predictor(
                "if [ {word} = a ]; then cp {input} {output}; else tac {input} > {output}; fi",
                **TEXT, parameters={"word": "a"}
            ),
        },
    )
'''
IO = ("--input", "-", "--output", "-")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose image is built; tests predict with it and change nothing else."""
    require_sandbox(tmp_path_factory.mktemp("trial") / "store")
    project = make_project(tmp_path_factory.mktemp("built"))
    (project.recipe / "recipe.py").write_text(RECIPE)
    project.call("lock", "copier")
    return project


@pytest.fixture(scope="module")
def filled(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with six predictions of two predictors, to be copied."""
    predict(built, "copier", "one", "two", "three")
    predict(built, "copier", "one", "two", "--param", "word=b")
    predict(built, "copier/batch", "one", "two")
    return (built.store / "predictions").rename(tmp_path_factory.mktemp("filled") / "predictions")


@pytest.fixture
def project(built: Project, filled: Path) -> Project:
    """The built project, with these predictions."""
    shutil.rmtree(built.store / "predictions", ignore_errors=True)
    shutil.copytree(filled, built.store / "predictions")
    return built


def lines(*texts: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def predict(project: Project, name: str, *texts: str) -> str:
    options = texts[texts.index("--param") :] if "--param" in texts else ()
    given = lines(*texts[: len(texts) - len(options)])
    return project.call("predict", name, *IO, *options, stdin=given).out


def explain(project: Project, name: str, *texts: str, more: tuple[str, ...] = ()) -> list[Any]:
    ended = project.call("cache", "explain", name, "--input", "-", "--json", *more, stdin=lines(*texts))
    found: list[Any] = ended.json["records"]
    return found


def forge(project: Project, old: bytes, new: bytes) -> None:
    """Change an output as whoever can seal would: only computing it again shows it."""
    with PredictionCache.open(project.store) as cache:
        (making,) = (one for one in cache.makings() if one.parts["parameters"] == {"word": "a"})
        for row in cache.rows(making=making.number):
            found = cache.get(row.key)
            assert found is not None
            if old in found.output:
                pairs = [(row.key, found.output.replace(old, new))]
                cache.put_many(pairs, found.provenance, tag=row.tag, replace=True, making=making.body)


def test_stats_say_what_is_kept_and_what_it_saved(project: Project) -> None:
    predict(project, "copier", "one", "two")
    said = project.call("cache", "stats", "--json").json
    assert (said["schema"], said["predictions"], said["limit"]) == (1, 6, None)
    batch, default = said["predictors"]
    assert (default["name"], default["predictions"], default["ways"], default["hits"]) == (
        "copier/default",
        5,
        2,
        2,
    )
    assert (batch["name"], batch["predictions"], batch["computed"]) == ("copier/batch", 1, 2)
    assert 0 < default["saved_seconds"] < default["computed_seconds"]
    shown = project.call("cache", "stats").out
    assert "copier/default  5 predictions" in shown and "no limit" in shown


def test_explain_names_the_part_of_the_key_that_differs(project: Project) -> None:
    cached, new = explain(project, "copier", "one", "new")
    assert cached["cached"] and cached["provenance"]["engine"] == "sandbox"
    assert len(cached["key"]) == 64
    assert not new["cached"] and new["where"] == "line 2 of standard input"
    (other,) = explain(project, "copier", "three", more=("--param", "word=b"))
    assert other["nearest"]["has_record"]
    assert other["nearest"]["differences"] == [{"path": "parameters.word", "before": "a", "after": "b"}]
    shown = project.call("cache", "explain", "copier", "--input", "-", stdin=lines("one", "new"))
    assert "line 1 of standard input: cached" in shown.out and "an item" in shown.out
    assert "line 2 of standard input: not cached" in shown.out
    assert "a new record: others were predicted just so" in shown.out
    assert "copier/default: 1 of 2 records cached" in shown.err


def test_explain_says_that_nothing_is_remembered_without_a_seed(project: Project) -> None:
    predict(project, "copier/random", "one", "--param", "seed=0")
    asked = ("cache", "explain", "copier/random", "--input", "-")
    ended = project.call(*asked, stdin=lines("one"))
    assert "seed: 0 → none given" in ended.out
    assert "note: copier/random samples, and no seed is given: nothing is remembered so" in ended.err
    assert project.call(*asked, "--json", stdin=lines("one")).json["remembered"] is False
    ended = project.call(*asked, "--param", "seed=0", stdin=lines("one"))
    assert ": cached" in ended.out and "no seed" not in ended.err


def test_explain_reads_records_as_predict_does(project: Project) -> None:
    csv = ("--format", "csv", "--map", "text=article")
    ended = project.call(
        "cache", "explain", "copier", "--input", "-", *csv, stdin="n,article\n1,two\n2,four\n"
    )
    assert "record 1 of standard input: cached" in ended.out
    assert "record 2 of standard input: not cached" in ended.out


def test_explain_names_the_image_that_a_prediction_was_made_with(project: Project) -> None:
    lock = project.lock.read_bytes()
    tag = project.call("realize", "copier", "--json").json["tag"]
    options = ("--set", "extra=echo more > /opt")
    try:
        project.call("lock", "copier", *options)
        ended = project.call("cache", "explain", "copier", "--input", "-", *options, stdin=lines("one"))
        other = project.call("realize", "copier", "--json", *options).json["tag"]
    finally:
        project.lock.write_bytes(lock)
    assert f"image: {tag} → {other}" in ended.out
    assert "the same record is kept, made otherwise" in ended.out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        pytest.param(("cache", "explian"), 2, "did you mean explain?", id="no such action"),
        pytest.param(("cache", "explain", "copier"), 2, "missing option '--input'", id="no input"),
        pytest.param(
            ("cache", "explain", "copier", "--input", "none"), 2, "none can't be read", id="no file"
        ),
        pytest.param(
            ("cache", "explain", "copier", "--input", "recipes"), 2, "is no saved dataset", id="folder"
        ),
        pytest.param(
            ("cache", "explain", "copier", "--input", "reprobuild.toml", "--param", "x=1"), 2, "x", id="param"
        ),
        pytest.param(("cache", "clear"), 2, "what is to be forgotten?", id="clear what"),
        pytest.param(("cache", "clear", "copier", "--all"), 2, "exclude each other", id="clear all of"),
        pytest.param(("cache", "clear", "copyer"), 2, "did you mean copier?", id="clear a slip"),
        pytest.param(("cache", "clear", "--older-than", "x"), 2, "no age", id="age"),
        pytest.param(("cache", "export", "--to", "/none/x"), 5, "can't be written", id="export"),
        pytest.param(("cache", "import", "recipes"), 5, "can't be read", id="import a folder"),
        pytest.param(("cache", "import", "reprobuild.toml"), 4, "cut off", id="import nothing"),
        pytest.param(("audit", "--predictions", "0"), 2, "--predictions", id="no sample"),
        pytest.param(("audit", "--predictions", "1", "--all"), 2, "stand alone", id="sample and all"),
        pytest.param(("audit", "--purity"), 2, "which predictors?", id="purity of nothing"),
        pytest.param(("audit", "--purity", "copier/batch"), 2, "no examples", id="no examples"),
        pytest.param(
            ("audit", "--purity", "copier/batch", "--input", "reprobuild.toml"), 2, "scope batch", id="scope"
        ),
        pytest.param(("audit", "--input", "x"), 2, "is for --purity", id="input for nothing"),
        pytest.param(("audit", "--param", "x=1"), 2, "is for --purity", id="param for nothing"),
        pytest.param(
            ("audit", "--purity", "copier", "--param", "word=b"), 2, "go with --input", id="param of examples"
        ),
        pytest.param(
            ("audit", "--purity", "copier", "--input", "reprobuild.toml", "--param", "x=1"),
            2,
            "no parameter",
            id="param unknown",
        ),
        pytest.param(
            ("cache", "explain", "copier", "--input", "reprobuild.toml", "--map", "x=y"),
            2,
            "x is no field of the predictor",
            id="map unknown",
        ),
        pytest.param(
            ("cache", "explain", "copier", "--input", "reprobuild.toml", "--format", "odt"),
            2,
            "odt",
            id="format unknown",
        ),
    ],
)
def test_wrong_use_is_said(project: Project, arguments: tuple[str, ...], code: int, told: str) -> None:
    ended = project.call(*arguments, check=False)
    assert (ended.code, told in ended.err) == (code, True), ended.err


def test_verify_finds_damage_and_repairs(project: Project) -> None:
    assert "6 predictions checked: nothing amiss" in project.call("cache", "verify").err
    with PredictionCache.open(project.store) as cache, cache.connected() as connection:
        connection.execute("UPDATE Cache SET value = x'00' WHERE rowid = 1")
    ended = project.call("cache", "verify", "--json", check=False)
    assert (ended.code, len(ended.json["findings"])) == (4, 1)
    assert project.call("cache", "verify", "--repair").code == 0
    assert project.call("cache", "verify", "--json").json["predictions"] == 5


def test_a_cache_that_is_no_database_says_how_to_go_on(project: Project) -> None:
    path = project.store / "predictions" / "cache.db"
    path.write_bytes(b"no database at all" * 1000)
    ended = project.call("predict", "copier", *IO, stdin=lines("one"), check=False)
    assert (ended.code, ended.out) == (4, "")
    assert "predict --cache off" in ended.err and f"rm -r {path.parent} begins anew" in ended.err
    ended = project.call("predict", "copier", *IO, "--cache", "off", stdin=lines("one"))
    assert ended.out == '{"text":"one"}\n'
    shutil.rmtree(path.parent)
    assert project.call("predict", "copier", *IO, stdin=lines("one")).out == '{"text":"one"}\n'


def test_verify_says_damage_of_the_database_once(project: Project) -> None:
    predict(project, "copier", *(f"{number} {'x' * 1000}" for number in range(300)))
    path = project.store / "predictions" / "cache.db"
    data = bytearray(path.read_bytes())
    data[4096 * 12 : -4096 * 4] = b"\xaa" * (len(data) - 4096 * 16)
    path.write_bytes(data)
    ended = project.call("cache", "verify", check=False)
    assert ended.code == 4
    told, hint = ended.out.splitlines()
    assert told.startswith(f"{path}: the database is damaged: SQLite's own check finds ")
    assert told.endswith(" faults in it (--json has them all)") and "--cache off" in hint
    (finding,) = project.call("cache", "verify", "--json", check=False).json["findings"]
    assert f"finds {len(finding['details'])} " in finding["problem"]


def test_clear_forgets_what_is_named(project: Project) -> None:
    assert "1 prediction would go" in project.call("cache", "clear", "copier/batch", "--dry-run").out
    assert project.call("cache", "clear", "copier/batch", "--json").json["predictions"] == 1
    assert project.call("cache", "clear", "--older-than", "1h", "--json").json["predictions"] == 0
    assert project.call("cache", "clear", "--all", "--json").json["predictions"] == 5
    assert "0 predictions" in project.call("cache", "stats").out


def test_predictions_travel_to_another_store(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "cache.gz"
    said = project.call(
        "cache", "export", "copier/default", "--to", str(path), "--with-inputs", "--json"
    ).json
    assert (said["predictions"], said["left_out"]) == (5, 0)
    there = Project(project.folder, tmp_path / "there", {"REPROBUILD_OFFLINE": "1"})
    shutil.copytree(project.store, there.store, ignore=shutil.ignore_patterns("predictions"))
    assert there.call("cache", "import", str(path), "--json").json["files"][0]["new"] == 5
    ended = there.call("predict", "copier", *IO, stdin=lines("one", "two", "three"))
    assert "3 from the cache, 0 computed" in ended.err
    assert "5 predictions computed again: 5 equal" in there.call("audit", "--predictions", "9").err
    (one,) = explain(there, "copier", "one")
    assert one["provenance"]["audited"] is False


def test_gc_prints_the_limit_and_enforces_it(project: Project) -> None:
    assert "no limit (setting cache_limit)" in project.call("gc").out
    predict(project, "copier", *(f"{number} {'x' * 1000}" for number in range(500)))
    size = project.call("cache", "stats", "--json").json["size"]
    limited = Project(project.folder, project.store, {"REPROBUILD_CACHE_LIMIT": "300kB"})
    assert "limit 300.0 kB: reprobuild gc enforces it" in limited.call("cache", "stats").out
    planned = limited.call("gc", "--dry-run", "--json").json["predictions"]
    assert (planned["limit"], planned["size"]) == (300_000, size)
    assert planned["gone"] > 100
    gone = limited.call("gc", "--json").json["predictions"]
    assert gone["gone"] >= planned["gone"] and gone["size"] <= 300_000
    assert limited.call("gc", "--json").json["predictions"]["gone"] == 0
    assert project.call("cache", "verify").code == 0
    wrong = Project(project.folder, project.store, {"REPROBUILD_CACHE_LIMIT": "much"})
    assert "the setting cache_limit: 'much' is no size" in wrong.call("gc", check=False).err


def test_a_sample_is_computed_again_and_compared(project: Project) -> None:
    said = project.call("audit", "--predictions", "3", "--json").json
    assert (said["sampled"], said["equal"], said["findings"]) == (3, 3, [])
    forge(project, b'"two"', b'"2"')
    assert project.call("cache", "verify").code == 0
    ended = project.call("audit", "copier/default", "--predictions", "100", check=False)
    assert ended.code == 4
    assert "of copier/default: text is 'two', and kept is '2'" in ended.out
    assert "5 predictions computed again: 4 equal, 1 differ" in ended.err


def test_purity_shuffles_and_rebatches(project: Project, tmp_path: Path) -> None:
    assert (
        "copier/default: 2 records, 6 runs: each output as it was"
        in project.call("audit", "--purity", "copier").err
    )
    records = tmp_path / "records.jsonl"
    records.write_text(lines("one", "two", "three"))
    said = project.call("audit", "--purity", "copier", "--input", str(records), "--json").json
    assert [(one["records"], one["findings"]) for one in said["predictors"]] == [(3, [])]
    ended = project.call("audit", "--purity", "copier/backwards", "--input", str(records), check=False)
    assert ended.code == 4
    assert f"copier/backwards, line 1 of {records}: " in ended.out


@pytest.mark.parametrize(("word", "code"), [("a", 0), ("b", 4)])
def test_purity_with_parameters_and_another_form(
    project: Project, tmp_path: Path, word: str, code: int
) -> None:
    records = tmp_path / "records.txt"
    records.write_text("id,article\n1,one\n2,two\n3,three\n")
    given = ("--input", str(records), "--format", "csv", "--map", "text=article", "--param", f"word={word}")
    assert project.call("audit", "--purity", "copier/either", *given, check=False).code == code
