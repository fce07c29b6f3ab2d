"""The prediction cache: bulk and diskcache see the same, nothing is lost, tampering shows."""

# ruff: noqa: E501 -- a table has one case a line

from __future__ import annotations

import hashlib
import os
import pickle
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from reprobuild.canonical import canonical
from reprobuild.errors import CheckFailedError, OutsideError
from reprobuild.predict import bulk
from reprobuild.predict.audit import audit_predictions
from reprobuild.predict.cache import PredictionCache, cache_folder
from reprobuild.predict.disk import open_diskcache
from reprobuild.predict.makings import LARGEST_INPUT
from reprobuild.predict.sealed import instruction_set, provenance, seal, unseal

ORIGIN = canonical({"device": "cpu:x86_64"})
LARGE = b'{"output":"' + b"x" * bulk.LARGEST_ROW + b'"}\n'


def key(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def output(number: int) -> bytes:
    return b'{"output":"%d"}\n' % number


@pytest.fixture
def cache(tmp_path: Path) -> PredictionCache:
    return PredictionCache.open(tmp_path / "store")


def put(cache: PredictionCache, count: int, **more: Any) -> None:
    pairs = [(key(number), output(number)) for number in range(count)]
    cache.put_many(pairs, ORIGIN, tag="tutorial/default", **more)


def alter(cache: PredictionCache, statement: str, *values: Any) -> None:
    with sqlite3.connect(cache.folder / bulk.DATABASE) as connection:
        connection.execute(statement, values)
    connection.close()


def test_what_coped_with_a_refusal_can_be_left_out(cache: PredictionCache) -> None:
    put(cache, 2)
    coped = provenance("cpu:x86_64", "sandbox", seconds=1.0, items=2, run="0" * 12, refused=3)
    cache.put_many([(key(2), output(2)), (key(3), LARGE)], coped, tag="tutorial/default")
    keys = [key(number) for number in range(5)]
    found = cache.get_many(keys)
    assert (set(found.outputs), found.coped) == (set(keys[:4]), ())
    strict = cache.get_many(keys, strict=True)
    assert (set(strict.outputs), set(strict.coped), strict.broken) == (set(keys[:2]), set(keys[2:4]), ())


def test_many_in_many_out(cache: PredictionCache) -> None:
    put(cache, 20_000)
    found = cache.get_many([key(number) for number in range(30_000)])
    assert found.outputs == {key(number): output(number) for number in range(20_000)}
    assert found.broken == ()
    assert cache.stats().predictions == 20_000


def test_diskcache_reads_what_bulk_wrote(cache: PredictionCache) -> None:
    put(cache, 10)
    cache.put_many([(key(99), LARGE)], ORIGIN, tag="tutorial/default")
    with open_diskcache(cache.folder) as plain:
        assert len(plain) == 11
        assert unseal(key(3), plain[key(3)]) == (output(3), ORIGIN)
        assert unseal(key(99), plain[key(99)]) == (LARGE, ORIGIN)
        assert plain.check() == []
        assert key(10) not in plain


def test_bulk_reads_what_diskcache_wrote(cache: PredictionCache) -> None:
    with open_diskcache(cache.folder) as plain:
        plain[key(1)] = seal(key(1), ORIGIN, output(1))
        plain[key(2)] = seal(key(2), ORIGIN, LARGE)
    assert cache.get_many([key(1), key(2)]).outputs == {key(1): output(1), key(2): LARGE}


def test_nothing_is_ever_evicted(cache: PredictionCache) -> None:
    with open_diskcache(cache.folder) as plain:
        assert (plain.eviction_policy, plain.cull_limit) == ("none", 0)
        assert plain.size_limit == 1 << 62
        assert plain.cull() == 0


def test_nothing_is_pickled(cache: PredictionCache) -> None:
    with open_diskcache(cache.folder) as plain:
        for bad_key, value in ((key(1), {"a": 1}), (key(1), "text"), ("key", b"value"), ((1, 2), b"value")):
            with pytest.raises(TypeError):
                plain[bad_key] = value
        alter(
            cache,
            "INSERT INTO Cache (key, raw, tag, mode, value) VALUES (?, 1, '', 4, ?)",
            key(5),
            pickle.dumps(print),
        )
        with pytest.raises(ValueError, match="no prediction's"):
            plain[key(5)]
    assert cache.get_many([key(5)]).broken == (key(5),)


def test_what_is_there_stays_unless_replaced(cache: PredictionCache) -> None:
    put(cache, 3)
    cache.put_many([(key(1), b"other\n")], ORIGIN, tag="t")
    assert cache.get_many([key(1)]).outputs[key(1)] == output(1)
    cache.put_many([(key(1), b"other\n"), (key(7), LARGE)], ORIGIN, tag="t", replace=True)
    assert cache.get_many([key(1)]).outputs[key(1)] == b"other\n"
    with open_diskcache(cache.folder) as plain:
        assert len(plain) == 4


def test_provenance_is_kept(cache: PredictionCache) -> None:
    origin = provenance("cpu:x86_64", "sandbox", seconds=1.23456, items=7, run="0123456789ab")
    cache.put_many([(key(1), output(1))], origin, tag="t")
    found = cache.get(key(1))
    assert found is not None
    assert (found.output, found.provenance) == (output(1), origin)
    assert b'"items":7,"run":"0123456789ab","seconds":1.235' in origin
    assert cache.get(key(2)) is None


@pytest.mark.parametrize(
    "flags, level",
    [
        ("fpu sse4_1 sse4_2 ssse3 popcnt cx16", "x86-64-v2"),
        ("avx avx2 bmi1 bmi2 f16c fma movbe", "x86-64-v3"),
        ("fpu", "x86-64-v1"),
    ],
    ids=["v2", "v3", "v1"],
)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="levels are of x86-64")
def test_instruction_set(tmp_path: Path, flags: str, level: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    assert instruction_set(str(tmp_path / "cpuinfo")) == level


TAMPERINGS = {
    "a byte of the output": "UPDATE Cache SET value = CAST(replace(CAST(value AS TEXT), 'output', 'outpux') AS BLOB)",
    "another type": "UPDATE Cache SET value = 'text'",
    "nothing": "UPDATE Cache SET value = NULL",
    "too short": "UPDATE Cache SET value = x'00'",
    "two swapped": "UPDATE Cache SET value = (SELECT other.value FROM Cache AS other WHERE other.key != Cache.key LIMIT 1)",
    "a missing file": "UPDATE Cache SET value = NULL, filename = 'aa/bb/c.val', mode = 2",
    "a file elsewhere": "UPDATE Cache SET value = NULL, filename = '../../../../etc/passwd', mode = 2",
}


@pytest.mark.parametrize("statement", TAMPERINGS.values(), ids=TAMPERINGS)
def test_tampering_is_found_at_use_and_by_audit(cache: PredictionCache, statement: str) -> None:
    put(cache, 5)
    assert audit_predictions(cache).findings == ()
    alter(cache, statement + " WHERE key = ?", key(3))
    found = cache.get_many([key(number) for number in range(5)])
    assert found.broken == (key(3),)
    assert len(found.outputs) == 4
    audit = audit_predictions(cache)
    assert audit.checked == 5
    (finding,) = audit.findings
    assert finding.where == f"prediction {key(3).hex()[:16]} of tutorial/default"
    assert audit_predictions(cache, repair=True).findings == (finding,)
    assert audit_predictions(cache).findings == ()
    assert cache.stats().predictions == 4


def test_tampered_file_of_a_large_value(cache: PredictionCache) -> None:
    cache.put_many([(key(1), LARGE)], ORIGIN, tag="t")
    (path,) = cache.folder.glob("??/??/*.val")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert cache.get_many([key(1)]).broken == (key(1),)
    assert len(audit_predictions(cache).findings) == 1


def test_damaged_database_is_said_and_never_a_traceback(cache: PredictionCache, tmp_path: Path) -> None:
    put(cache, 5000)
    cache.close()
    path = cache.folder / bulk.DATABASE
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 40] = b"\xaa" * 4096 * 37
    path.write_bytes(data)
    (finding,) = audit_predictions(cache).findings
    assert "finds 100 or more faults" in finding.problem and len(finding.details) >= 100
    assert "--cache off" in finding.hint and "is lost" in finding.hint
    cache.close()
    path.write_bytes(b"no database at all" * 1000)
    with pytest.raises(CheckFailedError, match="damaged") as caught:
        PredictionCache.open(tmp_path / "store")
    assert "--cache off" in caught.value.hint and "is lost" in caught.value.hint


def test_files_that_no_prediction_names_are_swept_when_old(cache: PredictionCache) -> None:
    put(cache, 1)
    cache.put_many([(key(8), LARGE)], ORIGIN, tag="t")
    cache.put_many([(key(8), LARGE + LARGE)], ORIGIN, tag="t", replace=True)
    assert audit_predictions(cache).findings == ()
    assert cache.sweep() == 0
    assert cache.sweep(age=-1.0) == len(seal(key(8), ORIGIN, LARGE))
    assert cache.get_many([key(8)]).outputs == {key(8): LARGE + LARGE}


def test_threads_and_forks(cache: PredictionCache) -> None:
    put(cache, 100)

    def work(number: int) -> bool:
        cache.put_many([(key(1000 + number), output(number))], ORIGIN, tag="t")
        return cache.get_many([key(number)]).outputs == {key(number): output(number)}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(100)))
    child = os.fork()
    if child == 0:
        os._exit(0 if len(cache.get_many([key(number) for number in range(100)]).outputs) == 100 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cache.stats().predictions == 200


def test_half_made_cache_is_made_whole(tmp_path: Path) -> None:
    folder = tmp_path / "predictions"
    folder.mkdir()
    connection = sqlite3.connect(folder / bulk.DATABASE)
    connection.execute("CREATE TABLE Settings (key TEXT NOT NULL UNIQUE, value)")
    connection.commit()
    connection.close()
    with PredictionCache.open(tmp_path) as cache:
        put(cache, 1)
        assert cache.stats().predictions == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_folder_that_can_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutsideError, match="can't be used"):
        PredictionCache.open(tmp_path)


def test_cache_is_in_the_store_on_local_disk(tmp_path: Path) -> None:
    assert cache_folder(tmp_path) == tmp_path / "predictions"


def test_a_database_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "predictions" / "cache.db").mkdir(parents=True)
    with pytest.raises(OutsideError) as caught:
        PredictionCache.open(tmp_path)
    assert "can't be used" in caught.value.message
    assert "rm -r" not in caught.value.hint


MAKING = canonical({"command": "cp", "scope": "item"})


def made_key(record: bytes, making: bytes = MAKING) -> bytes:
    return hashlib.sha256(making + b"\n" + record).digest()


def put_made(cache: PredictionCache, first: int, count: int, making: bytes = MAKING) -> None:
    records = [b'{"text":"%d"}' % number for number in range(first, first + count)]
    pairs = [(made_key(record, making), record + b"\n") for record in records]
    origin = provenance("cpu:x86_64", "sandbox", seconds=2.0, items=count, run="0" * 12, making=making)
    cache.put_many(pairs, origin, tag="tutorial/default", making=making, records=records)


def test_what_predictions_were_made_with_is_kept_once(cache: PredictionCache) -> None:
    other = canonical({"command": "mv", "scope": "item"})
    put_made(cache, 0, 10)
    put_made(cache, 10, 10)
    put_made(cache, 0, 5, other)
    first, second = cache.makings()
    assert (first.body, first.parts["command"], first.items, first.seconds) == (MAKING, "cp", 20, 4.0)
    assert (second.body, second.items, second.pace) == (other, 5, 0.4)
    assert cache.pace(MAKING) == 0.2
    assert cache.pace(b"{}") is None
    assert len(list(cache.rows(making=first.number))) == 20
    found = cache.get(made_key(b'{"text":"3"}'))
    assert found is not None
    assert b'"making":"%b"' % hashlib.sha256(MAKING).hexdigest()[:16].encode() in found.provenance


def test_a_sample_of_inputs_is_kept_and_fits_its_keys(cache: PredictionCache) -> None:
    put_made(cache, 0, 100)
    (making,) = cache.makings()
    assert len(list(cache.inputs(making.number))) == 100
    put_made(cache, 100, 9900)
    kept = list(cache.inputs())
    assert 256 + 400 < len(kept) < 256 + 800
    assert all(making.key_of(one.record) == one.key for one in kept)
    large = b'{"text":"' + b"x" * LARGEST_INPUT + b'"}'
    cache.put_many([(b"\0" * 32, b"{}\n")], ORIGIN, tag="t", making=MAKING, records=[large])
    assert len(list(cache.inputs())) == len(kept)


def test_hits_are_counted_and_no_lock_is_waited_for(cache: PredictionCache) -> None:
    put_made(cache, 0, 1)
    with PredictionCache(cache.folder) as other:
        blocker = bulk.connect(cache.folder)
        blocker.execute("BEGIN IMMEDIATE")
        cache.hit(MAKING, 5)
        cache.flush()
        assert other.makings()[0].hits == 0
        blocker.execute("ROLLBACK")
        blocker.close()
        cache.hit(MAKING, 2)
        cache.close()
        assert other.makings()[0].hits == 7


@pytest.mark.parametrize("wrong", [b"", b'{"output":"cut'], ids=["empty", "cut off"])
def test_what_is_no_output_is_never_kept(cache: PredictionCache, wrong: bytes) -> None:
    with pytest.raises(ValueError, match="not kept"):
        cache.put_many([(key(1), output(1)), (key(2), wrong)], ORIGIN, tag="t")
    assert cache.stats().predictions == 0


def test_a_cache_without_our_tables_gets_them(tmp_path: Path) -> None:
    open_diskcache(tmp_path / "predictions").close()
    with PredictionCache.open(tmp_path) as cache:
        put_made(cache, 0, 3)
        assert len(cache.makings()) == 1


@pytest.mark.parametrize("shared", [["/store"], ["/store", "/home"]], ids=["store", "home too"])
def test_on_a_network_file_system_the_cache_is_on_local_disk(tmp_path: Path, shared: list[str]) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "".join(f"server:/x {point} nfs4 rw 0 0\n" for point in shared) + "/dev/sda / ext4 rw 0 0\n"
    )
    environment = {"HOME": "/home/someone", "TMPDIR": "/scratch"}
    folder = cache_folder(Path("/store/of/ours"), environment, mounts)
    base = f"/scratch/reprobuild-{os.getuid()}" if "/home" in shared else "/home/someone/.cache"
    assert folder.parent == Path(base) / "reprobuild"
    assert folder.name.startswith("predictions-")
    assert folder != cache_folder(Path("/store/of/others"), environment, mounts)


def test_diskcache_counts_what_bulk_writes_and_takes(cache: PredictionCache) -> None:
    def agree() -> int:
        with open_diskcache(cache.folder) as plain, cache.connected() as connection:
            rows = connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM Cache").fetchone()
            kept = dict(connection.execute("SELECT key, value FROM Settings WHERE key IN ('count', 'size')"))
            assert (kept["count"], kept["size"]) == rows
            return len(plain)

    put_made(cache, 0, 100)
    put_made(cache, 50, 100)
    assert agree() == cache.stats().predictions == 150
    pairs = [(key(number), LARGE) for number in range(3)]
    cache.put_many(pairs, ORIGIN, tag="it's", making=MAKING)
    cache.put_many([*pairs, (key(3), LARGE)], ORIGIN, tag="it's", making=MAKING)
    assert agree() == 154
    assert {row.tag for row in cache.rows()} == {"tutorial/default", "it's"}
    more = [(key(2), LARGE + LARGE), (key(3), output(3)), (key(4), LARGE), (key(5), output(5))]
    cache.put_many(more, ORIGIN, tag="t", replace=True, making=MAKING)
    cache.put_many(more, ORIGIN, tag="t", replace=True)
    assert agree() == 156
    with open_diskcache(cache.folder) as plain:
        plain[key(4)] = seal(key(4), ORIGIN, output(4))
        del plain[key(0)]
        plain[key(9)] = seal(key(9), ORIGIN, LARGE)
    assert agree() == 156
    cache.discard([row.rowid for row in cache.rows()])
    assert agree() == 0
