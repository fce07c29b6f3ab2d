"""Trees in daemons of every kind: sent once, by one process, without the layers that are there already."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reprobuild.digest import Digest
from reprobuild.engine.docker import differences, trees
from reprobuild.engine.docker.daemon import connect
from reprobuild.engine.docker.engine import DockerEngine
from reprobuild.engine.docker.run import Run
from reprobuild.engine.protocol import Command
from reprobuild.errors import CheckFailedError, EngineError, MissingBlobError
from reprobuild.store.store import Store
from reprobuild.tree import Layer, directory, file
from tests.daemons import Docker
from tests.roots import busybox_root
from tests.sandboxes import PROJECT, Recorded, layers_of


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return busybox_root(tmp_path_factory.mktemp("busybox") / "root")


def engine_of(daemon: Docker, store: Store) -> DockerEngine:
    return DockerEngine(store, "", daemon.environment)


def one_file(store: Store, content: bytes) -> Layer:
    with store.transaction() as group:
        return Layer([directory("opt"), file("opt/one", group.add_bytes(content), len(content))])


def fresh(store: Store, root: Path) -> list[Layer]:
    """Give layers of which no daemon has the last one."""
    return [*layers_of([root], store), one_file(store, os.urandom(16))]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts the layers of each stream that goes to a daemon."""
    counted: list[int] = []
    load = trees._load

    def counting(daemon: Any, name: str, parts: Any, known: int) -> None:
        counted.append(len(parts) - known)
        load(daemon, name, parts, known)

    monkeypatch.setattr(trees, "_load", counting)
    yield counted


def test_every_kind_of_daemon_runs_commands(daemon: Docker, store: Store, root: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_bytes(os.urandom(300_000))
    engine = engine_of(daemon, store)
    printed: list[bytes] = []
    with engine.ground(layers_of([root], store)) as ground, given.open("rb") as stdin:
        command = Command(
            ("/bin/sh", "-c", "cat > /out/copy; wc -c < /in/given; echo to errors >&2; exit 3"),
            inputs={"/in/given": given},
            outputs={"/out": tmp_path / "out"},
            memory=64 << 20,
            timeout=60,
        )
        result = engine.run(ground, command, stdin=stdin, output=printed.append)
    assert (result.exit_code, result.out_of_memory, result.timed_out) == (3, False, False)
    assert printed == [b"300000\n", b"to errors\n"]
    assert (tmp_path / "out" / "copy").read_bytes() == given.read_bytes()
    assert daemon("ps", "--all", "--quiet") == ""


def test_a_tree_is_sent_once(docker: Docker, store: Store, root: Path, sent: list[int]) -> None:
    layers = fresh(store, root)
    for _ in range(2):
        with engine_of(docker, store).ground(layers):
            pass
    with engine_of(docker, store).ground([layer.digest for layer in layers]):
        pass
    assert len(sent) == 1


def test_layers_that_the_daemon_has_are_left_out(
    docker: Docker, store: Store, root: Path, sent: list[int]
) -> None:
    layers = fresh(store, root)
    engine = engine_of(docker, store)
    with engine.ground(layers):
        pass
    more = [*layers, one_file(store, os.urandom(8))]
    with engine.ground(more) as ground:
        assert engine.run(ground, Command(("/bin/sh", "-c", "test -s /opt/one"))).exit_code == 0
    assert sent[-1] == 2  # the last one, and the folders that the tree lacks


def test_a_tree_that_was_removed_meanwhile_is_sent_again(docker: Docker, store: Store, root: Path) -> None:
    engine = engine_of(docker, store)
    with engine.ground(fresh(store, root)) as ground:
        docker("rmi", "--force", trees.name_of(ground.key, engine.daemon))
        assert engine.run(ground, Command(("/bin/true",))).exit_code == 0


def test_of_two_that_want_a_tree_one_sends_it(
    docker: Docker, store: Store, root: Path, sent: list[int]
) -> None:
    layers = fresh(store, root)

    def want() -> None:
        with engine_of(docker, Store.open(store.root)).ground(layers):
            pass

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == 1


def test_missing_bytes_are_named(docker: Docker, store: Store, root: Path) -> None:
    layers = fresh(store, root)
    [entry] = [one for one in layers[-1].entries if one.digest is not None]
    assert entry.digest is not None
    path = Path(store.blobs.locate(entry.digest))
    path.unlink()
    with (
        pytest.raises(MissingBlobError, match=str(entry.digest)),
        engine_of(docker, store).ground(layers),
    ):
        pass


def test_damaged_bytes_never_run(docker: Docker, store: Store, root: Path) -> None:
    layers = fresh(store, root)
    engine = engine_of(docker, store)
    ground_layers = [*layers, one_file(store, b"honest")]
    digest = Digest.of(b"honest")
    path = Path(store.blobs.locate(digest))
    path.chmod(0o644)
    path.write_bytes(b"damage")
    with pytest.raises(CheckFailedError, match=str(digest)), engine.ground(ground_layers):
        pass


SSH = """#!/bin/sh
for last; do :; done
DOCKER_HOST={host} exec sh -c "$last"
"""


def test_a_daemon_behind_ssh(
    docker: Docker, store: Store, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(SSH.format(host=docker.host))
    ssh.chmod(ssh.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    engine = DockerEngine(store, "", {"DOCKER_HOST": "ssh://me@far.example:22"})
    printed: list[bytes] = []
    with engine.ground(layers_of([root], store)) as ground:
        engine.run(ground, Command(("/bin/echo", "from afar")), output=printed.append)
    assert printed == [b"from afar\n"]
    assert engine.probe().name.startswith("docker (Docker ")
    engine.daemon.close()


def test_what_ssh_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'Permission denied (publickey).' >&2; exit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EngineError, match="publickey"):
        connect({"DOCKER_HOST": "ssh://me@far.example"})


def test_another_platform_is_an_error(docker: Docker, store: Store) -> None:
    isolation = DockerEngine(store, "linux/riscv64", docker.environment).probe()
    assert not isolation.available
    assert "linux/riscv64" in isolation.missing


def test_start_up_loads_no_sdk() -> None:
    program = "import sys, reprobuild.engine.docker.engine; print('docker' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert done.stdout == "False\n"


COMPLETE = {
    "nothing": ("true", True),
    "a file": ("echo x > /var/x", True),
    "a changed file": ("echo x >> /etc/passwd", True),
    "removals": ("rm -r /usr /etc/passwd", True),
    "links": ("ln -s /nowhere /var/l; rm /bin/cat; ln -s sh /bin/cat", True),
    "second names": ("echo x > /var/a; ln /var/a /var/b", True),
    "a folder in place of a link": ("rm /bin/cat; mkdir /bin/cat; echo x > /bin/cat/x", True),
    "old size and old time": (
        "sed s/guest/gwest/ /etc/passwd > /x; cat /x > /etc/passwd; rm /x; touch -d @315619200 /etc/passwd",
        False,
    ),
    "a fixed file": ("echo x > /etc/hosts", False),
    "a name that is no UTF-8": ("touch \"/var/$(printf 'a\\377')\"", False),
}


@pytest.mark.parametrize(("text", "is_complete"), COMPLETE.values(), ids=COMPLETE)
def test_a_daemon_is_asked_for_everything_only_where_it_must_be(
    docker: Docker,
    store: Store,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    is_complete: bool,
) -> None:
    asked: list[str] = []
    export = Run._export

    def counting(self: Run) -> Any:
        asked.append(self.name)
        return export(self)

    monkeypatch.setattr(Run, "_export", counting)
    monkeypatch.setattr(differences, "REQUEST", 1)  # as if the tree were large
    monkeypatch.setattr(differences, "GLANCE", 1)
    engine = engine_of(docker, store)
    with engine.ground(layers_of([root], store)) as ground:
        if not engine.daemon.has_native_differences:
            pytest.skip("the daemon has no overlay that tells what was written")
        engine.run(ground, Command(("/bin/sh", "-c", text)), capture=Recorded())
    assert asked == [] if is_complete else len(asked) == 1
