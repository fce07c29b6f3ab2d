"""Pushes that are killed, or interrupted, in the middle: the next process goes on, and nothing hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.pushing import MEBIBYTE, Pusher, noise, source
from tests.servers import docker_registry
from tests.sites.push import Fault, PushSite
from tests.upstreams import upstreams

SIZE = 3 * MEBIBYTE + 12_345

CHILD = """\
import json, os, signal, sys
from pathlib import Path
from tests.pushing import Pusher, noise, source, stopping

folder, registry, environment, at = sys.argv[1:]
with Pusher(Path(folder), registry, json.loads(environment)).repository() as repository:
    body = noise(int(os.environ["SIZE"]))
    if at == "never":
        repository.push_blobs([source(body)])
    else:
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        repository.push_blobs([stopping(body, int(at), kill)])
"""


def child(pusher: Pusher, at: str) -> subprocess.Popen[bytes]:
    environment = {"SIZE": str(SIZE), "PYTHONPATH": os.getcwd(), "PATH": os.environ["PATH"]}
    arguments = [str(pusher.folder), pusher.registry, json.dumps(pusher.environment), at]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], env=environment, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("at", [0, MEBIBYTE, 2 * MEBIBYTE + 300_000], ids=["begin", "chunk", "middle"])
def test_the_next_process_goes_on_after_a_kill(tmp_path: Path, at: int) -> None:
    body = noise(SIZE)
    with upstreams(tmp_path) as net:
        site = PushSite()
        net.add("registry.test", site)
        pusher = Pusher(tmp_path, "registry.test", net.environment())
        with child(pusher, str(at)) as process:
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        with pusher.repository() as repository:
            assert repository.push_blob(source(body)) <= SIZE - at // MEBIBYTE * MEBIBYTE
        assert list(site.blobs["x/y"].values()) == [body]
        assert site.received == SIZE


@pytest.mark.parametrize("at", [0, 2 * MEBIBYTE, 2 * MEBIBYTE + 300_000], ids=["begin", "chunk", "middle"])
def test_a_real_registry_has_the_whole_blob_after_a_kill(tmp_path: Path, at: int) -> None:
    body = noise(SIZE)
    with docker_registry(tmp_path) as address:
        pusher = Pusher(tmp_path, address)
        with child(pusher, str(at)) as process:
            process.communicate()
        with pusher.repository() as repository:
            repository.push_blob(source(body))
            taken: list[bytes] = []
            repository.fetch_blob(source(body).digest, SIZE, taken.append)
        assert b"".join(taken) == body


def test_an_interrupt_ends_a_push_to_a_server_that_hangs(tmp_path: Path) -> None:
    go_on = threading.Event()
    with upstreams(tmp_path) as net:
        site = PushSite(faults=[Fault("PATCH", done=lambda: go_on.wait(60))])
        net.add("registry.test", site)
        pusher = Pusher(tmp_path, "registry.test", net.environment())
        try:
            with child(pusher, "never") as process:
                while not any(one.method == "PATCH" for one in net.log):
                    assert process.poll() is None
                    time.sleep(0.05)
                begun = time.monotonic()
                process.send_signal(signal.SIGINT)
                said = process.communicate(timeout=30)[1]
            assert time.monotonic() - begun < 15
            assert b"KeyboardInterrupt" in said
        finally:
            go_on.set()
