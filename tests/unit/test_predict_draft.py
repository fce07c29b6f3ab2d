"""What is written beside a file goes away with its process, however that ended, and never with another's."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from reprobuild.predict.places import written

WRITER = """
import sys
from reprobuild.predict.places import written
with written(sys.argv[1]) as write:
    write(b"half of ")
    print(flush=True)
    sys.stdin.readline()
    write(b"it")
"""


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Give another process that has written half of ``out``."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        answer: IO[bytes] | None = process.stdout
        assert answer is not None
        answer.readline()
        yield process
        process.kill()


def put(path: Path) -> None:
    with written(str(path)) as write:
        write(b"all")


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path, writer: subprocess.Popen[bytes]) -> None:
    assert len(parts(tmp_path)) == 1
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    put(tmp_path / "other")
    assert len(parts(tmp_path)) == 1
    put(tmp_path / "out")
    assert parts(tmp_path) == []
    assert (tmp_path / "out").read_bytes() == b"all"


def test_what_another_process_writes_stays(tmp_path: Path, writer: subprocess.Popen[bytes]) -> None:
    put(tmp_path / "out")
    assert len(parts(tmp_path)) == 1
    writer.communicate(b"\n")
    assert (tmp_path / "out").read_bytes() == b"half of it"
    assert parts(tmp_path) == []


def test_only_drafts_of_the_same_file_are_taken_away(tmp_path: Path) -> None:
    others = [
        "out.1.part",
        "out.part",
        "out.gz.reprobuild-0123abcd.part",
        "xout.reprobuild-0123abcd.part",
        "out.reprobuild-0123abcd.part.gz",
        "out.reprobuild-0123.part",
    ]
    for name in (*others, "out.reprobuild-0123abcd.part"):
        (tmp_path / name).write_text("x")
    (tmp_path / "out.reprobuild-00000000.part").symlink_to("out.1.part")
    os.mkfifo(tmp_path / "out.reprobuild-00000001.part")
    (tmp_path / "out.reprobuild-00000002.part").mkdir()
    put(tmp_path / "out")
    kept = [f"out.reprobuild-0000000{n}.part" for n in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, *kept, "out"])


def test_two_that_write_one_file_do_not_mix(tmp_path: Path) -> None:
    with written(str(tmp_path / "out")) as first:
        first(b"first")
        put(tmp_path / "out")
        first(b" too")
    assert (tmp_path / "out").read_bytes() == b"first too"
    assert parts(tmp_path) == []


def test_a_draft_that_was_taken_for_a_left_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def flock(descriptor: int, _: int) -> None:
        if not taken:
            taken.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            os.unlink(taken[0])

    monkeypatch.setattr(fcntl, "flock", flock)
    put(tmp_path / "out")
    assert taken and (tmp_path / "out").read_bytes() == b"all"


def test_without_locks_nothing_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        assert operation & fcntl.LOCK_EX
        raise OSError(errno.ENOTSUP, "Operation not supported")

    (tmp_path / "out.reprobuild-0123abcd.part").write_text("x")
    monkeypatch.setattr(fcntl, "flock", flock)
    put(tmp_path / "out")
    assert parts(tmp_path) == ["out.reprobuild-0123abcd.part"]
    assert (tmp_path / "out").read_bytes() == b"all"


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    put(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt), written(str(tmp_path / "out")) as write:
        write(b"half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_bytes() == b"all"
