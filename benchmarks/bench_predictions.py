"""Predictions: cached items from file to file, and bulk reads and writes beside peers, in one run.

Knows nothing of how the table is printed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.table import Row

ROOT = Path(__file__).resolve().parent.parent
COUNT = int(os.environ.get("REPROBUILD_BENCH_ITEMS", "100000"))
"""Items; ten times as many go from file to file too."""
BATCH = 8192
SLOW_COUNT = 5000
"""Items for peers that take one call, or one file, for each."""

Pairs = Sequence[tuple[bytes, bytes]]


def rows() -> list[Row]:
    """Measure: items a second, more is better."""
    pairs = make_pairs(COUNT)
    with tempfile.TemporaryDirectory(prefix="reprobuild-bench-") as name:
        folder = Path(name)
        ours = bulk(folder / "ours", pairs)
        peers = {peer: measure(folder / peer.replace(" ", "-"), pairs) for peer, measure in PEERS.items()}
        written = {peer: found[0] if found else None for peer, found in peers.items()}
        read = {peer: found[1] if found else None for peer, found in peers.items()}
        alone = {f"{peer}, look-up alone": read[peer] for peer in ("diskcache", "joblib.Memory")}
        made = [
            Row(f"predictions: keep {COUNT:,}", ours[0], written, "items/s", "more"),
            Row(f"predictions: look up {COUNT:,}", ours[1], read, "items/s", "more"),
        ]
        for count in (COUNT, 10 * COUNT):
            rate, memory = cached_call(folder / str(count), count)
            made += [
                Row(f"predict {count:,} cached items, file to file", rate, alone, "items/s", "more"),
                Row(f"predict {count:,} cached items, memory", memory, {}, "MB", "less"),
            ]
    return made


def make_pairs(count: int) -> Pairs:
    """Give keys (32 bytes) with small outputs."""
    texts = [b'{"output":"this is text number %d of the set"}\n' % n for n in range(count)]
    return [(hashlib.sha256(text).digest(), text) for text in texts]


def timed(count: int, work: Callable[[], Any]) -> float:
    """Give items a second."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def batches(pairs: Pairs) -> Iterator[Pairs]:
    """Cut pairs into what one call takes."""
    return (pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH))


def bulk(folder: Path, pairs: Pairs) -> tuple[float, float]:
    """Ours: each prediction sealed with its digest and provenance, each digest checked when read."""
    from reprobuild.predict.cache import PredictionCache
    from reprobuild.predict.sealed import provenance

    origin = provenance("cpu:x86_64", "sandbox", seconds=1.0, items=len(pairs), run="0" * 12)
    with PredictionCache.open(folder) as cache:

        def write() -> None:
            for part in batches(pairs):
                cache.put_many(part, origin, tag="bench/default")

        def read() -> None:
            for part in batches(pairs):
                assert len(cache.get_many([key for key, _ in part]).outputs) == len(part)

        return timed(len(pairs), write), timed(len(pairs), read)


def plain_diskcache(folder: Path, pairs: Pairs) -> tuple[float, float] | None:
    """diskcache as it comes: one call for each item."""
    if not installed("diskcache"):
        return None
    import diskcache  # type: ignore[import-untyped]

    pairs = pairs[:SLOW_COUNT]
    with diskcache.Cache(str(folder)) as cache:

        def write() -> None:
            for key, value in pairs:
                cache[key] = value

        def read() -> None:
            for key, value in pairs:
                assert cache[key] == value

        return timed(len(pairs), write), timed(len(pairs), read)


def joblib_memory(folder: Path, pairs: Pairs) -> tuple[float, float] | None:
    """joblib.Memory: one file for each item."""
    if not installed("joblib"):
        return None
    import joblib  # type: ignore[import-not-found]

    pairs = pairs[:SLOW_COUNT]
    values = dict(pairs)
    remembered = joblib.Memory(str(folder), verbose=0).cache(values.__getitem__)

    def call() -> None:
        for key, value in pairs:
            assert remembered(key) == value

    return timed(len(pairs), call), timed(len(pairs), call)


def sqlite_batches(folder: Path, pairs: Pairs) -> tuple[float, float]:
    """A bare table of SQLite without rowid, in batches, with no digest and no provenance."""
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(folder / "plain.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("CREATE TABLE kept (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

        def write() -> None:
            for part in batches(pairs):
                connection.execute("BEGIN")
                connection.executemany("INSERT INTO kept VALUES (?, ?)", sorted(part))
                connection.execute("COMMIT")

        def read() -> None:
            for part in batches(pairs):
                marks = ",".join("?" * len(part))
                statement = f"SELECT key, value FROM kept WHERE key IN ({marks})"
                found = dict(connection.execute(statement, [key for key, _ in part]))
                assert len(found) == len(part)

        return timed(len(pairs), write), timed(len(pairs), read)


def lmdb(folder: Path, pairs: Pairs) -> tuple[float, float] | None:
    """LMDB, in batches."""
    if not installed("lmdb"):
        return None
    import lmdb as library  # type: ignore[import-not-found]

    with library.open(str(folder), map_size=1 << 32) as environment:

        def write() -> None:
            for part in batches(pairs):
                with environment.begin(write=True) as transaction:
                    for key, value in part:
                        transaction.put(key, value)

        def read() -> None:
            with environment.begin() as transaction:
                for key, value in pairs:
                    assert transaction.get(key) == value

        return timed(len(pairs), write), timed(len(pairs), read)


def jsonl_and_dict(folder: Path, pairs: Pairs) -> tuple[float, float]:
    """A JSON Lines file that is read into a dict: the whole of it for any look-up."""
    folder.mkdir()
    path = folder / "kept.jsonl"

    def write() -> None:
        with open(path, "w", encoding="utf-8") as file:
            for key, value in pairs:
                file.write(json.dumps([key.hex(), value.decode()]) + "\n")

    def read() -> None:
        with open(path, encoding="utf-8") as file:
            kept = dict(map(json.loads, file))
        assert all(kept[key.hex()] for key, _ in pairs)

    return timed(len(pairs), write), timed(len(pairs), read)


PEERS: dict[str, Callable[[Path, Pairs], tuple[float, float] | None]] = {
    "diskcache": plain_diskcache,
    "joblib.Memory": joblib_memory,
    "SQLite": sqlite_batches,
    "LMDB": lmdb,
    "JSON Lines and a dict": jsonl_and_dict,
}


def installed(module: str) -> bool:
    """Whether a peer can be imported here."""
    return importlib.util.find_spec(module) is not None


CALL = """
import resource, sys, time
from pathlib import Path
from reprobuild.predict.files import predict_file
from benchmarks.bench_predictions import copying_target
folder = Path(sys.argv[1])
summary = predict_file(copying_target(folder), "default", str(folder / "in.jsonl"), str(folder / "out.jsonl"))
assert summary.cached == summary.items or len(sys.argv) > 2, summary
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
"""


def cached_call(folder: Path, count: int) -> tuple[float, float]:
    """Predict from file to file in a process of its own: items a second with its start, megabytes at most."""
    (folder / "store").mkdir(parents=True)
    with open(folder / "in.jsonl", "w", encoding="utf-8") as file:
        for number in range(count):
            file.write(json.dumps({"text": f"this is text number {number} of the set"}) + "\n")
    argv = [sys.executable, "-c", CALL, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*argv, "first"], check=True, env=environment, stdout=subprocess.DEVNULL)
    started = time.perf_counter()
    done = subprocess.run(argv, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return count / (time.perf_counter() - started), float(done.stdout)


def copying_target(folder: Path) -> Any:
    """Give a target whose predictor copies its input, on the host: only its first call computes."""
    from reprobuild.derivation.predictors import predictor
    from reprobuild.digest import Digest
    from reprobuild.engine.protocol import Result
    from reprobuild.predict.target import Target
    from reprobuild.store.stack import Found

    class Ground:
        def look(self, path: str) -> Found:
            return Found(path, stat.S_IFDIR if path == "/" else stat.S_IFREG | 0o755, "")

    class Copier:
        name = "host"

        def ground(self, layers: Any) -> Any:
            return contextlib.nullcontext(Ground())

        def run(self, ground: Any, command: Any, **_: Any) -> Result:
            source, destination = command.inputs["/in"], command.outputs["/out"]
            shutil.copyfile(source / "input.jsonl", destination / "output.jsonl")
            return Result(0, 0.0)

    @contextlib.contextmanager
    def scratch(prefix: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as name:
            yield Path(name)

    copy = predictor("cp {input} {output}", inputs={"text": str}, outputs={"text": str}, scope="item")
    digest = Digest.of(b"bench")
    return Target(
        recipe="bench",
        input_hash=digest,
        image_id=digest,
        run_id=digest,
        env={},
        workdir="/",
        predictors={"default": copy},
        store=folder / "store",
        layers=[],
        engine=lambda: Copier(),  # type: ignore[arg-type,return-value]
        scratch=scratch,
        gateway=lambda _: types.SimpleNamespace(refused=(), unused=()),  # type: ignore[arg-type,return-value]
    )
