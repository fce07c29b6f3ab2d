"""Byte code in what a command changed, and below what is placed: whose it is, and its time."""

from __future__ import annotations

import os
import py_compile
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from reprobuild.images.bytecode import source_of, without_stale
from reprobuild.images.normal_form import STALE
from reprobuild.tree import NORMAL_TIME, difference, directory, link, overlay
from tests.unit.worlds import NOW, World

MAGIC = {"2.7": 62211, "3.2": 3180, "3.3": 3230, "3.6": 3379, "3.7": 3394, "3.11": 3495, "3.14": 3627}


def pyc(version: str, time: int, size: int, code: bytes = b"code") -> bytes:
    """A byte code file as that version writes it (importlib._bootstrap_external)."""
    magic = struct.pack("<H", MAGIC[version]) + b"\r\n"
    if version in ("2.7", "3.2"):
        return magic + struct.pack("<I", time) + code
    flags = b"" if version in ("3.3", "3.6") else bytes(4)
    return magic + flags + struct.pack("<II", time, size) + code


def pyc_by_hash(checked: bool) -> bytes:
    return (
        struct.pack("<H", MAGIC["3.11"])
        + b"\r\n"
        + struct.pack("<I", 1 | checked << 1)
        + b"hash1234"
        + b"code"
    )


CACHED = "m/__pycache__/x.cpython-311.pyc"


def body(world: World, path: str) -> bytes | None:
    entry = world.normal().tree.get(path)
    return None if entry is None or entry.digest is None else world.bodies[entry.digest]


@pytest.mark.parametrize("version", MAGIC)
@pytest.mark.parametrize("where", [CACHED, "m/x.pyc", "m/__pycache__/x.cpython-311.opt-1.pyc"])
def test_the_time_in_byte_code_is_rewritten_where_it_is_the_sources(version: str, where: str) -> None:
    world = (
        World(directory("m/__pycache__")).write("m/x.py", b"x = 1", NOW).write(where, pyc(version, NOW, 5))
    )
    assert body(world, where) == pyc(version, NORMAL_TIME, 5)
    assert world.normal().dropped == ()


def test_the_size_of_a_rewritten_file_is_that_of_its_body() -> None:
    world = World(directory("m/__pycache__")).write("m/x.py", b"x = 1").write(CACHED, pyc("3.11", NOW, 5))
    entry = world.normal().tree.get(CACHED)
    assert entry is not None and entry.size == len(pyc("3.11", NOW, 5))


def test_this_python_takes_the_rewritten_byte_code(tmp_path: Path) -> None:
    source = tmp_path / "x.py"
    source.write_text("x = 1")
    os.utime(source, (NOW, NOW))
    mode = py_compile.PycInvalidationMode.TIMESTAMP
    cached = Path(py_compile.compile(str(source), doraise=True, invalidation_mode=mode) or "")
    name = f"m/__pycache__/{cached.name}"
    world = World(directory("m/__pycache__")).write("m/x.py", b"x = 1", NOW).write(name, cached.read_bytes())
    cached.write_bytes(body(world, name) or b"")
    # Another text of the same size tells which of the two Python takes.
    source.write_text("x = 2")
    os.utime(source, (NORMAL_TIME, NORMAL_TIME))
    command = [sys.executable, "-c", "import x; print(x.x)"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"


STALE_CASES = {
    "other time": pyc("3.11", NOW - 1, 5),
    "other size": pyc("3.11", NOW, 6),
    "normal time": pyc("3.11", NORMAL_TIME, 5),
    "unknown flags": pyc("3.11", NOW, 5)[:4] + b"\x08\0\0\0" + pyc("3.11", NOW, 5)[8:],
    "cut off": pyc("3.11", NOW, 5)[:15],
    "empty": b"",
    "no byte code": b"#!/bin/sh\nexit 0\n",
}


@pytest.mark.parametrize("data", STALE_CASES.values(), ids=STALE_CASES)
def test_byte_code_that_is_not_the_sources_is_dropped(data: bytes) -> None:
    world = World(directory("m/__pycache__")).write("m/x.py", b"x = 1", NOW).write(CACHED, data)
    assert CACHED not in world.normal().tree
    assert [tuple(item) for item in world.normal().dropped] == [(CACHED, STALE)]


def test_byte_code_in_a_cache_without_a_source_is_dropped() -> None:
    world = World(directory("m/__pycache__")).write(CACHED, pyc("3.11", NOW, 5))
    assert CACHED not in world.normal().tree


def test_byte_code_of_a_source_of_the_tree_below_fits_the_normal_time() -> None:
    world = World(("m/x.py", b"x = 1"), directory("m/__pycache__"))
    assert body(world.write(CACHED, pyc("3.11", NORMAL_TIME, 5)), CACHED) == pyc("3.11", NORMAL_TIME, 5)
    other = World(("m/x.py", b"x = 1"), directory("m/__pycache__")).write(CACHED, pyc("3.11", NOW, 5))
    assert CACHED not in other.normal().tree


def test_byte_code_of_a_touched_source_becomes_what_it_was() -> None:
    world = World(("m/x.py", b"x = 1"), (CACHED, pyc("3.11", NORMAL_TIME, 5)))
    world.write("m/x.py", b"x = 1", NOW).write(CACHED, pyc("3.11", NOW, 5))
    assert world.difference() == ([], [])


@pytest.mark.parametrize("version", ["2.7", "3.11"])
def test_byte_code_alone_beside_no_source_gets_the_normal_time(version: str) -> None:
    world = World(directory("m")).write("m/x.pyc", pyc(version, NOW, 5))
    assert body(world, "m/x.pyc") == pyc(version, NORMAL_TIME, 5)


def test_a_file_that_only_looks_like_byte_code_by_its_name_stays() -> None:
    world = World(directory("m")).write("m/data.pyc", b"no byte code")
    assert body(world, "m/data.pyc") == b"no byte code"


@pytest.mark.parametrize("checked", [True, False])
def test_byte_code_known_by_hash_stays(checked: bool) -> None:
    data = pyc_by_hash(checked)
    world = World(directory("m/__pycache__")).write("m/x.py", b"x = 1").write(CACHED, data)
    assert body(world, CACHED) == data
    below = World(("m/x.py", b"x = 1"), (CACHED, data)).write("m/x.py", b"x = 2")
    assert body(below, CACHED) == data


def test_byte_code_below_goes_when_its_source_changes() -> None:
    # Size and normal time are those of the old source, so Python would take it.
    world = World(("m/x.py", b"x = 1"), (CACHED, pyc("3.11", NORMAL_TIME, 5)), ("m/y.py", b""))
    assert world.write("m/x.py", b"x = 2").difference() == (
        ["m", "m/__pycache__", "m/x.py"],
        [CACHED],
    )
    assert [tuple(item) for item in world.normal().dropped] == [(CACHED, STALE)]


def test_byte_code_below_goes_when_its_source_goes_or_comes() -> None:
    gone = World(("m/x.py", b"x = 1"), (CACHED, pyc("3.11", NORMAL_TIME, 5))).change("m/x.py", "gone")
    assert gone.difference()[1] == [CACHED, "m/x.py"]
    new = World((CACHED, pyc("3.11", NORMAL_TIME, 5))).write("m/x.py", b"x = 1")
    assert new.difference()[1] == [CACHED]


def test_byte_code_below_stays_when_its_source_only_changes_mode_or_time() -> None:
    world = World(("m/x.py", b"x = 1"), (CACHED, pyc("3.11", NORMAL_TIME, 5)))
    assert world.write("m/x.py", b"x = 1", mode=0o755).difference() == (["m", "m/x.py"], [])


def test_byte_code_below_beside_its_source_becomes_the_program_when_that_goes() -> None:
    world = World(("m/x.py", b"x = 1"), ("m/x.pyc", pyc("3.11", NORMAL_TIME, 5))).change("m/x.py", "gone")
    assert world.difference() == (["m"], ["m/x.py"])


def test_a_source_behind_a_link_counts() -> None:
    world = World(("real/x.py", b"x = 1"), directory("m/__pycache__"), link("m/x.py", "../real/x.py"))
    world.write(CACHED, pyc("3.11", NORMAL_TIME, 5))
    assert CACHED in world.normal().tree
    below = World(
        ("real/x.py", b"x = 1"), link("m/x.py", "../real/x.py"), (CACHED, pyc("3.11", NORMAL_TIME, 5))
    )
    assert below.write("real/x.py", b"x = 2").difference()[1] == [CACHED]
    loop = World(directory("m/__pycache__"), link("m/x.py", "x.py")).write(CACHED, pyc("3.11", NOW, 5))
    assert CACHED not in loop.normal().tree


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a/__pycache__/b.cpython-311.pyc", "a/b.py"),
        ("a/__pycache__/b.cpython-311.opt-2.pyc", "a/b.py"),
        ("__pycache__/b.pypy39.pyc", "b.py"),
        ("a/__pycache__/b.c.cpython-34.pyo", "a/b.c.py"),
        ("a/b.pyc", "a/b.py"),
        ("b.pyo", "b.py"),
        ("a/__pycache__/b.pyc", None),
        ("a/b.py", None),
        ("a/.pyc", None),
    ],
)
def test_whose_byte_code_a_name_says(path: str, source: str | None) -> None:
    assert source_of(path) == source


def test_byte_code_of_a_source_that_something_else_was_placed_over_goes() -> None:
    names = ("m/x.pyc", "m/__pycache__/x.cpython-311.opt-1.pyc", "m/__pycache__/xx.cpython-311.pyc")
    world = World(("m/x.py", b"x = 1"), (CACHED, b"pyc"), *((name, b"pyc") for name in names))
    placed = overlay(world.lower, [world.file("m/x.py", b"x = 2"), world.file("m/new.py", b"")])
    layer = difference(world.lower, without_stale(world.lower, placed))
    assert list(layer.whiteouts) == [names[1], CACHED, "m/x.pyc"]


def test_byte_code_stays_where_it_comes_with_its_source_or_the_source_stays() -> None:
    world = World(("m/x.py", b"x = 1"), (CACHED, b"pyc"))
    both = overlay(world.lower, [world.file("m/x.py", b"x = 2"), world.file(CACHED, b"new")])
    assert without_stale(world.lower, both) is both
    mode = overlay(world.lower, [world.file("m/x.py", b"x = 1", 0o755)])
    assert without_stale(world.lower, mode) is mode
