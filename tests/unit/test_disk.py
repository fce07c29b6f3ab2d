from __future__ import annotations

import os
from pathlib import Path

from reprobuild.store.disk import remove


def test_a_folder_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT, dir_fd=here))
    os.close(here)
    remove(str(top))
    assert not os.listdir(tmp_path)


def test_folders_without_permissions_are_removed_and_links_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    closed = tmp_path / "top" / "closed"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    (closed / "link").symlink_to(kept)
    closed.chmod(0)
    remove(str(tmp_path / "top"))
    remove(str(tmp_path / "absent"))
    assert os.listdir(tmp_path) == ["kept"]
    assert os.listdir(kept) == ["file"]


def test_a_link_is_removed_and_not_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove(str(tmp_path / "link"))
    assert os.listdir(tmp_path) == ["kept"]
