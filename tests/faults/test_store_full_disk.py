"""A disk that is full in the middle of something: a plain error, and a store that goes on afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprobuild.digest import Digest
from reprobuild.errors import OutsideError
from reprobuild.store.audit import audit
from reprobuild.store.store import Store
from tests.unit.stores import layer_of

SIZE = 4 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("only root mounts a small disk")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_group_that_does_not_fit_is_refused_plainly(disk: Path) -> None:
    store = Store.open(disk / "store")
    key = Digest.of(b"key")
    with pytest.raises(OutsideError, match="no space is left") as caught, store.transaction() as group:
        first = group.add_bytes(b"first")
        group.record(key, {"kind": "run", "blobs": [str(first)]})
        group.add_bytes(os.urandom(2 * SIZE))
    assert "reprobuild gc" in caught.value.hint
    assert store.realisations.get(key) is None
    assert os.listdir(store.tmp) == []
    assert list(audit(store, jobs=1)) == []
    with store.transaction() as group:
        assert group.add_bytes(b"second") == Digest.of(b"second")
    assert store.blobs.read(Digest.of(b"second")) == b"second"


def test_a_checkout_that_does_not_fit_leaves_nothing(disk: Path) -> None:
    store = Store.open(disk / "store")
    layer = layer_of(store, {f"{number}": os.urandom(50_000) for number in range(50)})
    with pytest.raises(OutsideError, match="no space is left"), store.checkouts.lay_out([layer]):
        pass
    assert store.checkouts.names() == []
    assert os.listdir(store.tmp) == []
    assert list(audit(store, jobs=1)) == []
