"""What a path is on, by the longest mount point above it."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprobuild.store.file_system import file_system_of, is_network_file_system

MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
server:/home /home nfs4 rw,relatime 0 0
/dev/sdb1 /home/local\\040disk xfs rw,relatime 0 0
mds@tcp:/scratch /scratch lustre rw 0 0
tmpfs /over tmpfs rw 0 0
server:/over /over nfs rw 0 0

proc /proc proc rw 0 0
"""

CASES = {
    "/home/me/store": ("nfs4", True),
    "/home": ("nfs4", True),
    "/homes/me": ("ext4", False),
    "/home/local disk/store": ("xfs", False),
    "/scratch/me": ("lustre", True),
    "/var/lib": ("ext4", False),
    "/over/mounted": ("nfs", True),
}


@pytest.mark.parametrize("path, kind, network", [(path, *of) for path, of in CASES.items()], ids=list(CASES))
def test_file_systems(tmp_path: Path, path: str, kind: str, network: bool) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert file_system_of(path, tmp_path / "mounts") == kind
    assert is_network_file_system(path, tmp_path / "mounts") is network


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(f"a / ext4 rw 0 0\nb {tmp_path}/far nfs rw 0 0\n")
    (tmp_path / "near").symlink_to("far")
    assert is_network_file_system(tmp_path / "near" / "store", tmp_path / "mounts")


def test_unknown_where_there_is_no_such_file(tmp_path: Path) -> None:
    assert file_system_of("/", tmp_path / "none") == ""
    assert file_system_of("/")
