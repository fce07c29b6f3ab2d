"""Groups of writes: what is in the store after each way that one can end."""

from __future__ import annotations

import io
import os
import stat
import threading
from typing import TYPE_CHECKING, BinaryIO

import pytest

from reprobuild.digest import BUFFER_SIZE, Digest
from reprobuild.errors import MissingBlobError
from reprobuild.store.store import Store
from reprobuild.store.transaction import Transaction
from reprobuild.tree import NORMAL_TIME, Layer, file

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

KEY = Digest.of(b"a key")


def leftovers(store: Store) -> list[str]:
    return sorted(os.listdir(store.tmp))


def test_bytes_come_back(store: Store) -> None:
    with store.transaction() as group:
        digest = group.add_bytes(b"abc")
        assert group.has(digest)
        assert not store.blobs.has(digest)
    assert store.blobs.read(digest) == b"abc"
    assert store.blobs.size(digest) == 3
    assert leftovers(store) == []


def test_a_blob_has_the_normal_time_and_mode_and_belongs_to_the_owner(store: Store) -> None:
    with store.transaction() as group:
        digest = group.add_bytes(b"abc")
    found = os.stat(store.blobs.path(digest))
    assert found.st_mtime == NORMAL_TIME
    assert stat.S_IMODE(found.st_mode) == 0o644
    assert found.st_uid == (os.geteuid() if store.owner is None else store.owner)


@pytest.mark.parametrize("size", [0, 1, BUFFER_SIZE - 1, BUFFER_SIZE, BUFFER_SIZE + 1, 3 * BUFFER_SIZE])
def test_a_stream_of_any_length_comes_back(store: Store, size: int) -> None:
    data = os.urandom(size)
    with store.transaction() as group:
        digest, count = group.add_stream(io.BytesIO(data))
    assert (count, store.blobs.read(digest)) == (size, data)


class Dripping(io.RawIOBase):
    """Gives one byte at a time, as a slow connection may."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        count = min(1, len(self._rest))
        memoryview(buffer)[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class OnlyReads:
    """Has ``read`` and no ``readinto``."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._file.read(size)


@pytest.mark.parametrize("kind", [Dripping, OnlyReads])
def test_a_stream_of_any_kind_comes_back(store: Store, kind: type) -> None:
    file: BinaryIO = kind(b"some bytes")
    with store.transaction() as group:
        digest, _ = group.add_stream(file)
    assert store.blobs.read(digest) == b"some bytes"


def test_records_are_written_with_their_blobs(store: Store) -> None:
    with store.transaction() as group:
        blob = group.add_bytes(b"abc")
        group.record(KEY, {"kind": "run", "blobs": [str(blob)], "seconds": 1.5})
        assert store.realisations.get(KEY) is None
    assert store.realisations.get(KEY) == {"kind": "run", "blobs": [str(blob)], "seconds": 1.5}
    assert list(store.realisations) == [KEY]


def test_a_record_of_missing_blobs_is_refused(store: Store) -> None:
    with pytest.raises(MissingBlobError, match=str(KEY)), store.transaction() as group:
        group.record(KEY, {"kind": "run", "layer": str(KEY)})
    assert store.realisations.get(KEY) is None


def test_a_record_whose_listing_names_a_missing_body_is_refused(store: Store) -> None:
    listing = Layer([file("a", KEY, 3)]).listing
    with pytest.raises(MissingBlobError, match=KEY.hex), store.transaction() as group:
        group.record(KEY, {"kind": "run", "layer": str(group.add_bytes(listing))})
    assert store.realisations.get(KEY) is None


def test_an_exception_drops_records_and_keeps_finished_blobs(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction() as group:
        done = group.add_bytes(b"done")
        with group.writer() as writer:
            writer.write(b"half")
            half = writer.digest
            group.record(KEY, {"kind": "run"})
            raise ZeroDivisionError
    assert store.blobs.read(done) == b"done"
    assert not store.blobs.has(half)
    assert store.realisations.get(KEY) is None
    assert leftovers(store) == []


def test_a_writer_counts_and_hashes_as_it_goes(store: Store) -> None:
    with store.transaction() as group, group.writer() as writer:
        writer.write(b"ab")
        assert (writer.size, writer.digest) == (2, Digest.of(b"ab"))
        writer.write(memoryview(b"c"))
        assert writer.commit() == Digest.of(b"abc")
    assert store.blobs.read(Digest.of(b"abc")) == b"abc"


def test_an_aborted_writer_leaves_nothing(store: Store) -> None:
    with store.transaction() as group:
        writer = group.writer()
        writer.write(b"abc")
        writer.abort()
    assert list(store.blobs) == []
    assert leftovers(store) == []


def test_a_download_goes_on_where_it_was_cut(store: Store) -> None:
    place = store.partial("https://host.example/a file")
    with store.transaction() as group, group.writer(resume=place) as writer:
        writer.write(b"first ")
    with store.transaction() as group, group.writer(resume=place) as writer:
        assert writer.size == 6
        writer.write(b"second")
        digest = writer.commit()
    assert store.blobs.read(digest) == b"first second"
    assert not place.exists()


def test_a_download_that_cannot_go_on_begins_again(store: Store) -> None:
    place = store.partial("name")
    place.write_bytes(b"something else that is long")
    with store.transaction() as group, group.writer(resume=place) as writer:
        writer.restart()
        assert writer.size == 0
        writer.write(b"abc")
        assert writer.commit() == Digest.of(b"abc")
    assert store.blobs.read(Digest.of(b"abc")) == b"abc"


def test_threads_share_a_group(store: Store) -> None:
    bodies = [os.urandom(5000 + number) for number in range(40)]

    def add(group: Transaction, mine: list[bytes]) -> None:
        for body in mine:
            with group.writer() as writer:
                writer.write(body[:1000])
                writer.write(body[1000:])
                writer.commit()
            group.add_stream(io.BytesIO(body))

    with store.transaction() as group:
        threads = [threading.Thread(target=add, args=(group, bodies[n:] + bodies[:n])) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(store.blobs) == sorted(map(Digest.of, bodies))
    assert all(store.blobs.read(Digest.of(body)) == body for body in bodies)
    assert leftovers(store) == []


def test_many_small_blobs(store: Store) -> None:
    with store.transaction() as group:
        digests = [group.add_bytes(b"%d" % number) for number in range(300)]
    assert [store.blobs.read(digest) for digest in digests] == [b"%d" % number for number in range(300)]


def test_groups_that_write_the_same_do_not_disturb_each_other(store: Store) -> None:
    other = Store.open(store.root)
    with store.transaction() as one, other.transaction() as two:
        assert one.add_bytes(b"same") == two.add_bytes(b"same")
    assert store.blobs.read(Digest.of(b"same")) == b"same"
    assert leftovers(store) == []


def test_a_write_outside_the_block_is_refused(store: Store) -> None:
    with pytest.raises(RuntimeError, match="with"):
        store.transaction().add_bytes(b"abc")
