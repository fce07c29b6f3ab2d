"""What a command sees and is given, and what is told of how it ended."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from reprobuild.engine import world
from reprobuild.engine.protocol import ENVIRONMENT, Command, thread_environment
from reprobuild.errors import ReprobuildError
from reprobuild.value import replace as changed
from tests.require import require
from tests.sandboxes import PROJECT, Sandboxes, shared_folder

# How it ended.

ENDINGS = {
    "well": ("exit 0", 0),
    "badly": ("exit 7", 7),
    "by a signal": ("kill -9 $$", 137),
    "by its own signal": ("kill -TERM $$", 143),
    "with a code that bubblewrap uses too": ("exit 1", 1),
    "with something left running": ("sleep 1000 & exit 4", 4),
    "with a daemon that holds the output": ("(trap '' HUP TERM; sleep 1000) & echo done; exit 5", 5),
}


@pytest.mark.parametrize(("text", "code"), ENDINGS.values(), ids=ENDINGS)
def test_the_exit_code_is_the_commands_own(worlds: Sandboxes, text: str, code: int) -> None:
    result = worlds.shell(text).result
    assert result.exit_code == code
    assert not result.timed_out


def test_a_program_that_is_not_there_gives_127(worlds: Sandboxes) -> None:
    result = worlds.run(Command(("no-such-program",))).result
    assert result.exit_code == 127
    assert "no-such-program" in result.tail[-1]


def test_after_the_time_limit_everything_has_ended(worlds: Sandboxes) -> None:
    outcome = worlds.shell("echo begun; sleep 1000 & sleep 1000", timeout=1.0)
    assert outcome.result.timed_out
    assert outcome.result.exit_code == 137
    assert outcome.result.tail == ("begun",)


def test_a_command_that_is_held_back_finds_what_came_meanwhile(worlds: Sandboxes) -> None:
    with shared_folder(worlds.uid) as folder:
        late = dataclasses.replace(worlds, held="late").shell(
            "cat /in/late", inputs={"/in": folder}, timeout=4.0
        )
    assert (late.text, late.result.exit_code, late.result.timed_out) == ("it is here\n", 0, False)


def test_a_command_that_is_held_back_for_good_never_begins(worlds: Sandboxes) -> None:
    before = worlds.leftovers()
    never = dataclasses.replace(worlds, held="never").shell("echo it has begun", timeout=1.0)
    assert (never.text, never.result.exit_code, never.result.timed_out) == ("", 137, False)
    assert worlds.leftovers() == before


def test_a_caller_with_many_open_files(worlds: Sandboxes) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with open(os.devnull, "rb") as file:
        many = [os.dup(file.fileno()) for _ in range(1100)]
    try:
        assert many[-1] > 1024
        serving = dataclasses.replace(worlds, gateway={})
        outcome = serving.shell("cat; wget -q -O /dev/null http://192.0.2.1/; exit 7", timeout=60)
        assert outcome.result.exit_code == 7
        killed = worlds.shell("echo begun; sleep 1000", timeout=1.0).result
        assert killed.timed_out
    finally:
        for one in many:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_memory_than_allowed_ends_it(worlds: Sandboxes) -> None:
    greedy = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"
    result = worlds.shell(greedy, memory=64 << 20).result
    assert result.exit_code != 0
    assert result.out_of_memory


def test_enough_memory_is_no_limit(worlds: Sandboxes) -> None:
    result = worlds.shell("x=$(seq 1000); echo ${#x}", memory=64 << 20).result
    assert (result.exit_code, result.out_of_memory, result.tail) == (0, False, ("3892",))


def test_a_workdir_that_is_not_there_is_an_error(worlds: Sandboxes) -> None:
    with pytest.raises(ReprobuildError, match="/nowhere") as caught:
        worlds.shell("true", workdir="/nowhere")
    assert "workdir" in caught.value.hint


# What it printed.

OUTPUT = {
    "none": ("true", ()),
    "a line": ("echo one", ("one",)),
    "without a line end": ("printf one", ("one",)),
    "both streams in order": ("echo one; echo two >&2; echo three", ("one", "two", "three")),
    "no UTF-8": ("printf 'a\\377b\\n'", ("a\ufffdb",)),
    "a carriage return": ("printf 'a\\r\\n'", ("a",)),
    "the last hundred": ("seq 250", tuple(str(number) for number in range(151, 251))),
}


@pytest.mark.parametrize(("text", "tail"), OUTPUT.values(), ids=OUTPUT)
def test_the_last_lines_are_kept(worlds: Sandboxes, text: str, tail: tuple[str, ...]) -> None:
    assert worlds.shell(text).result.tail == tail


def test_output_comes_whole_and_a_long_line_is_bounded_in_the_tail(worlds: Sandboxes) -> None:
    outcome = worlds.shell("yes abcdefg | head -c 10000000 | tr '\\n' x; echo; echo end")
    assert len(outcome.printed) == 10_000_005
    first, last = outcome.result.tail
    assert len(first) == 4096
    assert last == "end"


def test_standard_input_reaches_it_and_is_empty_otherwise(worlds: Sandboxes) -> None:
    command = Command(("cat",))
    assert worlds.run(command, stdin=b"hello").printed == b"hello"
    assert worlds.run(command).printed == b""


# The world.


def test_the_environment_is_the_tables_and_nothing_else(
    worlds: Sandboxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "host")
    seen = dict(line.split("=", 1) for line in worlds.shell("env", env={"MINE": "1"}).text.splitlines())
    inherited_by_shells = {name: seen.pop(name) for name in ("PWD", "SHLVL", "OLDPWD") if name in seen}
    assert inherited_by_shells["PWD"] == "/"
    assert seen == {**ENVIRONMENT, **thread_environment(1), "MINE": "1"}


WORLD = {
    "user": ("echo $(id -u):$(id -g)", "0:0"),
    "umask": ("umask", "0022"),
    "host name": ("hostname", "reprobuild"),
    "host name, in a file": ("cat /etc/hostname", "reprobuild"),
    "core files": ("ulimit -c", "0"),
    "open files": ("ulimit -n", str(world.OPEN_FILES[0])),
    "open files at most": ("ulimit -H -n", str(world.OPEN_FILES[1])),
    "stack": ("ulimit -s", "8192"),
    "shared memory": (
        "dd if=/dev/zero of=/dev/shm/x bs=1M count=2000 2>/dev/null; stat -c %s /dev/shm/x",
        str(world.SHM_SIZE),
    ),
    "orphans are reaped": ("(sleep 0.1 &); sleep 0.3; ps -o comm | grep -c sleep || true", "0"),
    "no capabilities": ("sed -n 's/^Cap[A-Z][a-z]*:.0*$/none/p' /proc/self/status | wc -l", "5"),
    "no new privileges": ("sed -n 's/^NoNewPrivs:.//p' /proc/self/status", "1"),
    "network": ("ip -o link | wc -l", "1"),
    "loopback is up": ("ip -o link show up | sed 's/^1: \\(lo\\):.*/\\1/'", "lo"),
    "temporary folder": ("stat -c %a /tmp", "1777"),
    "descriptors": (
        'for fd in /proc/$$/fd/*; do [ ! -e $fd ] || o="$o ${fd##*/}"; done; echo $o',
        "0 1 2",
    ),
    "workdir": ("pwd; echo $PWD", "/\n/"),
}


@pytest.mark.parametrize(("text", "answer"), WORLD.values(), ids=WORLD)
def test_the_world_is_the_tables(worlds: Sandboxes, text: str, answer: str) -> None:
    assert worlds.shell(text).text.strip() == answer


def test_the_first_process_is_an_init(worlds: Sandboxes) -> None:
    expected = "bwrap" if worlds.daemon is None else "docker-init"
    assert worlds.shell("cat /proc/1/comm").text.strip() == expected


def test_the_devices_are_the_tables(worlds: Sandboxes) -> None:
    shown = set(worlds.shell("ls /dev").text.split())
    if worlds.daemon is None or Path("/proc/kcore").exists():
        assert "core" in shown
    assert " ".join(sorted(shown - {"core"})) == (
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    )


def test_of_the_hardware_only_processors_are_shown(worlds: Sandboxes) -> None:
    shown = worlds.shell("find /sys/* -type f | sed 's,^/sys/devices/system/\\([a-z]*\\)/.*,\\1,'")
    assert set(shown.text.split()) <= {"cpu", "node"}
    assert "cpu" in shown.text


def test_a_sandbox_shows_no_more_of_the_hardware_than_that(sandboxes: Sandboxes) -> None:
    shown = set(sandboxes.shell("cd /sys/devices/system; echo *; ls -d /sys/*").text.split())
    assert shown <= {"cpu", "node", "/sys/devices"}


def test_the_files_of_fixed_content_are_on_top(worlds: Sandboxes) -> None:
    for name, content in world.FILES.items():
        assert worlds.shell(f"cat /{name}").printed == content


OWNERSHIP = {
    "chown": "touch /f; chown 5:6 /f; chown -h guest /f",
    "tar": "mkdir /a; touch /a/b; tar cf /x.tar /a; rm -r /a; tar xpf /x.tar; stat /a/b",
    "su": "su guest -c true",
    "setuid": "chmod 4755 /bin/busybox; stat -c %a /bin/busybox",
}


@pytest.mark.parametrize("text", OWNERSHIP.values(), ids=OWNERSHIP)
def test_changes_of_owner_and_identity_succeed(worlds: Sandboxes, text: str) -> None:
    outcome = worlds.shell(f"set -e; {text}; echo well")
    assert outcome.result.tail[-1] == "well"


def test_an_archive_with_foreign_owners_unpacks(worlds: Sandboxes) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("theirs")
        member.uid, member.gid, member.uname = 4711, 4712, "guest"
        tar.addfile(member)
    outcome = worlds.run(
        Command(("/bin/tar", "xpvf", "-"), workdir="/tmp"), capture=True, stdin=archive.getvalue()
    )
    assert outcome.result.exit_code == 0
    assert outcome.capture["tmp/theirs"][3:5] == (0, 0)


# What goes in and out.


def test_inputs_are_read_only_and_leave_nothing(worlds: Sandboxes) -> None:
    file, folder = worlds.home / "input.txt", worlds.home / "folder"
    file.write_text("hello\n")
    folder.mkdir(exist_ok=True)
    (folder / "inner").write_text("there\n")
    outcome = worlds.shell(
        "cat /in/a.txt /data/deep/inner; echo x 2>/dev/null > /in/a.txt || echo no;"
        " touch /data/deep/y 2>/dev/null || echo no",
        capture=True,
        inputs={"/in/a.txt": file, "/data/deep": folder},
    )
    assert outcome.text == "hello\nthere\nno\nno\n"
    assert outcome.capture.summary() == []


def test_an_input_that_only_the_caller_can_read_can_be_read(worlds: Sandboxes) -> None:
    file = worlds.home / "private.txt"
    file.write_text("mine\n")
    file.chmod(0o600)
    if os.geteuid() == 0 and worlds.identity == "user":
        os.chown(file, worlds.uid, worlds.uid)
    outcome = worlds.shell("cat /in/private.txt", inputs={"/in/private.txt": file})
    assert outcome.text == "mine\n"


def test_an_input_that_is_not_there_is_an_error(worlds: Sandboxes) -> None:
    with pytest.raises(ReprobuildError, match="absent"):
        worlds.shell("true", inputs={"/in": worlds.home / "absent"})


def test_outputs_are_plain_files_and_folders_of_the_caller(worlds: Sandboxes) -> None:
    to = worlds.home / "out"
    outcome = worlds.shell(
        "cd /out; echo a > a; mkdir -p d/e; echo b > d/e/b; ln -s /etc/passwd link; ln -s . d/up;"
        " mkfifo pipe; echo c > closed; chmod 0 closed; echo x > run; chmod 755 run; mkdir shut;"
        " echo s > shut/s; chmod 0 shut",
        capture=True,
        outputs={"/out": to},
    )
    assert outcome.result.tail == ()
    found = sorted(str(path.relative_to(to)) for path in to.rglob("*"))
    assert found == ["a", "closed", "d", "d/e", "d/e/b", "run", "shut", "shut/s"]
    assert (to / "closed").read_text() == "c\n"
    assert os.access(to / "run", os.X_OK)
    assert {path.stat().st_uid for path in to.rglob("*")} == {
        worlds.uid if worlds.identity == "user" else os.geteuid()
    }
    assert outcome.capture.summary() == []


def test_an_output_does_not_write_through_a_link_of_the_host(worlds: Sandboxes) -> None:
    to, precious = worlds.home / "linked", worlds.home / "precious"
    to.mkdir(exist_ok=True)
    precious.write_text("precious")
    (to / "a").symlink_to(precious)
    with pytest.raises((OSError, AssertionError), match="a"):
        worlds.shell("echo x > /out/a", outputs={"/out": to})
    assert precious.read_text() == "precious"


# What is asked too much.


def test_what_is_not_built_says_so(worlds: Sandboxes) -> None:
    with pytest.raises(ReprobuildError, match="not built"):
        worlds.shell("true", owners=True)


# Root of a container.

WITHOUT_MOUNTS = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_SYS_ADMIN = 24, 21
assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-m", "tests.sandboxes", "0"])
"""

REACHABLE = {"reachable": (0o755, "0"), "not reachable": (0o700, "can't reach")}


@pytest.mark.parametrize(("mode", "answer"), REACHABLE.values(), ids=REACHABLE)
def test_root_without_mounts_uses_the_paths_as_they_are(
    all_sandboxes: dict[str, Sandboxes], mode: int, answer: str
) -> None:
    require("root", "" if "root" in all_sandboxes else "the tests do not run as root")
    root = all_sandboxes["root"]
    before = root.home.stat().st_mode
    root.home.chmod(mode)
    try:
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_MOUNTS],
            input=root.asked(changed(root.base, argv=("id", "-u"))),
            capture_output=True,
            text=True,
            cwd=PROJECT,
            timeout=60,
        )
    finally:
        root.home.chmod(before)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert answer in (told["error"] if "error" in told else told["result"]["tail"])
