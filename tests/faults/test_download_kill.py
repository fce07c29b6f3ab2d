from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.events import ignore
from reprobuild.fetch.download import Download, fetch_all
from reprobuild.store.store import Store
from tests.misbehaving import Answer, Misbehaving

BODY = os.urandom(30_000_000)
DIGEST = Digest.of(BODY)

PROGRAM = """
import sys
from reprobuild.digest import Digest
from reprobuild.events import ignore
from reprobuild.fetch.download import Download, fetch_all
from reprobuild.store.store import Store
root, url, digest = sys.argv[1:]
fetch_all(Store.open(root), [Download(name="x", urls=(url,), sha256=Digest(digest))], tell=ignore)
"""


@contextmanager
def stalled(root: Path) -> Iterator[tuple[subprocess.Popen[bytes], Misbehaving]]:
    """Start a download in a process of its own whose server falls silent in the middle of the body."""
    silent, go_on = threading.Event(), threading.Event()

    def gate(sent: int) -> None:
        if sent > 20_000_000 and not go_on.is_set():
            silent.set()
            go_on.wait(60)

    with Misbehaving() as server:
        server.answers["/x"] = [Answer(BODY, gate=gate), Answer(BODY)]
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(root), f"{server.url}/x", DIGEST.hex],
            stderr=subprocess.DEVNULL,
        )
        try:
            assert silent.wait(60)
            yield child, server
        finally:
            go_on.set()
            child.kill()
            child.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_a_download_that_is_killed_goes_on_where_it_was(tmp_path: Path, number: signal.Signals) -> None:
    with stalled(tmp_path / "store") as (child, server):
        child.send_signal(number)
        child.wait(30)
        store = Store.open(tmp_path / "store")
        come = store.partial(DIGEST.hex).stat().st_size
        wanted = Download(name="x", urls=(f"{server.url}/x",), sha256=DIGEST)
        (fetched,) = fetch_all(store, [wanted], tell=ignore)
        second = server.requests[-1]
    assert come > 0
    assert second.headers["range"] == f"bytes={come}-"
    assert (second.sent, fetched.received) == (len(BODY) - come, len(BODY) - come)
    assert store.blobs.read(DIGEST) == BODY
    assert os.listdir(store.root / "tmp/partial") == []


def test_a_killed_download_leaves_no_lock_behind(tmp_path: Path) -> None:
    with stalled(tmp_path / "store") as (child, server):
        child.kill()
        child.wait()
        store = Store.open(tmp_path / "store")
        fetch_all(store, [Download(name="x", urls=(f"{server.url}/x",), sha256=DIGEST)], tell=ignore)
    assert [name for name in os.listdir(store.root / "locks") if name.startswith("fetch-")] == []
