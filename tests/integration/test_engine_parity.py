"""The same command sees the same world, and leaves the same tree, in every engine and daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.engine import world
from reprobuild.engine.docker import differences
from reprobuild.engine.protocol import Command
from reprobuild.errors import BuildFailedError
from reprobuild.images.changes import Changed
from reprobuild.images.normal_form import normal_form
from reprobuild.store.store import Store
from reprobuild.tree import Layer, Tree, directory, file
from tests.sandboxes import Recorded, Sandboxes, docker_engine, layers_of

DAEMONS = ("docker", "podman")

PROBES = {
    "environment": "env | sort",
    "hosts": "cat /etc/hosts",
    "resolver": "cat /etc/resolv.conf",
    "host name": "hostname; echo $(cat /etc/hostname)",
    "user": "id -u; id -g; umask; grep -E '^(Uid|Gid|Cap|NoNewPrivs|Seccomp)' /proc/self/status",
    "limits": "ulimit -S -n; ulimit -H -n; ulimit -c; ulimit -s",
    "devices": "ls /dev | grep -v core; ls -A /dev/shm /dev/mqueue",
    "shared memory": "df -k /dev/shm | sed -n 's/^[^ ]* *\\([0-9]*\\) .*/\\1/p'; stat -c %a /dev/shm",
    "masked": "".join(
        f"ls -A /proc/{name} 2>/dev/null; cat /proc/{name} 2>/dev/null;" for name in world.PROC_MASKED
    ),
    "read-only": "for one in sys/kernel/hostname sysrq-trigger; do : > /proc/$one; done 2>/dev/null; echo $?",
    "processors": "find /sys/devices/system/cpu /sys/devices/system/node | wc -l",
    "hardware": "find /sys/* -type f | grep -cv -e ^/sys/devices/system/cpu -e ^/sys/devices/system/node",
    "network": "ip -o link show | sed 's/ .*lo:/lo/; s/ mtu.*//'; ip -o addr show | wc -l",
    "ports": "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
    "control groups": "sed 's/.*:://; s/.*://' /proc/self/cgroup | sort -u",
    "shared with nobody": "sed 1d /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg",
    "descriptors": 'for fd in /proc/$$/fd/*; do [ ! -e $fd ] || o="$o ${fd##*/}"; done; echo $o',
    "files": "find / -xdev | grep -vE '^/(sbin|run|proc|sys|dev)' | sort",
    "modes": "stat -c '%a %u:%g %n' / /tmp /etc /etc/hosts /etc/passwd /bin/busybox",
    "times": "stat -c '%Y %n' /etc/hosts /etc/resolv.conf",
    "working folder": "pwd; echo $PWD",
}


@pytest.fixture(params=DAEMONS)
def in_daemon(request: pytest.FixtureRequest) -> Sandboxes:
    """The engine for daemons, with each kind of them."""
    found = request.getfixturevalue(f"{request.param}_sandboxes")
    assert isinstance(found, Sandboxes)
    return found


@pytest.fixture
def in_sandbox(all_sandboxes: dict[str, Sandboxes]) -> Sandboxes:
    """The sandbox, as the identity that the tests have."""
    return all_sandboxes.get("root") or all_sandboxes["user"]


@pytest.mark.parametrize("text", PROBES.values(), ids=PROBES)
def test_the_world_is_the_same(in_sandbox: Sandboxes, in_daemon: Sandboxes, text: str) -> None:
    seen = in_daemon.shell(text)
    assert seen.text == in_sandbox.shell(text).text


LEAVES = {
    "nothing": "true",
    "a renamed folder": "mv /usr /usr.old; mkdir -p /var/a/b; mv /var/a /var/c",
    "a folder that was made anew": "rm -r /usr; mkdir /usr; touch /usr/new",
    "an empty one": "rmdir /var; mkdir /var",
    "a link in place of a folder": "rm -r /var; ln -s /usr /var",
    "a folder in place of a link": "rm /bin/cat; mkdir /bin/cat; echo x > /bin/cat/x",
    "a file in place of a folder": "rm -r /var; echo x > /var",
    "second names": "echo x > /var/a; ln /var/a /var/b; ln /etc/passwd /etc/passwd-; ln /bin/busybox /bin/bb",
    "one of two names changed": "ln /etc/group /var/g; echo y >> /var/g",
    "modes": "chmod 4755 /bin/busybox; chmod 0 /etc/group; mkdir -m 2775 /var/g; chmod 1777 /var",
    "a removal": "rm /etc/passwd; rm -r /usr",
    "made and removed": "mkdir -p /var/x/y; touch /var/x/y/z; rm -r /var/x",
    "empty files": "touch /var/empty; : > /etc/passwd",
    "holes": "truncate -s 3000000 /var/holes; echo x >> /var/holes",
    "a large file": "seq 400000 > /var/large; cp /var/large /var/copy",
    "a large file, changed": (
        "cp /bin/busybox /b; dd if=/etc/group of=/b bs=1 seek=700000 conv=notrunc; mv /b /bin/busybox"
    ),
    "old size and old time": "sed -i s/guest/gwest/ /etc/passwd; touch -d @315619200 /etc/passwd",
    "a time alone": "touch -d @1000000000 /etc/passwd",
    "owners": "chown -R 5:6 /etc; mkdir /var/theirs; chown guest /var/theirs",
    "what no layer holds": "mkfifo /var/pipe; rm /bin/cat; mkfifo /bin/cat",
    "odd names": "touch '/var/ a\tb' /var/ä /var/-n '/var/\\' \"/var/a\nb\"",
    "fixed files": "echo x > /etc/hosts; rm /etc/resolv.conf",
    "folders of the engine": "touch /tmp/x; rm -r /tmp/x; touch /dev/shm/y",
    "logs and caches": "mkdir -p /var/log /var/cache/apt; echo x > /var/log/a; echo x > /var/cache/apt/a.bin",
}


@pytest.fixture
def trees(tmp_path: Path, in_sandbox: Sandboxes) -> Tree:
    """The tree below: every one of them has the same."""
    [layer] = layers_of(in_sandbox.lowers, Store.open(tmp_path / "store"))
    return Tree(layer.entries)


def left(capture: Recorded, below: Tree, store: Store) -> tuple[bytes, list[str]]:
    """Give the listing of the tree that a command counts as having left, and what was dropped."""
    with store.transaction() as group:
        changes = [
            Changed(one, group.add_bytes(capture.bodies[one.path]) if one.kind == "f" else None)
            for one in capture.changes
        ]
        normal = normal_form(changes, below, read=group.read, add=group.add_bytes)
    return normal.tree.listing, [one.path for one in normal.dropped]


@pytest.mark.parametrize("text", LEAVES.values(), ids=LEAVES)
def test_the_tree_is_the_same(
    in_sandbox: Sandboxes, in_daemon: Sandboxes, trees: Tree, store: Store, text: str
) -> None:
    expected = in_sandbox.shell(text, capture=True)
    found = in_daemon.shell(text, capture=True)
    assert found.result.exit_code == expected.result.exit_code
    assert left(found.capture, trees, store) == left(expected.capture, trees, store)


@pytest.mark.parametrize("text", LEAVES.values(), ids=LEAVES)
def test_the_tree_is_the_same_where_a_daemon_names_the_changes(
    in_sandbox: Sandboxes,
    docker_sandboxes: Sandboxes,
    trees: Tree,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
) -> None:
    monkeypatch.setattr(differences, "REQUEST", 1)  # as if the tree were large
    monkeypatch.setattr(differences, "GLANCE", 1)
    expected = in_sandbox.shell(text, capture=True)
    found = docker_sandboxes.shell(text, capture=True)
    assert left(found.capture, trees, store) == left(expected.capture, trees, store)


def test_a_file_with_a_capability_is_no_change(in_daemon: Sandboxes) -> None:
    assert in_daemon.daemon is not None
    engine = docker_engine(in_daemon.home / "store", tuple(in_daemon.daemon.items()))
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    with engine.store.transaction() as group:
        body = group.add_bytes(b"#!\n")
    layers = layers_of(in_daemon.lowers, engine.store)
    tool = file("opt/tool", body, 3, 0o755)._replace(capability=capability)
    layers.append(Layer([directory("opt"), tool]))
    recorded = Recorded()
    with engine.ground(layers) as ground:
        engine.run(ground, Command(("/bin/sh", "-c", "echo y > /opt/other")), capture=recorded)
    assert recorded.summary() == [("opt", "d"), ("opt/other", "f")]


def test_what_others_own_in_a_tree_can_be_written_to(in_daemon: Sandboxes) -> None:
    assert in_daemon.daemon is not None
    engine = docker_engine(in_daemon.home / "store", tuple(in_daemon.daemon.items()))
    layers = layers_of(in_daemon.lowers, engine.store)
    layers.append(Layer([directory("home", 0o755, 1000, 1000)]))
    recorded = Recorded()
    with engine.ground(layers) as ground:
        ended = engine.run(ground, Command(("/bin/sh", "-c", "echo y > /home/x")), capture=recorded)
    assert ended.exit_code == 0
    assert recorded.summary() == [("home", "d"), ("home/x", "f")]


@pytest.mark.parametrize("text", ["mkfifo /etc/group", "mkfifo /var/pipe; ln -s ../var/pipe /etc/group"])
def test_what_a_daemon_would_wait_for_ever_for_is_an_error(in_daemon: Sandboxes, text: str) -> None:
    with pytest.raises(BuildFailedError, match="/etc/group"):
        in_daemon.shell(f"rm /etc/group; {text}", capture=True)


def test_more_layers_than_a_daemon_takes(in_daemon: Sandboxes) -> None:
    assert in_daemon.daemon is not None
    engine = docker_engine(in_daemon.home / "store", tuple(in_daemon.daemon.items()))
    layers = layers_of(in_daemon.lowers, engine.store)
    with engine.store.transaction() as group:
        for number in range(130):
            text = b"%d" % number
            layers.append(Layer([directory("opt"), file(f"opt/{number}", group.add_bytes(text), len(text))]))
    printed: list[bytes] = []
    with engine.ground(layers) as ground:
        engine.run(ground, Command(("/bin/sh", "-c", "ls /opt | wc -l; cat /opt/0")), output=printed.append)
    assert printed == [b"130\n", b"0"]


def test_what_lies_where_something_is_mounted_is_hidden_and_stays(
    in_daemon: Sandboxes, tmp_path: Path
) -> None:
    given, taken = tmp_path / "given", tmp_path / "taken"
    given.mkdir()
    (given / "mine").write_text("mine\n")
    outcome = in_daemon.shell(
        "ls /root /usr /var; echo x > /usr/x; echo y > /var/y",
        inputs={"/root": given},
        outputs={"/usr": taken},
        empty=("/var",),
        capture=True,
    )
    assert outcome.text.split() == ["/root:", "mine", "/usr:", "/var:"]
    assert outcome.capture.summary() == []
    assert [path.name for path in taken.iterdir()] == ["x"]
    assert Digest.of((taken / "x").read_bytes()) == Digest.of(b"x\n")
