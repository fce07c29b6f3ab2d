"""Submodules of git repositories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reprobuild import git
from reprobuild.errors import UpstreamError
from tests.git_scene import Scene, made, make_scene
from tests.sites.git import repository

pytestmark = pytest.mark.once


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with make_scene(tmp_path, monkeypatch) as scene:
        yield scene


def with_submodule(scene: Scene, address: str) -> tuple[str, str]:
    inner = repository(scene.folder / "served/inner.git", {"inner.txt": b"inner\n"})
    modules = f'[submodule "i"]\n\tpath = inner\n\turl = {address}\n'.encode()
    outer = made(
        scene.folder / "served/outer.git",
        {".gitmodules": ("100644", modules), "inner": ("160000", inner), "a": ("100644", b"a")},
    )
    return outer, inner


@pytest.mark.parametrize(
    "address",
    ["https://git.test/inner.git", "../inner.git", "git@git.test:inner.git", "git://git.test/inner.git"],
)
def test_submodules_come_at_their_commit(scene: Scene, address: str) -> None:
    outer, _ = with_submodule(scene, address)
    repository(scene.folder / "served/inner.git", {"inner.txt": b"newer\n"}, message="newer")
    pin = scene.resolve(git("https://git.test/outer.git", outer, to="/m", submodules=True))
    found = scene.tree(pin)
    assert found["inner"][0] == "d"
    assert found["inner/inner.txt"][2] == b"inner\n"


def test_submodules_that_are_not_asked_for_are_empty_folders(scene: Scene) -> None:
    outer, _ = with_submodule(scene, "../inner.git")
    found = scene.tree(scene.resolve(git("https://git.test/outer.git", outer, to="/m")))
    assert found["inner"] == ("d", 0o755, "")
    assert [note for note in scene.notes() if "submodules=True" in note]


@pytest.mark.parametrize("address", ["file:///etc", "ext::sh -c id", "/etc", "--upload-pack=id"])
def test_submodules_are_reached_by_http_alone(scene: Scene, address: str) -> None:
    outer, _ = with_submodule(scene, address)
    with pytest.raises(UpstreamError):
        scene.resolve(git("https://git.test/outer.git", outer, to="/m", submodules=True))
