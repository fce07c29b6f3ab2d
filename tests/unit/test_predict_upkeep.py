"""Looking after the cache: what is kept of whom, what goes and in which order, export and import, explanations."""

# ruff: noqa: E501 -- a table has one case a line

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reprobuild.canonical import canonical
from reprobuild.derivation.predictors import predictor
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, OutsideError
from reprobuild.events import ignore
from reprobuild.predict import bulk
from reprobuild.predict.audit import audit_predictions
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.call import Options
from reprobuild.predict.explain import Explained, Explainer
from reprobuild.predict.files import predict_file
from reprobuild.predict.key import KeyMaker
from reprobuild.predict.parameters import fill_parameters
from reprobuild.predict.recompute import recompute
from reprobuild.predict.target import Target
from reprobuild.predict.upkeep import clear, enforce, summaries
from reprobuild.publish.predictions import export_cache, import_cache
from reprobuild.value import replace
from tests.host_engine import HostEngine, make_target, reverser

CPU = "cpu:x86_64"


class Bench:
    """A target whose commands run on the host, and its cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = HostEngine()
        self.target = make_target(
            folder,
            self.engine,
            default=reverser(parameters={"word": "a", "n": 1}),
            whole=reverser("batch"),
        )

    def predict(self, *texts: str, name: str = "default", target: Target | None = None, **more: Any) -> None:
        (self.folder / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        source, destination = self.folder / "in.jsonl", self.folder / "out.jsonl"
        predict_file(
            target or self.target, name, str(source), str(destination), options=Options(parameters=more)
        )

    def open(self) -> PredictionCache:
        return PredictionCache.open(self.target.store)

    def explain(
        self, *texts: str, name: str = "default", target: Target | None = None, **more: Any
    ) -> list[Explained]:
        target = target or self.target
        one = target.predictor(name)
        keys = KeyMaker(target.run_id, one, fill_parameters(one, more), CPU)
        with self.open() as cache:
            explainer = Explainer(cache, keys, one, f"tutorial/{name}")
            return list(explainer.explain([[canonical({"text": text}) for text in texts]]))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_what_is_kept_is_summed_up_by_predictor(bench: Bench) -> None:
    bench.predict("abc", "def")
    bench.predict("abc", "def")
    bench.predict("abc", word="b")
    bench.predict("abc", "xyz", name="whole")
    with bench.open() as cache:
        first, second = summaries(cache)
    assert (first.name, first.predictions, first.makings) == ("tutorial/default", 3, 2)
    assert (first.computed, first.hits) == (3, 2)
    assert 0 < first.saved < first.seconds
    assert first.oldest <= first.newest <= time.time()
    assert (second.name, second.predictions, second.computed, second.hits) == ("tutorial/whole", 1, 2, 0)


def test_a_record_is_explained_by_what_is_kept(bench: Bench) -> None:
    (nothing,) = bench.explain("abc")
    assert (nothing.is_cached, nothing.nearest) == (False, None)
    bench.predict("abc", "def")
    cached, new = bench.explain("abc", "new")
    assert cached.is_cached and cached.provenance["engine"] == "host" and cached.provenance["tool"]
    assert not new.is_cached
    (other,) = bench.explain("abc", word="b", n=2)
    assert other.has_record and not other.is_cached
    assert [(one.path, one.before, one.after) for one in other.differences] == [
        ("parameters.n", 1, 2),
        ("parameters.word", "a", "b"),
    ]
    (unseen,) = bench.explain("unseen", word="b")
    assert not unseen.has_record
    assert [one.path for one in unseen.differences] == ["parameters.word"]


def test_of_several_ways_the_nearest_that_has_the_record_is_named(bench: Bench) -> None:
    bench.predict("abc", word="far", n=9)
    bench.predict("other", word="near")
    (one,) = bench.explain("abc")
    assert one.has_record and [part.path for part in one.differences] == ["parameters.n", "parameters.word"]
    image = replace(bench.target, run_id=Digest.of(b"another image"))
    bench.predict("abc", target=image)
    (one,) = bench.explain("abc")
    assert [part.path for part in one.differences] == ["run_id"]
    assert one.differences[0].before == str(image.run_id)


def test_a_call_of_batch_scope_is_explained_as_one(bench: Bench) -> None:
    bench.predict("abc", "def", name="whole")
    (same,) = bench.explain("abc", "def", name="whole")
    assert (same.is_cached, same.count) == (True, 2)
    (other,) = bench.explain("def", "abc", name="whole")
    assert not other.is_cached and not other.differences
    image = replace(bench.target, run_id=Digest.of(b"another image"))
    (moved,) = bench.explain("abc", "def", name="whole", target=image)
    assert moved.has_record and [part.path for part in moved.differences] == ["run_id"]


def test_what_is_damaged_is_explained_as_that(bench: Bench) -> None:
    bench.predict("abc")
    with bench.open() as cache, cache.connected() as connection:
        connection.execute("UPDATE Cache SET value = x'00'")
    (one,) = bench.explain("abc")
    assert (one.is_cached, one.is_damaged) == (False, True)


def test_clear_takes_what_is_named_and_nothing_else(bench: Bench) -> None:
    bench.predict("abc", "def")
    bench.predict("abc", name="whole")
    with bench.open() as cache:
        assert clear(cache, ["tutorial/whole"], dry_run=True).predictions == 1
        assert cache.stats().predictions == 3
        assert clear(cache, ["tutorial/whole"]).predictions == 1
        assert clear(cache, ["tutori", "utorial", "tutorial/"]).predictions == 0
        assert [one.tag for one in cache.makings()] == ["tutorial/default"]
        assert clear(cache, before=time.time() - 3600).predictions == 0
        with cache.connected() as connection:
            connection.execute("UPDATE Cache SET store_time = store_time - 7200 WHERE rowid = 1")
        assert clear(cache, ["tutorial"], before=time.time() - 3600).predictions == 1
        assert clear(cache, ["tutorial"]).predictions == 1
        assert (cache.makings(), list(cache.inputs())) == ([], [])
    bench.predict("abc")
    assert len(bench.engine.commands) == 3


def put(cache: PredictionCache, making: bytes, first: int, count: int, size: int) -> None:
    pairs = [
        (hashlib.sha256(b"%b %d" % (making, number)).digest(), b'"' + b"x" * size + b'"\n')
        for number in range(first, first + count)
    ]
    cache.put_many(pairs, b"{}", tag="t/default", making=making)


def test_the_limit_takes_what_was_not_used_for_longest_and_then_the_oldest(tmp_path: Path) -> None:
    idle, used = canonical({"n": 1}), canonical({"n": 2})
    with PredictionCache.open(tmp_path) as cache:
        put(cache, idle, 0, 1000, 1000)
        put(cache, used, 0, 1000, 1000)
        put(cache, idle, 5000, 20, bulk.LARGEST_ROW)
        with cache.connected() as connection:
            connection.execute("UPDATE Making SET used = 1000 WHERE number = 1")
            connection.execute("UPDATE Cache SET store_time = 1 WHERE rowid <= 500")
        before = cache.stats()
        assert enforce(cache, before.size).predictions == 0
        planned = enforce(cache, before.size - 400_000, dry_run=True)
        assert 300 < planned.predictions < 450
        assert cache.stats() == before
        done = enforce(cache, before.size - 400_000)
        assert planned.predictions <= done.predictions < 500
        assert cache.stats().size <= before.size - 400_000
        first, second = cache.makings()
        left = {row.key for row in cache.rows(making=first.number)}
        assert len(left) == 1020 - done.predictions, "the oldest of the idle making went first"
        assert len(list(cache.rows(making=second.number))) == 1000
        enforce(cache, 1_700_000)
        assert cache.stats().size <= 1_700_000
        assert len(list(cache.rows(making=second.number))) == 1000
        assert not list(cache.folder.glob("??/??/*.val"))
        enforce(cache, 1)
        assert (cache.stats().predictions, cache.makings()) == (0, [])
        assert audit_predictions(cache).findings == ()


def test_damaged_makings_and_inputs_are_found_and_forgotten(bench: Bench) -> None:
    bench.predict("abc", "def")
    with bench.open() as cache, cache.connected() as connection:
        assert audit_predictions(cache).findings == ()
        connection.execute("UPDATE Input SET record = x'7b7d' WHERE key = (SELECT min(key) FROM Input)")
        (finding,) = audit_predictions(cache, repair=True).findings
        assert "input of tutorial/default" in finding.where and finding.can_be_forgotten
        assert audit_predictions(cache).findings == ()
        connection.execute("UPDATE Making SET body = x'7b7d'")
        (finding,) = audit_predictions(cache, repair=True).findings
        assert "were made with" in finding.where
        assert audit_predictions(cache).findings == ()
        assert (cache.makings(), list(cache.inputs()), cache.stats().predictions) == ([], [], 2)


# One file for other machines.


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench with five predictions, which tests only read."""
    bench = Bench(tmp_path_factory.mktemp("full"))
    bench.predict("abc", "d\ne\0f", "ü" * 200_000)
    bench.predict("abc", word="b")
    bench.predict("abc", "xyz", name="whole")
    return bench


@pytest.fixture(scope="module")
def exported(full: Bench) -> Path:
    path = full.folder / "cache.gz"
    with full.open() as cache:
        done = export_cache(cache, path, with_inputs=True)
    assert (done.predictions, done.left_out, done.size) == (5, 0, path.stat().st_size)
    return path


def test_a_cache_travels_as_one_file(exported: Path, tmp_path: Path) -> None:
    there = Bench(tmp_path)
    with there.open() as cache:
        taken = import_cache(cache, exported)
        assert (taken.predictions, taken.new) == (5, 5)
        before = [(one.computed, one.seconds) for one in summaries(cache)]
        assert before[0][0] == 4 and before[1][0] == 2
        assert import_cache(cache, exported).new == 0
        assert [(one.computed, one.seconds) for one in summaries(cache)] == before
        assert audit_predictions(cache).findings == ()
        assert len(list(cache.inputs())) == 5
        for row in cache.rows():
            assert row.value is not None or row.filename is not None
        again = there.folder / "again.gz"
        assert export_cache(cache, again, ["tutorial/whole"]).predictions == 1
    there.predict("abc", "d\ne\0f", "ü" * 200_000)
    there.predict("abc", "xyz", name="whole")
    assert not there.engine.commands
    (one,) = there.explain("abc")
    said = one.provenance["imported"]
    assert one.provenance["audited"] is False
    assert said["from"].startswith("sha256:") and said["provenance"]["engine"] == "host"
    (other,) = there.explain("abc", word="c")
    assert other.has_record


def test_the_same_cache_is_the_same_file_and_inputs_stay_at_home_unless_asked(
    full: Bench, exported: Path
) -> None:
    with full.open() as cache:
        first, second = full.folder / "1.gz", full.folder / "2.gz"
        export_cache(cache, first)
        export_cache(cache, second)
    assert first.read_bytes() == second.read_bytes()
    assert b'"input"' not in gzip.decompress(first.read_bytes())
    with PredictionCache.open(full.folder / "without") as cache:
        assert import_cache(cache, first).new == 5
        assert (list(cache.inputs()), audit_predictions(cache).findings) == ([], ())
    assert b'"input":{"text":"abc"}' in gzip.decompress(exported.read_bytes())


def test_what_is_there_stays(full: Bench, exported: Path) -> None:
    with full.open() as cache:
        before = {row.key: row.value for row in cache.rows()}
        assert import_cache(cache, exported).new == 0
        assert {row.key: row.value for row in cache.rows()} == before


def test_damaged_predictions_are_left_out_of_an_export(bench: Bench) -> None:
    bench.predict("abc", "def")
    with bench.open() as cache:
        with cache.connected() as connection:
            connection.execute("UPDATE Cache SET value = x'00' WHERE rowid = 1")
        done = export_cache(cache, bench.folder / "x.gz")
    assert (done.predictions, done.left_out) == (1, 1)


def with_end(text: bytes) -> bytes:
    """Give lines a last one that fits them, as somebody who means harm would."""
    lines = text.split(b"\n")[:-2]
    body = b"".join(line + b"\n" for line in lines)
    count = sum(not line.startswith(b'{"making":') for line in lines)
    return body + b'{"predictions":%d,"sha256":"%b"}\n' % (count, hashlib.sha256(body).hexdigest().encode())


CHANGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a byte": (lambda text: text.replace(b'"cba"', b'"abc"', 1), "changed"),
    "no end": (lambda text: text[: text.rindex(b'{"predictions"')], "cut off"),
    "half a line": (lambda text: text[:-10], "cut off"),
    "empty": (lambda text: b"", "cut off"),
    "more after the end": (lambda text: text + text, "after the end"),
    "a line less": (lambda text: b"\n".join([*text.split(b"\n")[:1], *text.split(b"\n")[2:]]), "changed"),
    "no head": (lambda text: with_end(text.partition(b"\n")[2]), "is not said before it"),
    "an output of another type": (lambda text: with_end(text.replace(b'"cba"', b"5", 1)), "where a text is needed"),
    "another input": (lambda text: with_end(text.replace(b'{"text":"abc"}', b'{"text":"abd"}', 1)), "its input"),
    "another key": (lambda text: with_end(text.replace(b'"key":"', b'"key":"zz', 1)), "line"),
    "two outputs": (lambda text: with_end(text.replace(b'[{"output":"cba"}]', b'[{"output":"cba"},{"output":"cba"}]', 1)), "2 outputs"),
    "no outputs": (lambda text: with_end(text.replace(b'[{"output":"cba"}]', b"[]", 1)), "0 outputs"),
    "another name": (lambda text: with_end(text.replace(b'"tag":"tutorial/default"', b'"tag":"../x/default"')), "names no predictor"),
    "another scope": (lambda text: with_end(text.replace(b'"scope":"item"', b'"scope":"some"')), "makes no sense"),
    "spaces": (lambda text: with_end(text.replace(b'"outputs":[', b'"outputs": [', 1)), "canonical"),
    "deep": (lambda text: with_end(text.replace(b'"cba"', b"[" * 5000 + b"]" * 5000, 1)), "line"),
    "no JSON": (lambda text: with_end(text.replace(b"\n", b"\nnonsense\n", 1)), "line 2 .* no JSON"),
    "no predictions": (lambda text: b'{"text":"abc"}\n', "holds no predictions that reprobuild wrote"),
    "nonsense": (lambda text: b"nonsense\n", "holds no predictions that reprobuild wrote"),
    "a list": (lambda text: with_end(text.replace(b"\n", b"\n[]\n", 1)), "line 2 .* other types"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_a_file_that_was_changed_is_refused_whole(exported: Path, tmp_path: Path, case: str) -> None:
    change, told = CHANGES[case]
    text = gzip.decompress(exported.read_bytes())
    changed = change(text)
    assert changed != text
    path = tmp_path / "changed.gz"
    path.write_bytes(gzip.compress(changed))
    with PredictionCache.open(tmp_path / "other") as cache:
        with pytest.raises(CheckFailedError, match=told) as caught:
            import_cache(cache, path)
        assert "cache export" in caught.value.hint
        assert cache.stats().predictions == 0


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused(exported: Path, tmp_path: Path, share: float) -> None:
    data = exported.read_bytes()
    path = tmp_path / "cut.gz"
    path.write_bytes(data[: int(len(data) * share)])
    with PredictionCache.open(tmp_path / "other") as cache:
        with pytest.raises(CheckFailedError):
            import_cache(cache, path)
        assert cache.stats().predictions == 0


def test_paths_that_can_not_be_used(bench: Bench) -> None:
    with bench.open() as cache:
        for wrong in (bench.folder / "none.gz", bench.folder):
            with pytest.raises(OutsideError, match="can't be read") as caught:
                import_cache(cache, wrong)
            assert "cache export" in caught.value.hint
        with pytest.raises(OutsideError, match="can't be written"):
            export_cache(cache, bench.folder / "no" / "x.gz")
        with pytest.raises(OutsideError, match="can't be written"):
            export_cache(cache, bench.folder)
    assert not list(bench.folder.rglob("*.part"))


CORPUS = (
    'python3 -c "import json, sys\n'
    "texts = [json.loads(line)['text'] for line in open(sys.argv[1])]\n"
    "for text in texts: print(json.dumps({'output': len(text)}))\n"
    "print(json.dumps({'_macro': {'longest': max(map(len, texts))}}))"
    '" {input} > {output}'
)


def test_what_a_metric_says_of_all_records_travels_and_comes_out_again(tmp_path: Path) -> None:
    metric = predictor(CORPUS, inputs={"text": str}, outputs={"output": int}, macro="corpus")
    bench = Bench(tmp_path)
    target = replace(bench.target, predictors={"default": metric})
    bench.predict("a", "bbb", target=target)
    path = tmp_path / "x.gz"
    with bench.open() as cache:
        assert export_cache(cache, path, with_inputs=True).predictions == 1
        done = recompute(cache, 9, lambda making: target, ignore)
        assert (done.sampled, done.equal, done.skipped) == (1, 1, {})
        before = {row.key: cache.get(row.key) for row in cache.rows()}
    with PredictionCache.open(tmp_path / "there") as cache:
        assert import_cache(cache, path).new == 1
        for key, kept in before.items():
            found = cache.get(key)
            assert kept is not None and found is not None and kept.output == found.output
            assert found.output.endswith(b'{"_macro":{"longest":3}}\n')
