"""Predictions: cached items from file to file, and bulk reads and writes beside peers, in one run.

Knows nothing of how the table is printed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.prediction_peers import PEERS, Pairs, batches, file_to_file, measure, timed
from benchmarks.table import Row

ROOT = Path(__file__).resolve().parent.parent
COUNT = int(os.environ.get("REPROBUILD_BENCH_ITEMS", "100000"))
"""Items; ten times as many go from file to file too."""


def rows() -> list[Row]:
    """Measure: items a second, more is better."""
    pairs = make_pairs(COUNT)
    with tempfile.TemporaryDirectory(prefix="reprobuild-bench-") as name:
        folder = Path(name)
        ours = bulk(folder / "ours", pairs)
        peers = {peer: measure(kind, folder / "bulk" / peer, pairs) for peer, kind in PEERS.items()}
        kept, found = apart(peers)
        made = [
            Row(f"predictions: keep {COUNT:,}", ours[0], kept, "items/s", "more"),
            Row(f"predictions: look up {COUNT:,}", ours[1], found, "items/s", "more"),
        ]
        for count in (COUNT, 10 * COUNT):
            new, cached, memory = calls(folder / str(count), count)
            source = folder / str(count) / "in.jsonl"
            travelled = {
                peer: file_to_file(kind, folder / "files" / str(count) / peer, source)
                for peer, kind in PEERS.items()
                if peer != "JSON Lines and a dict"  # reads all of its file for each batch of new ones
            }
            written, read = apart(travelled)
            made += [
                Row(f"predict {count:,} new items (by cp), file to file", new, written, "items/s", "more"),
                Row(f"predict {count:,} cached items, file to file", cached, read, "items/s", "more"),
                Row(f"predict {count:,} cached items, memory", memory, {}, "MB", "less"),
            ]
            shutil.rmtree(folder / str(count))
        return made


def apart(
    found: Mapping[str, tuple[float, float] | None],
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Give what peers wrote, and what they read."""
    first = {peer: None if rates is None else rates[0] for peer, rates in found.items()}
    return first, {peer: None if rates is None else rates[1] for peer, rates in found.items()}


def make_pairs(count: int) -> Pairs:
    """Give keys (32 bytes) with small outputs."""
    texts = [b'{"output":"this is text number %d of the set"}\n' % n for n in range(count)]
    return [(hashlib.sha256(text).digest(), text) for text in texts]


def bulk(folder: Path, pairs: Pairs) -> tuple[float, float]:
    """Ours: each prediction sealed with its digest and provenance, each digest checked when read."""
    from reprobuild.predict.cache import PredictionCache
    from reprobuild.predict.sealed import provenance

    origin = provenance("cpu:x86_64", "sandbox", seconds=1.0, items=len(pairs), run="0" * 12)
    with PredictionCache.open(folder) as cache:

        def write() -> None:
            for part in batches(pairs):
                records = [value for _, value in part]
                cache.put_many(part, origin, tag="bench/default", making=b"{}", records=records)

        def read() -> None:
            for part in batches(pairs):
                assert len(cache.get_many([key for key, _ in part]).outputs) == len(part)

        return timed(len(pairs), write), timed(len(pairs), read)


CALL = """
import re, sys
from pathlib import Path
from reprobuild.predict.files import predict_file
from benchmarks.bench_predictions import copying_target
folder = Path(sys.argv[1])
summary = predict_file(copying_target(folder), "default", str(folder / "in.jsonl"), str(folder / "out.jsonl"))
assert summary.cached == summary.items or len(sys.argv) > 2, summary
# Not ru_maxrss, which begins with what the process had that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1.024e-3)
"""


def calls(folder: Path, count: int) -> tuple[float, float, float]:
    """Predict twice from file to file, each time in a process of its own, its start among the time.

    Gives items a second for new ones and for cached ones, and the megabytes that the latter took at most.
    """
    (folder / "store").mkdir(parents=True)
    with open(folder / "in.jsonl", "w", encoding="utf-8") as file:
        for number in range(count):
            file.write(json.dumps({"text": f"this is text number {number} of the set"}) + "\n")
    argv = [sys.executable, "-c", CALL, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(*more: str) -> tuple[float, float]:
        started = time.perf_counter()
        done = subprocess.run([*argv, *more], check=True, env=environment, stdout=subprocess.PIPE, text=True)
        return count / (time.perf_counter() - started), float(done.stdout)

    new, _ = run("first")
    cached, memory = run()
    return new, cached, memory


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

        def run(self, ground: Any, command: Any, *, hold: Any, **_: Any) -> Result:
            if not hold():
                return Result(137, 0.0)
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
