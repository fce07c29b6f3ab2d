"""Bytes that are written and read again: alike in memory and on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reprobuild.predict.spool import Spool


@pytest.mark.parametrize("limit", [0, 5, 6, 1 << 20], ids=["disk", "moved", "just room", "memory"])
def test_what_is_written_is_read(limit: int, tmp_path: Path) -> None:
    with Spool(str(tmp_path), limit) as spool:
        assert [spool.write(part) for part in (b"a\n", b"b\nc", b"\n")] == [2, 3, 1]
        spool.seek(0)
        assert list(spool) == [b"a\n", b"b\n", b"c\n"]
        spool.seek(2)
        assert (spool.read(1), spool.read()) == (b"b", b"\nc\n")
        spool.seek(0)
        assert spool.readlines(1) == [b"a\n"]
        assert spool.readlines() == [b"b\n", b"c\n"]


def test_a_file_is_made_only_past_the_limit(tmp_path: Path) -> None:
    def open_files() -> set[str]:
        links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
        return {os.readlink(link) for link in links if os.path.lexists(link)}

    with Spool(str(tmp_path), 3) as spool:
        spool.write(b"abc")
        assert not any(name.startswith(str(tmp_path)) for name in open_files())
        spool.write(b"d")
        assert any(name.startswith(str(tmp_path)) for name in open_files())
    assert not any(name.startswith(str(tmp_path)) for name in open_files())
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("limit", [0, 1 << 20], ids=["disk", "memory"])
def test_a_part_is_read_while_others_read_elsewhere(limit: int, tmp_path: Path) -> None:
    with Spool(str(tmp_path), limit) as spool:
        spool.write(b"abcdef")
        spool.seek(1)
        assert spool.read_at(3, 2) == b"de"
        assert spool.read(2) == b"bc"
        assert spool.read_at(4, 9) == b"ef"
