"""Memos of answers: whole or none, keyed by everything that decides the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprobuild.build.memo import Answer, clear, memo_key, recall, remember

ANSWER = Answer('{"schema": 1}', "tutorial:1.0\n  image ID  sha256:00", "tutorial: 2 layers reused")
KEY = memo_key("tutorial", ("aa", "bb"), (), "auto")


@pytest.fixture
def store(tmp_path: Path) -> str:
    (tmp_path / "realisations").mkdir()
    (tmp_path / "realisations" / "one.json").touch()
    (tmp_path / "blob").touch()
    return str(tmp_path)


def written(store: str) -> Path:
    remember(store, KEY, ANSWER, ["realisations/one.json", "blob"])
    return Path(store) / "memo" / KEY


def test_an_answer_comes_back_as_it_was(store: str) -> None:
    written(store)
    found = recall(store, KEY)
    assert found is not None
    assert (found.json, found.text, found.summary) == (ANSWER.json, ANSWER.text, ANSWER.summary)


def test_recalling_changes_nothing(store: str) -> None:
    written(store)
    before = {path: path.stat() for path in Path(store).rglob("*")}
    recall(store, KEY)
    after = {path: path.stat() for path in Path(store).rglob("*")}
    assert {path: found.st_mtime_ns for path, found in after.items()} == {
        path: found.st_mtime_ns for path, found in before.items()
    }


@pytest.mark.parametrize("gone", ["realisations/one.json", "blob"])
def test_without_a_file_that_it_speaks_of_there_is_no_answer(store: str, gone: str) -> None:
    written(store)
    (Path(store) / gone).unlink()
    assert recall(store, KEY) is None


def test_a_memo_that_is_cut_off_anywhere_is_none(store: str) -> None:
    path = written(store)
    text = path.read_bytes()
    for length in range(len(text)):
        path.write_bytes(text[:length])
        assert recall(store, KEY) is None, f"cut off after {length} of {len(text)} bytes"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b"memo 2\n1\nblob\ns\nj\nt\nend\n", id="another format"),
        pytest.param(b"memo 1\n0\ns\nj\nt\nend\n", id="needs nothing"),
        pytest.param(b"memo 1\n-5\nblob\ns\nj\nt\nend\n", id="negative count"),
        pytest.param(b"memo 1\n99\nblob\ns\nj\nt\nend\n", id="count past the end"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a_memo_that_makes_no_sense_is_none(store: str, damage: bytes) -> None:
    written(store).write_bytes(damage)
    assert recall(store, KEY) is None


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(memo_key("tutorial2", ("aa", "bb"), (), "auto"), id="name"),
        pytest.param(memo_key("tutorial", ("ab", "bb"), (), "auto"), id="content"),
        pytest.param(memo_key("tutorial", ("aa", "bc"), (), "auto"), id="lock"),
        pytest.param(memo_key("tutorial", ("aa", "bb"), ("a=1",), "auto"), id="options"),
        pytest.param(memo_key("tutorial", ("aa", "bb"), ("a=1", "b=2"), "auto"), id="more options"),
        pytest.param(memo_key("tutorial", ("aa", "bb"), ("a=1b=2",), "auto"), id="joined options"),
        pytest.param(memo_key("tutorial", ("aa", "bb"), (), "docker"), id="engine"),
    ],
)
def test_whatever_decides_the_answer_is_in_the_key(store: str, other: str) -> None:
    written(store)
    assert other != KEY
    assert recall(store, other) is None


def test_the_version_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprobuild.build.memo.__version__", "0.0.0")
    assert memo_key("tutorial", ("aa", "bb"), (), "auto") != KEY


def test_a_memo_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "memo").write_text("a file where the folder should be")
    remember(str(tmp_path), KEY, ANSWER, ["blob"])
    assert recall(str(tmp_path), KEY) is None


def test_clearing_removes_all(store: str) -> None:
    written(store)
    assert clear(store) == 1
    assert recall(store, KEY) is None
    assert clear(store + "/nowhere") == 0
