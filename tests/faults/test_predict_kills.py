"""``kill -9`` while predictions are kept: what is kept is right, the next call goes on, audit is clean."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reprobuild.predict.audit import audit_predictions
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.files import predict_file
from tests.host_engine import HostEngine, make_target

KILLS = 20
SEED = 20260101

WRITER = """
import hashlib, sys
from pathlib import Path
from reprobuild.predict.cache import PredictionCache

cache = PredictionCache.open(Path(sys.argv[1]))
first = int(sys.argv[2])
print("ready", flush=True)
for start in range(first, first + 10**6, 200):
    pairs = []
    for n in range(start, start + 200):
        size = 200_000 if n % 97 == 0 else 20
        pairs.append((hashlib.sha256(b"%d" % n).digest(), b'"' + b"%d" % n * size + b'"\\n'))
    cache.put_many(pairs, b"{}", tag="kill/default")
    print(start + 200, flush=True)
"""

PREDICTOR = """
import sys
from pathlib import Path
from tests.host_engine import HostEngine, make_target
from reprobuild.predict.files import predict_file

folder = Path(sys.argv[1])
target = make_target(folder, HostEngine())
print("ready", flush=True)
predict_file(target, "default", str(folder / "in.jsonl"), str(folder / "out.jsonl"))
"""


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(path for path in ["", *sys.path] if path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill_after(process: subprocess.Popen[str], seconds: float) -> list[str]:
    """Kill a process; give the lines that it printed."""
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    assert process.stdout is not None
    lines = process.stdout.read().split("\n")
    process.wait()
    process.stdout.close()
    return lines


def test_killed_while_keeping(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    kept = 0
    for number in range(KILLS):
        first = number * 10**6
        lines = kill_after(start(WRITER, str(tmp_path), str(first)), chance.uniform(0.0, 0.15))
        done = max((int(line) for line in lines if line.isdigit()), default=first)
        with PredictionCache.open(tmp_path) as cache:
            keys = [hashlib.sha256(b"%d" % n).digest() for n in range(first, done)]
            found = cache.get_many(keys)
            assert len(found.outputs) == done - first, "what was said to be kept is kept"
            assert found.broken == ()
            kept += len(keys)
    assert kept, "no kill came late enough to show anything"
    with PredictionCache.open(tmp_path) as cache:
        audit = audit_predictions(cache)
        assert audit.findings == ()
        assert audit.checked % 200 == 0, "a group of writes is there whole or not at all"
        cache.sweep(age=-1.0)
        assert audit_predictions(cache).findings == ()


@pytest.mark.parametrize("round_", range(3))
def test_killed_while_predicting(tmp_path: Path, round_: int) -> None:
    chance = random.Random(SEED + round_)
    texts = [f"text {n}" for n in range(30_000)]
    (tmp_path / "in.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    for _ in range(KILLS // 3):
        kill_after(start(PREDICTOR, str(tmp_path)), chance.uniform(0.0, 0.8))
        output = tmp_path / "out.jsonl"
        assert not output.exists() or output.read_bytes().count(b"\n") == len(texts)
        with PredictionCache.open(tmp_path / "store") as cache:
            assert audit_predictions(cache).findings == ()
    engine = HostEngine()
    target = make_target(tmp_path, engine)
    summary = predict_file(target, "default", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert summary.cached + summary.computed == len(texts)
    lines = (tmp_path / "out.jsonl").read_text().split("\n")[:-1]
    assert lines == [f'{{"output":"{text[::-1]}"}}' for text in texts]


def test_many_processes_at_once(tmp_path: Path) -> None:
    # All of them find no cache and make it.
    with ThreadPoolExecutor(6) as pool:
        writers = list(pool.map(lambda _: start(WRITER, str(tmp_path), "0"), range(6)))
    for writer in writers:
        assert kill_after(writer, 0.3)
    with PredictionCache.open(tmp_path) as cache:
        audit = audit_predictions(cache)
        assert audit.findings == ()
        assert audit.checked > 0
