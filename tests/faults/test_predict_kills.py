"""``kill -9`` while predictions are kept: what is kept is right, the next call goes on, audit is clean."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from reprobuild.canonical import canonical
from reprobuild.derivation.predictors import predictor
from reprobuild.predict.audit import audit_predictions
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.files import predict_file
from reprobuild.predict.key import KeyMaker
from reprobuild.predict.parameters import check_device
from reprobuild.predict.target import Target
from reprobuild.predict.upkeep import clear
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

LOGGED = """
import sys
from pathlib import Path
from reprobuild.predict.call import Options
from reprobuild.predict.files import predict_file
from tests.faults.test_predict_kills import logged_target

folder = Path(sys.argv[1])
target = logged_target(folder, sys.argv[3])
print("ready", flush=True)
paths = str(folder / "in.jsonl"), str(folder / "out.jsonl")
predict_file(target, "default", *paths, options=Options(jobs=int(sys.argv[2])))
"""

NOTING = (
    'python3 -c "import json, os, sys, time\n'
    "texts = [json.loads(line)['text'] for line in open(sys.argv[1])]\n"
    "with open('{log}', 'a') as log:\n"
    "    log.write(''.join(text + chr(10) for text in texts))\n"
    "time.sleep(0.001 * len(texts))\n"
    "run = os.urandom(8).hex()\n"
    "with open(sys.argv[2], 'w') as out:\n"
    "    for text in texts:\n"
    "        print(json.dumps({'output': text[::-1], 'run': run}), file=out)"
    '" {input} {output}'
)
"""Notes what it is given, takes its time, and says with each output in which run it was computed."""

NOTING_STREAM = (
    'exec python3 -c "import json, os, sys, time\n'
    "run = os.urandom(8).hex()\n"
    "log = open('{log}', 'a', buffering=1)\n"
    "for line in iter(sys.stdin.readline, ''):\n"
    "    given = json.loads(line)\n"
    "    print(given['text'], file=log)\n"
    "    time.sleep(0.001)\n"
    "    answer = {'_id': given['_id'], 'output': given['text'][::-1], 'run': run}\n"
    '    print(json.dumps(answer), flush=True)"'
)


def logged_target(folder: Path, protocol: Any) -> Target:
    """Give a target whose predictor notes in ``log`` what reaches it."""
    command = NOTING if protocol == "files" else NOTING_STREAM
    made = predictor(
        command.replace("{log}", str(folder / "log")),
        protocol=protocol,
        inputs={"text": str},
        outputs={"output": str, "run": str},
        scope="item",
    )
    return make_target(folder, HostEngine(), default=made)


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


@pytest.mark.parametrize("protocol, jobs", [("files", 1), ("files", 3), ("stream", 1), ("stream", 2)])
def test_what_was_kept_before_a_kill_is_not_computed_again(tmp_path: Path, protocol: str, jobs: int) -> None:
    chance = random.Random(SEED + jobs)
    texts = [f"text {n}" for n in range(1000 * jobs)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    log = tmp_path / "log"
    target = logged_target(tmp_path, protocol)
    noting = target.predictor("default")
    keys = KeyMaker(target.run_id, noting, {}, check_device(noting, "cpu", target.engine))
    records = [canonical({"text": text}) for text in texts]
    text_of = dict(zip(keys.items(records), texts, strict=True))
    kept: dict[str, Any] = {}
    helped = 0
    while len(kept) < len(texts):
        log.write_text("")
        process = start(LOGGED, str(tmp_path), str(jobs), protocol)
        kill_after(process, chance.uniform(0.0, 0.9))
        given = log.read_text().split()[1::2]
        assert {f"text {number}" for number in given}.isdisjoint(kept), "what was kept was computed again"
        with PredictionCache.open(tmp_path / "store") as cache:
            found = cache.get_many(list(text_of))
            assert audit_predictions(cache).findings == ()
        assert found.broken == ()
        now = {text_of[key]: json.loads(output) for key, output in found.outputs.items()}
        assert kept.items() <= now.items(), "what was kept has gone, or has changed"
        helped += len(now) > len(kept)
        kept = now
    assert helped > 1, "no kill came late enough to show anything"
    assert all(output["output"] == text[::-1] for text, output in kept.items())
    log.write_text("")
    predict_file(target, "default", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert log.read_text() == ""
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [kept[text] for text in texts]


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


TENANT = """
import hashlib, sys
from pathlib import Path
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.sealed import provenance

cache = PredictionCache.open(Path(sys.argv[1]))
making = b'{"n":%d}' % int(sys.argv[2])
origin = provenance("cpu:x86_64", "host", seconds=1.0, items=100, run="0" * 12, making=making)
print("ready", flush=True)
for start in range(0, 10**6, 100):
    records = [b'{"text":"%d"}' % n for n in range(start, start + 100)]
    pairs = [(hashlib.sha256(making + b"\\n" + record).digest(), record * (20_000 if n == 7 else 1) + b"\\n")
             for n, record in enumerate(records)]
    cache.put_many(pairs, origin, tag=f"t{sys.argv[2]}/default", making=making, records=records)
    found = cache.get_many([key for key, _ in pairs])
    cache.hit(making, len(found.outputs))
    for key, output in pairs:
        assert found.outputs.get(key, output) == output
    print(start + 100, flush=True)
"""

CLEANER = """
import sys, time
from pathlib import Path
from reprobuild.predict.cache import PredictionCache
from reprobuild.predict.upkeep import clear, enforce

cache = PredictionCache.open(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    print(enforce(cache, 200_000).predictions, flush=True)
    print(clear(cache, ["t1"]).predictions, flush=True)
"""


@pytest.mark.once
def test_cleared_while_others_write_and_read(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    tenants = [start(TENANT, str(tmp_path), str(number)) for number in range(3)]
    cleared = 0
    for _ in range(4):
        cleaner = start(CLEANER, str(tmp_path))
        cleared += sum(int(line) for line in kill_after(cleaner, chance.uniform(0.2, 0.6)) if line.isdigit())
        assert all(tenant.poll() is None for tenant in tenants), "nobody fails because somebody clears"
    written = [max(map(int, filter(str.isdigit, kill_after(tenant, 0)))) for tenant in tenants]
    assert cleared and all(written)
    with PredictionCache.open(tmp_path) as cache:
        audit = audit_predictions(cache)
        assert audit.findings == ()
        makings = {making.number: making for making in cache.makings()}
        for number, making in makings.items():
            assert all(row.tag == making.tag for row in cache.rows(making=number))
        clear(cache)
        assert (cache.makings(), list(cache.inputs()), cache.stats().predictions) == ([], [], 0)
        cache.sweep(age=-1.0)
        assert not list(cache.folder.glob("??/??/*.val"))
