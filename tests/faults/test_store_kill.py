"""Killed at random moments, a store has the whole of a group of writes or nothing that counts."""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from contextlib import suppress
from pathlib import Path

from reprobuild.digest import Digest
from reprobuild.errors import MissingBlobError
from reprobuild.store import gc
from reprobuild.store.audit import audit
from reprobuild.store.realisations import needed_blobs
from reprobuild.store.store import Store
from tests.unit.stores import LARGE, image_of, layer_of

ROUNDS = 30
LONGEST = 0.15
"""Seconds before a kill: some groups and checkouts are done in that time here, some are not."""


def work(folder: Path, seed: int) -> None:
    """Write groups, lay out checkouts, collect garbage, until killed."""
    rnd = random.Random(seed)
    for number in range(1000):
        # Without any grace, gc of another process may take what no record needs yet.
        with suppress(MissingBlobError):
            step(Store.open(folder), rnd, f"{seed}-{number}")


def step(store: Store, rnd: random.Random, name: str) -> None:
    bodies = {f"{n % 7}/{n}": rnd.randbytes(rnd.randrange(200)) for n in range(rnd.choice([1, 3, 30]))}
    layer = layer_of(store, {**bodies, "large": LARGE + rnd.randbytes(1)})
    key = image_of(store, name, layer)
    if rnd.random() < 0.5:
        store.roots.set(f"root-{rnd.randrange(5)}", [key], "realized")
    with store.checkouts.lay_out([layer.digest]):
        pass
    if rnd.random() < 0.3:
        gc.carry_out(store, gc.plan(store, grace=0))


def check(folder: Path) -> int:
    """Give how many records there are, each with all that it needs; nothing may be amiss."""
    store = Store.open(folder)
    assert list(audit(store, jobs=1)) == []
    records = 0
    for key in store.realisations:
        record = store.realisations.get(key)
        assert record is not None
        for digest in needed_blobs(record):
            assert store.blobs.read(digest)
        records += 1
    return records


def killed_at_random(folder: Path, seed: int, workers: int) -> None:
    children = {}
    for number in range(workers):
        last_words = folder.with_name(f"worker-{seed}-{number}")
        child = os.fork()
        if child == 0:
            try:
                work(folder, seed * 10 + number)
            except BaseException:  # noqa: BLE001 - the child must not return into the test runner
                last_words.write_text(traceback.format_exc())
            finally:
                os._exit(1)
        children[child] = last_words
    time.sleep(random.Random(seed).uniform(0, LONGEST))
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child, last_words in children.items():
        _, status = os.waitpid(child, 0)
        said = last_words.read_text() if last_words.exists() else ""
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"seed {seed}, by itself:\n{said}"


def test_a_killed_writer_leaves_a_sound_store(tmp_path: Path) -> None:
    records = 0
    for seed in range(ROUNDS):
        killed_at_random(tmp_path / "store", seed, workers=1 + seed % 2)
        records += check(tmp_path / "store")
    assert records > 0  # something was done at all

    store = Store.open(tmp_path / "store")  # and it works on
    with store.transaction() as group:
        digest = group.add_bytes(b"after")
        group.record(Digest.of(b"k"), {"kind": "run", "blobs": [str(digest)]})
    gc.carry_out(store, gc.plan(store, grace=0))
    assert check(tmp_path / "store") >= 0
    assert os.listdir(store.tmp) == []


def test_a_killed_download_goes_on(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    body = random.Random(1).randbytes(1 << 20)
    done = 0
    for seed in range(10):
        child = os.fork()
        if child == 0:
            with store.transaction() as group, group.writer(resume=store.partial("file")) as writer:
                while True:
                    writer.write(body[writer.size : writer.size + 1000])
                    time.sleep(0.001)
        time.sleep(random.Random(seed).uniform(0.01, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        size = store.partial("file").stat().st_size
        assert size >= done
        done = size
    with Store.open(store.root).transaction() as group, group.writer(resume=store.partial("file")) as writer:
        assert 0 < writer.size == done < len(body)
        writer.write(body[done:])
        assert writer.commit() == Digest.of(body)
    assert store.blobs.read(Digest.of(body)) == body
    assert list(audit(store, jobs=1)) == []
