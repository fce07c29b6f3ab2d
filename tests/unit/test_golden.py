from __future__ import annotations

from pathlib import Path

import pytest

from tests import golden, require


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(golden, "FOLDER", tmp_path)
    monkeypatch.setattr(golden, "accept", False)
    return tmp_path


def test_a_golden_that_is_missing_fails(folder: Path) -> None:
    with pytest.raises(AssertionError, match="there is no golden tar/one"):
        golden.assert_golden("tar/one", 1)


def test_an_accepted_golden_holds_until_the_value_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(golden, "accept", True)
        golden.assert_golden("tar/one", {"b": [1], "a": "ä"})
    golden.assert_golden("tar/one", {"a": "ä", "b": (1,)})
    with pytest.raises(AssertionError, match="the golden tar/one differs"):
        golden.assert_golden("tar/one", {"a": "ä", "b": [2]})


@pytest.mark.parametrize(
    "wanted", ["all", "all -skopeo", "skopeo,nothing-of-the-kind", "nothing-of-the-kind"]
)
def test_what_is_required_and_missing_fails(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROBUILD_REQUIRE", wanted)
    with pytest.raises(pytest.fail.Exception, match="nothing-of-the-kind is not installed"):
        require.require("nothing-of-the-kind")


@pytest.mark.parametrize("wanted", ["", "skopeo", "all,-sandbox"])
def test_what_is_missing_and_not_required_skips_with_the_reason(
    wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPROBUILD_REQUIRE", wanted)
    with pytest.raises(pytest.skip.Exception, match="no user namespaces here"):
        require.require("sandbox", "no user namespaces here")


def test_what_is_there_goes_on() -> None:
    require.require("sh")
    assert require.program("sh").is_file()
    require.require("sandbox", "")
