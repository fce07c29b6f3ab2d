"""Attempts to get out of a sandbox, or at something of the host: none succeeds (DESIGN section 8)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reprobuild.errors import ReprobuildError
from reprobuild.value import replace as changed
from tests.roots import give_to
from tests.sandboxes import Sandboxes

SHELL_ATTEMPTS = {
    "write a setting of the kernel": "echo x > /proc/sys/kernel/core_pattern",
    "write the host name's setting": "echo x > /proc/sys/kernel/hostname",
    "write a limit of user namespaces": "echo 0 > /proc/sys/user/max_user_namespaces",
    "write a setting of the network": "echo 1 > /proc/sys/net/ipv4/ip_forward",
    "change the mode of a setting": "chmod 777 /proc/sys/kernel/core_pattern",
    "press a magic key": "echo h > /proc/sysrq-trigger",
    "mount": "mount -t tmpfs none /tmp",
    "bind": "mount -o bind /proc /tmp",
    "remount what is read-only": "mount -o remount,rw /sys",
    "unmount what is covered": "umount /proc/sys || umount -l /proc/kcore",
    "new user namespace": "unshare -U true",
    "new user and mount namespace": "unshare -Urm true",
    "new mount namespace": "unshare -m true",
    "new network namespace": "unshare -n true",
    "host name": "hostname other",
    "make a device": "mknod /tmp/disk b 8 0",
    "make a character device": "mknod /tmp/mem c 1 1",
    "read physical memory": "cat /dev/mem || head -c 1 /dev/kmem",
    "read the kernel's memory": 'test -n "$(head -c 1 /proc/kcore)"',
    "read keys": 'test -n "$(cat /proc/keys)"',
    "write into another process's maps": "echo 0 0 1 > /proc/self/uid_map",
    "write the score of the first process": "echo -1000 > /proc/1/oom_score_adj",
    "change the network": "ip link set lo down",
    "add an address": "ip addr add 10.1.1.1/24 dev lo",
    "write to the hardware": "for f in $(find /sys -type f); do echo 0 > $f && exit 0; done; false",
    "load a module": "cat /proc/kallsyms > /dev/null; find /sys/module/* | { read one; }",
    "be another control group": "find / -xdev -name cgroup.procs | grep . ",
    "end the first process": "kill -9 1; sleep 0.2; ! kill -0 1",
}


@pytest.mark.parametrize("text", SHELL_ATTEMPTS.values(), ids=SHELL_ATTEMPTS)
def test_an_attempt_of_a_shell_fails(worlds: Sandboxes, text: str) -> None:
    outcome = worlds.shell(f"if ( {text} ); then echo OUT; else echo held; fi")
    assert outcome.result.tail[-1] == "held", outcome.text


@pytest.mark.parametrize(
    "wish",
    [
        pytest.param({"env": {"A": "x\0--ro-bind\0/\0/tmp"}}, id="value of a variable"),
        pytest.param({"env": {"A\0x\0--ro-bind\0/\0/tmp\0--setenv\0B": "x"}}, id="name of a variable"),
        pytest.param({"workdir": "/\0--ro-bind\0/\0/tmp"}, id="workdir"),
        pytest.param({"argv": ("/bin/sh", "-c", "true\0--ro-bind\0/\0/tmp")}, id="argument"),
        pytest.param({"env": {"A": "\ud800"}}, id="no text"),
    ],
)
def test_no_word_of_a_recipe_becomes_an_option_of_the_sandbox(
    worlds: Sandboxes, wish: dict[str, Any]
) -> None:
    command = changed(worlds.base, argv=("/bin/sh", "-c", "ls /tmp; echo ran"))
    with pytest.raises(ReprobuildError, match="no process can be given"):
        worlds.run(changed(command, **wish))


# Calls that no shell has a word for: the name tells what is tried; each must fail, or find nothing.
CALL_ATTEMPTS = {
    "open_by_handle_at": "fails(call(304, -100, 0, 0))",
    "keyctl": "fails(call(250, 0, -3, 1))",
    "add_key": "fails(call(248, b'user', b'a', b'b', 1, -2))",
    "bpf": "fails(call(321, 0, 0, 0))",
    "perf_event_open": "fails(call(298, 0, 0, -1, -1, 0))",
    "userfaultfd": "fails(call(323, 0))",
    "kexec_load": "fails(call(246, 0, 0, 0, 0))",
    "setns": "fails(call(308, 0, 0))",
    "clone3": "fails(call(435, 0, 0))",
    "clone of a user namespace": "fails(call(56, 0x10000011, 0, 0, 0, 0))",
    "unshare of a time namespace": "fails(call(272, 0x80))",
    "chroot": "fails(call(161, b'/'))",
    "pivot_root": "fails(call(155, b'/', b'/'))",
    "fsopen": "fails(call(430, b'tmpfs', 0))",
    "open_tree": "fails(call(428, -100, b'/', 1))",
    "move_mount": "fails(call(429, -100, b'/', -100, b'/tmp', 0))",
    "mount_setattr": "fails(call(442, -100, b'/', 0, 0, 0))",
    "io_uring_setup": "fails(call(425, 1, 0))",
    "reboot": "fails(call(169, 0xfee1dead, 672274793, 0x01234567, 0))",
    "swapon": "fails(call(167, b'/tmp/x', 0))",
    "settimeofday": "fails(call(164, 0, 0))",
    "clock_settime": "fails(call(227, 0, 0))",
    "acct": "fails(call(163, 0))",
    "sethostname": "fails(call(170, b'x', 1))",
    "iopl": "fails(call(172, 3))",
    "init_module": "fails(call(175, 0, 0, b''))",
    "x32 calls": "fails(call(0x40000000 + 39))",
    "typing into a terminal": "fails(call(16, 0, 0x5412, b'x'))",
    "typing, with a number that a filter might cut": "fails(call(16, 0, 0x100005412, b'x'))",
    "vsock": "raises(lambda: socket.socket(40, socket.SOCK_STREAM))",
    "raw socket": "raises(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))",
    "packet socket": "raises(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))",
    "no capability to be had": "fails(call(157, 47, 2, 0, 0, 0))",
    "new privileges": "call(157, 39, 0, 0, 0, 0) == 1 and fails(call(157, 38, 0, 0, 0, 0))",
    "limits beyond the hard ones": "fails(call(160, 7, struct.pack('QQ', 1 << 19, 1 << 19)))",
    "root of the first process": "os.stat('/proc/1/root').st_ino == os.stat('/').st_ino",
    "working folder of the first process": (
        "raises(lambda: os.listdir('/proc/1/cwd')) or os.path.samefile('/proc/1/cwd', '/')"
    ),
    "above the root": "os.path.samefile('/../../..', '/') and os.path.samefile('/proc/self/root/..', '/')",
    "above a covered folder": "os.path.samefile('/proc/sys/..', '/proc')",
    "other processes": "all(int(p) < 100 for p in os.listdir('/proc') if p.isdigit())",
    "open files": (
        "not any(os.path.exists(f'/proc/self/fd/{n}') and n > 2 for n in range(3, 1024) if n != listing)"
    ),
    "environment of the first process": (
        "{one.split('=')[0] for one in open('/proc/1/environ').read().split(chr(0))}"
        " <= {'', 'PWD', 'SHLVL', '_'}"
    ),
    "the host's network": "[line.split(':')[0].strip() for line in open('/proc/net/dev')][2:] == ['lo']",
}

_PROBE = """
import ctypes, json, os, socket, struct, sys
listing = -1
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    return libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
def fails(result):
    return result == -1
def raises(attempt):
    try:
        attempt()
    except OSError:
        return True
    return False
for name, attempt in json.load(sys.stdin).items():
    print(name, "held" if eval(attempt) else "OUT", sep=": ")
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are x86_64's")
def test_attempts_of_calls_fail(worlds: Sandboxes) -> None:
    # Of another architecture's calls, the filter of a container ends who makes them.
    attempts = {
        name: attempt
        for name, attempt in CALL_ATTEMPTS.items()
        if worlds.daemon is None or name not in ("x32 calls", "environment of the first process")
    }
    told = worlds.python(_PROBE, stdin=json.dumps(attempts).encode()).text
    assert told.splitlines() == [f"{name}: held" for name in attempts]


def test_files_belong_outside_to_a_uid_that_owns_nothing_else(sandboxes: Sandboxes) -> None:
    assert sandboxes.shell("stat -L -c %u /proc/self").text == "0\n"
    mapped = sandboxes.shell("cat /proc/self/uid_map /proc/self/gid_map").text.split()
    assert mapped == ["0", mapped[1], "1"] * 2
    # Each namespace shows the ids of the one above it: of bubblewrap's own, that is the host's.
    assert int(mapped[1]) == sandboxes.uid
    if sandboxes.identity == "root":
        assert not any(uid == str(sandboxes.uid) for uid in _owners_of_the_host())


def _owners_of_the_host() -> set[str]:
    return {line.split(":")[2] for line in Path("/etc/passwd").read_text().splitlines() if ":" in line}


def test_no_file_of_the_host_is_below_the_root(sandboxes: Sandboxes) -> None:
    secret = sandboxes.home / "secret-of-the-host"
    secret.write_text("secret")
    secret.chmod(0o644)
    found = sandboxes.shell("find / -name 'secret-of-*' 2>/dev/null; cat /proc/*/root/etc/shadow 2>/dev/null")
    assert found.text == ""


def test_links_of_the_tree_lead_nowhere_outside(sandboxes: Sandboxes) -> None:
    outside = sandboxes.home / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "file").write_text("outside")
    layer = sandboxes.home / "links"
    layer.mkdir()
    (layer / "absolute").symlink_to(outside / "file")
    (layer / "relative").symlink_to(f"{'../' * 30}{outside}/file")
    (layer / "mount").symlink_to(outside)
    if os.geteuid() == 0:
        give_to(layer, sandboxes.uid)
    stacked = replace(sandboxes, lowers=(layer, *sandboxes.lowers))
    outcome = stacked.shell("cat /absolute; cat /relative; echo x > /mount/new; ls /mount")
    assert "outside\n" not in outcome.text.replace("can't", "")
    assert os.listdir(outside) == ["file"]
    shutil.rmtree(layer)


def test_an_abstract_socket_of_the_host_can_not_be_reached(sandboxes: Sandboxes) -> None:
    name = f"reprobuild-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{name}")
        listening.listen()
        with socket.socket(socket.AF_UNIX) as here:
            here.connect(f"\0{name}")
        answer = sandboxes.python(
            f"import socket; s = socket.socket(socket.AF_UNIX); print(s.connect_ex('\\0{name}'))"
        ).text
    assert answer == "111\n"


def test_a_port_of_the_host_can_not_be_reached(sandboxes: Sandboxes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        answer = sandboxes.python(
            f"import socket; print(socket.socket().connect_ex(('127.0.0.1', {port})))"
        ).text
    assert answer == "111\n"


def test_a_process_of_the_host_can_not_be_ended(sandboxes: Sandboxes) -> None:
    # Belongs to the very uid that the sandbox has outside, where root runs the tests.
    owner = sandboxes.uid if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "1000"], cwd="/", user=owner, group=owner) as process:
        try:
            sandboxes.shell(f"kill -9 {process.pid}; kill -9 -1")
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)


def test_descriptors_of_the_caller_do_not_leak(sandboxes: Sandboxes, tmp_path: Path) -> None:
    (tmp_path / "open").write_text("open")
    with open(tmp_path / "open") as file:
        os.set_inheritable(file.fileno(), True)
        answer = sandboxes.python(
            "import os\nfor n in range(3, 1024):\n"
            "    try: print(os.readlink(f'/proc/self/fd/{n}'))\n    except OSError: pass",
        ).text
    assert answer == ""


def test_the_first_process_shows_no_folder_of_the_host(sandboxes: Sandboxes) -> None:
    shown = sandboxes.shell("tr '\\0' '\\n' < /proc/1/cmdline; cat /proc/1/environ").text
    assert str(sandboxes.home) not in shown


def test_a_setuid_program_gives_nothing(sandboxes: Sandboxes) -> None:
    outcome = sandboxes.shell(
        "mkdir /mine; cp /bin/busybox /mine; chmod 6755 /mine/busybox; /mine/busybox id -u; "
        "/mine/busybox sed -n 's/^CapEff:.0*$/none/p' /proc/self/status"
    )
    assert outcome.result.tail == ("0", "none")
