"""Opening a store: whose it is, what it refuses, locks and scratch folders."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from reprobuild.errors import OutsideError
from reprobuild.store import owner
from reprobuild.store.store import FORMAT, Store
from tests.unit.stores import USER, as_user, users_folder

is_root = os.geteuid() == 0


def test_a_store_is_made_where_there_is_none(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a" / "b" / "store")
    assert store.root == tmp_path / "a" / "b" / "store"
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700
    assert (store.root / "format").read_bytes() == FORMAT


def test_everything_belongs_to_one_owner(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with store.transaction() as group:
        group.record(group.add_bytes(b"a"), {"kind": "run"})
    expected = os.geteuid() if store.owner is None else store.owner
    paths = [path for path in store.root.rglob("*") if path.parent.name != "locks"]
    assert {path.stat().st_uid for path in paths} == {expected}
    assert len(paths) > 256


@pytest.mark.skipif(not is_root, reason="only root gives files away")
def test_roots_store_belongs_to_nobody(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    assert store.owner is not None
    assert owner.is_nobodys(store.owner)
    assert store.root.stat().st_uid == store.owner
    assert Store.open(tmp_path / "store").owner == store.owner


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    Store.open(tmp_path / "store")
    before = (tmp_path / "store").stat().st_mtime_ns
    Store.open(str(tmp_path / "store"))
    assert (tmp_path / "store").stat().st_mtime_ns == before


def test_an_unfinished_store_is_finished(tmp_path: Path) -> None:
    (tmp_path / "store" / "blobs").mkdir(parents=True)
    store = Store.open(tmp_path / "store")
    with store.transaction() as group:
        digest = group.add_bytes(b"a")
    assert store.blobs.read(digest) == b"a"


def test_an_emptied_store_is_filled_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    subprocess.run(["rm", "-r", str(store.root / "blobs"), str(store.root / "tmp")], check=True)
    store = Store.open(tmp_path / "store")
    with store.transaction() as group:
        digest = group.add_bytes(b"a")
    assert store.blobs.read(digest) == b"a"


def _plain_file(path: Path) -> None:
    path.write_bytes(b"")


def _full_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_bytes(b"")


def _another_format(path: Path) -> None:
    Store.open(path)
    (path / "format").write_bytes(b"reprobuild store 99\n")


BAD_FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a file": (_plain_file, "is no folder"),
    "a folder with other things": (_full_folder, "holds 'thesis.tex'"),
    "another format": (_another_format, "99"),
}


@pytest.mark.parametrize(("make", "message"), BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_what_is_no_store_of_ours_is_refused(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "store")
    with pytest.raises(OutsideError, match=message) as caught:
        Store.open(tmp_path / "store")
    assert "--store DIR" in caught.value.hint


def test_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutsideError):
        Store.open(tmp_path / "file" / "store")


def test_a_folder_without_write_permission_is_refused() -> None:
    with users_folder() as folder:
        closed = folder / "closed"

        def work() -> str:
            closed.mkdir()
            closed.chmod(0o500)
            with pytest.raises(OutsideError, match="permission denied") as caught:
                Store.open(closed / "store")
            return caught.value.hint

        assert "--store DIR" in as_user(work)


def test_a_store_that_is_read_only_is_refused() -> None:
    with users_folder() as folder:

        def work() -> None:
            Store.open(folder / "store")
            (folder / "store").chmod(0o500)
            with pytest.raises(OutsideError, match="may not be written to"):
                Store.open(folder / "store")

        as_user(work)


@pytest.mark.skipif(not is_root, reason="only root makes such stores")
def test_a_user_does_not_open_roots_store() -> None:
    with users_folder() as folder:
        Store.open(folder / "store")

        def work() -> str:
            with pytest.raises(OutsideError) as caught:
                Store.open(folder / "store")
            return caught.value.message

        assert "was made by root" in as_user(work)


@pytest.mark.skipif(not is_root, reason="only root could")
def test_root_does_not_take_over_the_store_of_an_account(tmp_path: Path) -> None:
    import pwd

    account = next(found for found in pwd.getpwall() if found.pw_uid)
    (tmp_path / "store").mkdir()
    os.chown(tmp_path / "store", account.pw_uid, account.pw_gid)
    with pytest.raises(OutsideError, match=f"belongs to {account.pw_name}"):
        Store.open(tmp_path / "store")


def test_a_users_store_is_the_users_own() -> None:
    with users_folder() as folder:

        def work() -> tuple[int | None, int, bytes]:
            store = Store.open(folder / "store")
            with store.transaction() as group:
                digest = group.add_bytes(b"abc")
            return store.owner, store.blobs.path(digest).stat().st_uid, store.blobs.read(digest)

        assert as_user(work) == (None, USER if is_root else os.geteuid(), b"abc")


@pytest.mark.parametrize(
    ("ranges", "uid"),
    [
        ("0 0 4294967295", 1_900_000_000),
        ("0 100000 65536", 65533),
        ("0 0 1\n1 100000 5000", 5000),
        ("0 0 1", None),
    ],
    ids=["all", "a container's", "few", "root alone"],
)
def test_the_owner_is_a_uid_that_exists_here(
    monkeypatch: pytest.MonkeyPatch, ranges: str, uid: int | None
) -> None:
    rows = [line.split() for line in ranges.splitlines()]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(owner, "_mapped", lambda which: [(int(row[0]), int(row[2])) for row in rows])
    monkeypatch.setattr(owner, "is_nobodys", lambda candidate: True)
    assert owner.choose_owner() == uid


def test_an_ordinary_user_has_no_other_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert owner.choose_owner() is None


def test_a_full_disk_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(tmp_path / "store")

    def full(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutsideError, match="no space is left") as caught, store.transaction() as group:
        monkeypatch.setattr(os, "write", full)
        group.add_bytes(b"abc")
    monkeypatch.undo()
    assert "reprobuild gc" in caught.value.hint
    assert os.listdir(store.tmp) == []


def test_one_at_a_time_holds_a_lock(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    log: list[str] = []
    with store.lock("recipe/a:b"):
        waiting = threading.Thread(target=_take, args=(store, log))
        waiting.start()
        log.append("first")
    waiting.join()
    assert log == ["first", "second"]


def _take(store: Store, log: list[str]) -> None:
    with store.lock("recipe/a:b"):
        log.append("second")


def test_different_locks_do_not_wait_for_each_other(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with store.lock("a"), store.lock("b"), store.lock("a/b"), store.lock(".."):
        assert sorted(os.listdir(store.root / "locks")) == ["%2E.", "a", "a%2Fb", "b"]


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    program = (
        "import sys, time; from reprobuild.store.store import Store\n"
        "with Store.open(sys.argv[1]).lock('x'): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(store.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        process.kill()
    with store.lock("x"):
        pass


def test_scratch_is_private_and_goes_away(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with store.scratch("run") as folder:
        assert folder.parent == store.root / "tmp"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        closed = folder / "closed"
        closed.mkdir()
        (closed / "file").write_bytes(b"")
        (folder / "link").symlink_to("/")
        closed.chmod(0)
    assert os.listdir(store.tmp) == []


def test_what_a_dead_process_left_is_removed_and_what_lives_stays(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with store.scratch("alive") as alive:
        child = os.fork()
        if child == 0:
            with store.scratch("dead"):
                os.kill(os.getpid(), 9)
        os.waitpid(child, 0)
        assert len(os.listdir(store.tmp)) == 4
        with Store.open(store.root).scratch("other"):
            pass
        assert sorted(os.listdir(store.tmp)) == [alive.name, alive.name + ".lock"]
