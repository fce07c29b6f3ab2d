"""Addresses that begin with ``file:``: files of the recipe's folder, and no others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reprobuild.errors import RecipeError
from reprobuild.events import ignore
from reprobuild.fetch.download import Download, fetch_all
from reprobuild.store.store import Store
from tests.downloads import BODY, DIGEST

pytestmark = pytest.mark.once


def test_a_file_of_the_recipes_folder(store: Store, tmp_path: Path) -> None:
    (tmp_path / "recipe/data").mkdir(parents=True)
    (tmp_path / "recipe/data/a b.bin").write_bytes(BODY)
    download = Download(name="b", urls=("file:data/a%20b.bin",), folder=tmp_path / "recipe")
    assert fetch_all(store, [download], tell=ignore, offline=True)[0].digest == DIGEST


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("file:../outside", "leads outside", id="upwards"),
        pytest.param("file:///etc/passwd", "leads outside", id="absolute"),
        pytest.param("file://elsewhere/inside", "leads outside", id="another host"),
        pytest.param("file:link", "leads outside", id="link"),
        pytest.param("file:%2e%2e/outside", "leads outside", id="upwards, written otherwise"),
        pytest.param("file:gone", "No such file", id="gone"),
        pytest.param("file:folder", "no regular file", id="folder"),
        pytest.param("file:pipe", "no regular file", id="pipe"),
    ],
)
def test_files_elsewhere_are_refused(store: Store, tmp_path: Path, url: str, message: str) -> None:
    folder = tmp_path / "recipe"
    (folder / "folder").mkdir(parents=True)
    (folder / "inside").write_bytes(b"in")
    (tmp_path / "outside").write_bytes(b"secret")
    (folder / "link").symlink_to("../outside")
    os.mkfifo(folder / "pipe")
    with pytest.raises(RecipeError, match=message):
        fetch_all(store, [Download(name="x", urls=(url,), folder=folder, where="recipe.py:1")], tell=ignore)
