"""Audits that put predictors to the test: a sample computed again, records in other orders and batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reprobuild.canonical import canonical
from reprobuild.derivation.predictors import File, Predictor, predictor
from reprobuild.errors import PredictionFailedError, UsageError
from reprobuild.events import ignore
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.call import Options
from reprobuild.predict.files import predict_file
from reprobuild.predict.purity import Purity, arrangements, check_purity
from reprobuild.predict.recompute import Recomputed, recompute
from reprobuild.predict.sealed import facts_of, imported
from reprobuild.predict.target import Target
from reprobuild.value import replace
from tests.host_engine import REVERSE, HostEngine, make_target, reverser

TEXT: dict[str, Any] = {"inputs": {"text": str}, "outputs": {"output": float}}


def scaled(folder: Path, **more: Any) -> Predictor:
    """Make a predictor whose outputs change with a file: lengths of texts times what is in there."""
    program = (
        f"import json, sys; factor = float(open('{folder}/factor').read())\n"
        "for line in open(sys.argv[1]): print(json.dumps({'output': factor * len(json.loads(line)['text'])}))"
    )
    return predictor(f'python3 -c "{program}" {{input}} > {{output}}', **{**TEXT, "scope": "item", **more})


class Bench:
    """A target whose outputs can be made to change behind the cache's back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = HostEngine()
        self.factor(1.0)
        predictors = {
            "default": scaled(folder),
            "whole": scaled(folder, scope="batch", parameters={"n": 1}),
            "tolerant": scaled(folder, tolerance=0.01, parameters={"m": 1}),
        }
        self.target = make_target(folder, self.engine, **predictors)

    def factor(self, factor: float) -> None:
        (self.folder / "factor").write_text(str(factor))

    def predict(self, *texts: str, name: str = "default") -> None:
        source, destination = self.folder / "in.jsonl", self.folder / "out.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        predict_file(self.target, name, str(source), str(destination), options=Options())

    def recompute(self, count: int = 100, target: Target | None = None, **more: Any) -> Recomputed:
        with PredictionCache.open(self.target.store) as cache:
            return recompute(cache, count, lambda making: target or self.target, ignore, **more)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_predictions_that_come_out_again_are_equal(bench: Bench) -> None:
    bench.predict("a", "bb", "ccc")
    bench.predict("a", "bb", name="whole")
    done = bench.recompute()
    assert (done.sampled, done.equal, done.close, done.differing, done.skipped) == (4, 4, 0, (), {})
    assert bench.recompute(2).sampled == 2
    assert bench.recompute(chosen=lambda tag: tag == "tutorial/whole").sampled == 1


def test_predictions_that_do_not_come_out_again_are_named(bench: Bench) -> None:
    bench.predict("a", "bb")
    bench.predict("a", "bb", name="whole")
    bench.predict("a", "bb", name="tolerant")
    bench.factor(1.001)
    done = bench.recompute()
    assert (done.sampled, done.equal, done.close) == (5, 0, 2)
    assert {(one.tag, one.problem) for one in done.differing} == {
        ("tutorial/default", "output is 1.001, and kept is 1"),
        ("tutorial/default", "output is 2.002, and kept is 2"),
        ("tutorial/whole", "record 0: output is 1.001, and kept is 1"),
    }
    bench.factor(2)
    assert {one.tag for one in bench.recompute().differing} >= {"tutorial/tolerant"}
    with PredictionCache.open(bench.target.store) as cache:
        assert cache.stats().predictions == 5, "nothing is replaced"


def test_other_hardware_is_named(bench: Bench) -> None:
    bench.predict("a")
    with PredictionCache.open(bench.target.store) as cache:
        (row,) = cache.rows()
        (making,) = cache.makings()
        said = imported({"cpu": "x86-64-v9", "making": "0" * 16}, "sha256:1", "0" * 12)
        cache.put_many([(row.key, b'{"output":7}\n')], said, tag=row.tag, replace=True, making=making.body)
    (one,) = bench.recompute().differing
    assert one.problem.startswith("output is 1, and kept is 7 (made on other hardware: x86-64-v9; this is ")


def test_what_can_not_be_run_here_is_skipped_with_its_reason(bench: Bench) -> None:
    bench.predict("a")
    with PredictionCache.open(bench.target.store) as cache:
        assert list(recompute(cache, 1, lambda making: None, ignore).skipped.values()) == [
            "its image is not in the store"
        ]
    other = replace(bench.target, predictors={"default": reverser()})
    done = bench.recompute(target=other)
    assert (done.sampled, list(done.skipped.values())) == (0, ["its predictor is another one today"])
    with PredictionCache.open(bench.target.store) as cache, cache.connected() as connection:
        connection.execute("UPDATE Making SET body = x'7b7d'")
    assert list(bench.recompute().skipped.values()) == ["what it was made with is damaged"]


def test_a_command_that_fails_today_is_a_finding(bench: Bench) -> None:
    bench.predict("a")
    (bench.folder / "factor").unlink()
    (one,) = bench.recompute().differing
    assert "ended with exit code 1" in one.problem


def check(folder: Path, made: Predictor, *texts: str) -> tuple[Purity, HostEngine]:
    engine = HostEngine()
    target = make_target(folder, engine, default=made)
    records = [canonical({"text": text}) for text in texts]
    label = "line {}".format
    found = check_purity(
        target, "default", records, lambda n: label(n + 1), parameters={}, device="cpu", tell=ignore
    )
    return found, engine


def lines(expression: str, **more: Any) -> Predictor:
    """Make a predictor with an expression over ``texts``, all of them, ``n``, a place, and ``text``."""
    program = (
        "import json, sys; texts = [json.loads(line)['text'] for line in open(sys.argv[1])]\n"
        f"for n, text in enumerate(texts): print(json.dumps({{'output': {expression}}}))"
    )
    return predictor(f'python3 -c "{program}" {{input}} > {{output}}', **{**TEXT, "scope": "item", **more})


def test_a_predictor_that_keeps_its_promise_is_pure(tmp_path: Path) -> None:
    found, engine = check(tmp_path, lines("len(text)"), "a", "bb", "ccc", "bb", "dddd")
    assert (found.records, found.differing) == (4, ())
    assert found.runs == len(engine.inputs) == 1 + 1 + 2 + 3
    assert len({tuple(sorted(given.splitlines())) for given in engine.inputs[:2]}) == 1
    assert engine.inputs[0] != engine.inputs[1]


def test_outputs_that_depend_on_the_place_are_found(tmp_path: Path) -> None:
    found, _ = check(tmp_path, lines("n"), "a", "b", "c")
    assert found.differing
    assert found.differing[0].where == "line 1"
    assert found.differing[0].problem.startswith("output is ")


def test_outputs_that_depend_on_the_batch_are_found(tmp_path: Path) -> None:
    found, _ = check(tmp_path, lines("max(map(len, texts))"), "a", "bb", "cccc", "ddd")
    assert {one.where for one in found.differing} >= {"line 1", "line 2"}
    assert {one.arrangement for one in found.differing} <= {"in two batches", "alone"}


def test_a_tolerance_covers_small_differences_alone(tmp_path: Path) -> None:
    slightly = "1 + len(texts) / 100"
    assert check(tmp_path, lines(slightly), "a", "b")[0].differing
    assert not check(tmp_path, lines(slightly, tolerance=0.05), "a", "b")[0].differing


def test_a_batch_that_fails_is_found(tmp_path: Path) -> None:
    found, _ = check(tmp_path, lines("1 / (len(texts) - 1)"), "a", "b", "c")
    assert "it fails: " in found.differing[0].problem
    with pytest.raises(PredictionFailedError):
        check(tmp_path, lines("1 / (len(texts) - 3)"), "a", "b", "c")


def test_a_predictor_that_samples_gets_one_seed(tmp_path: Path) -> None:
    sampling = lines("int(sys.argv[2])", random=True)
    sampling = replace(sampling, command=sampling.command.replace("{input}", "{input} {seed}"))
    assert not check(tmp_path, sampling, "a", "b")[0].differing


def drawer(body: str) -> Predictor:
    """Make a predictor that samples, with a program over ``seed`` and ``lines``."""
    program = (
        "import json, random, sys\nseed, lines = int(sys.argv[1]), list(open(sys.argv[2]))\n"
        f"{body}\nfor number in drawn: print(json.dumps({{'output': number}}))"
    )
    return predictor(
        f'python3 -c "{program}" {{seed}} {{input}} > {{output}}', **TEXT, scope="item", random=True
    )


def test_a_generator_that_is_seeded_once_a_run_is_found_and_one_by_seed_and_record_passes(
    tmp_path: Path,
) -> None:
    once = "random.seed(seed); drawn = [random.random() for line in lines]"
    found, _ = check(tmp_path, drawer(once), "a", "b", "c")
    assert found.differing
    each = "drawn = [random.Random('%s %s' % (seed, line)).random() for line in lines]"
    found, _ = check(tmp_path, drawer(each), "a", "b", "c")
    assert found.differing == ()


def test_batch_scope_has_no_purity(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has the scope batch"):
        check(tmp_path, lines("1", scope="batch"), "a")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_arrangements_have_every_record_and_differ_from_the_order(count: int) -> None:
    found = dict(arrangements(count))
    assert set(found) == (
        set() if not count else {"alone"} if count == 1 else {"in another order", "in two batches", "alone"}
    )
    for name, batches in found.items():
        indexes = [index for batch in batches for index in batch]
        if name != "alone":
            assert sorted(indexes) == list(range(count))
            assert indexes != list(range(count))
        assert all(batches)


def test_inputs_with_files_are_not_kept(tmp_path: Path) -> None:
    field = {"text": str, "path": File}
    copier = predictor(REVERSE, inputs=field, outputs={"output": str}, scope="item")
    target = make_target(tmp_path, HostEngine(), default=copier)
    (tmp_path / "x.txt").write_text("x")
    (tmp_path / "in.jsonl").write_text(json.dumps({"text": "a", "path": "x.txt"}) + "\n")
    predict_file(target, "default", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    with PredictionCache.open(target.store) as cache:
        assert (cache.stats().predictions, list(cache.inputs())) == (1, [])
        (row,) = cache.rows()
        found = cache.get(row.key)
        assert found is not None and facts_of(found.provenance)["making"]
