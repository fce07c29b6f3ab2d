from __future__ import annotations

import io
import struct

import pytest

from reprobuild.build.capture import StoreCapture
from reprobuild.digest import Digest
from reprobuild.images.changes import RawChange
from reprobuild.store.store import Store
from reprobuild.tree import NORMAL_TIME, Tree, directory

NOW = 1_750_000_000


def pyc(time: int) -> bytes:
    return struct.pack("<HHIII", 3495, 0x0A0D, 0, time, 5) + b"code"


@pytest.mark.parametrize("held_bytes", [0, 25, 1000], ids=["nothing", "one file", "all"])
def test_byte_code_comes_to_the_store_in_normal_form(held_bytes: int, store: Store) -> None:
    with store.transaction() as group:
        capture = StoreCapture(group, held_bytes=held_bytes)
        for path, body in (
            ("m/__pycache__/gone.cpython-311.pyc", pyc(NOW)),
            ("m/__pycache__/x.cpython-311.pyc", pyc(NOW)),
            ("m/data.pyc", b"no byte code"),
            ("m/x.py", b"x = 1"),
        ):
            change = RawChange(path, "f", 0o644, mtime=NOW, size=len(body))
            capture.add(change, io.BytesIO(body))
        normal = capture.normal_form(Tree([directory("m"), directory("m/__pycache__")]), owners=False)
    bodies = {entry.path: store.blobs.read(entry.digest) for entry in normal.tree if entry.digest is not None}
    assert bodies == {
        "m/__pycache__/x.cpython-311.pyc": pyc(NORMAL_TIME),
        "m/data.pyc": b"no byte code",
        "m/x.py": b"x = 1",
    }
    # What waited in memory did not come to the store as it was.
    assert store.blobs.has(Digest.of(pyc(NOW))) == (held_bytes < 1000)


def test_changes_without_bodies_are_taken_in_order(store: Store) -> None:
    with store.transaction() as group:
        capture = StoreCapture(group)
        capture.add(RawChange("a", "opaque"), None)
        capture.add(RawChange("a", "d", 0o700), None)
        normal = capture.normal_form(Tree([directory("a"), directory("a/b")]), owners=False)
    assert normal.tree == Tree([directory("a", 0o700)])
