"""Trees laid out as folders: what is in them, what they share, what happens when one is changed."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, MissingBlobError
from reprobuild.store.checkouts import MOST_FOLDERS, stack
from reprobuild.store.lay_out import LINK_SIZE, linkable
from reprobuild.store.store import Store
from reprobuild.tree import NORMAL_TIME, Entry, Layer, Tree, apply, difference, directory, file, link
from tests.unit.stores import LARGE, as_user, layer_of, snapshot, users_folder
from tests.unit.test_tree import trees


def is_blob(store: Store, path: Path, body: bytes) -> bool:
    return path.samefile(store.blobs.path(Digest.of(body)))


def test_a_layer_is_laid_out_as_it_says(store: Store) -> None:
    small = b"x" * (LINK_SIZE - 1)
    layer = layer_of(
        store,
        {"usr/bin/sh": b"#!", "usr/lib/large": LARGE, "small": small, "empty": b"", "ü\n%": b"odd"},
        link("bin", "usr/bin"),
        directory("tmp", 0o1777),
        file("tool", Digest.of(LARGE), len(LARGE), 0o4755),
    )
    with store.checkouts.lay_out([layer]) as checkout:
        (lower,) = checkout.lowers
        assert snapshot(lower) == {
            "bin": "-> usr/bin",
            "empty": b"644 ",
            "small": b"644 " + small,
            "tmp": "folder 1777",
            "tool": b"4755 " + LARGE,
            "usr": "folder 755",
            "usr/bin": "folder 755",
            "usr/bin/sh": b"644 #!",
            "usr/lib": "folder 755",
            "usr/lib/large": b"644 " + LARGE,
            "ü\n%": b"644 odd",
        }
        assert {path.lstat().st_mtime for path in [lower, *lower.rglob("*")]} == {NORMAL_TIME}
        owner = os.geteuid() if store.owner is None else store.owner
        assert {path.lstat().st_uid for path in [lower, *lower.rglob("*")]} == {owner}
        assert stat.S_IMODE(lower.stat().st_mode) == 0o755
    assert os.listdir(store.tmp) == []


def test_only_large_files_with_the_mode_of_blobs_are_links(store: Store) -> None:
    digest = Digest.of(LARGE)
    layer = layer_of(
        store,
        {"large": LARGE, "small": b"abc"},
        file("program", digest, len(LARGE), 0o755),
        file("read-only", digest, len(LARGE), 0o444),
    )
    with store.checkouts.lay_out([layer]) as checkout:
        (lower,) = checkout.lowers
        assert is_blob(store, lower / "large", LARGE)
        assert not is_blob(store, lower / "small", b"abc")
        assert not is_blob(store, lower / "program", LARGE)
        assert not is_blob(store, lower / "read-only", LARGE)


def test_a_file_with_a_capability_is_never_a_link() -> None:
    entry = file("ping", Digest.of(LARGE), len(LARGE))
    assert linkable([entry]) == {entry.digest: entry}
    assert linkable([entry._replace(capability=b"\x01")]) == {}


def test_no_two_files_of_a_stack_are_one_inode(store: Store) -> None:
    lower = layer_of(store, {"one": LARGE, "two": LARGE, "same": LARGE + b"x"})
    upper = layer_of(store, {"three": LARGE, "same": LARGE + b"x", "other": LARGE + b"y"})
    with store.checkouts.lay_out([upper]) as alone, store.checkouts.lay_out([lower, upper]) as both:
        assert is_blob(store, alone.lowers[0] / "three", LARGE)
        above, below = both.lowers
        assert is_blob(store, below / "one", LARGE)
        assert not is_blob(store, below / "two", LARGE)
        assert not is_blob(store, above / "three", LARGE)
        assert is_blob(store, above / "other", LARGE + b"y")
        assert is_blob(store, above / "same", LARGE + b"x")  # hides the one below
        assert snapshot(above) == snapshot(alone.lowers[0])


def test_layers_without_removals_are_shared(store: Store) -> None:
    base, one, two = (layer_of(store, {name: name.encode()}) for name in ("base", "one", "two"))
    with store.checkouts.lay_out([base, one]) as first, store.checkouts.lay_out([base, two]) as second:
        assert first.lowers[1] == second.lowers[1]
        assert [path.name for path in first.lowers] == [one_tree(one), one_tree(base)]
        assert len(store.checkouts.names()) == 3


def one_tree(layer: Layer) -> str:
    return Tree(layer.entries).digest.hex


def test_removals_merge_what_is_below(store: Store) -> None:
    base = layer_of(store, {"a": b"a", "b/c": b"c", "b/d": b"d"})
    gone = layer_of(store, {"b/e": b"e"}, gone=("a", "b/c"))
    last = layer_of(store, {"f": b"f"})
    with store.checkouts.lay_out([base, gone, last]) as checkout:
        above, below = checkout.lowers
        assert set(snapshot(below)) == {"b", "b/d", "b/e"}
        assert set(snapshot(above)) == {"f"}


def test_of_equal_layers_the_upper_one_stays(store: Store) -> None:
    one, two = layer_of(store, {"a": b"1"}), layer_of(store, {"a": b"2"})
    with store.checkouts.lay_out([one, two, one]) as checkout:
        assert [path.name for path in checkout.lowers] == [one_tree(one), one_tree(two)]


def test_nothing_is_an_empty_folder(store: Store) -> None:
    with store.checkouts.lay_out([Layer([])]) as checkout:
        assert [snapshot(path) for path in checkout.lowers] == [{}]


@pytest.mark.parametrize("count", [1, 11, 12, 13, 19, 20, 21, 45, 120])
def test_a_stack_is_never_too_high(count: int) -> None:
    empty = Digest.of(b"")
    layers = [Layer([file(f"{number:03}", empty, 0)]) for number in range(count)]
    found = stack(layers)
    assert len(found) <= MOST_FOLDERS
    assert [entry.path for tree in found for entry in tree] == [f"{number:03}" for number in range(count)]


def test_images_that_share_low_layers_share_merged_folders() -> None:
    empty = Digest.of(b"")
    layers = [Layer([file(f"{number:03}", empty, 0)]) for number in range(19)]
    assert {stack(layers[:count])[0] for count in range(13, 20)} == {stack(layers)[0]}


def joined(folders: tuple[Path, ...]) -> set[str]:
    """Give the paths that an overlay of folders shows, topmost first (kernel: overlayfs.rst)."""
    shown: dict[str, Path] = {}
    for number, lower in enumerate(reversed(folders)):
        for path in sorted(lower.rglob("*")):
            name = str(path.relative_to(lower))
            if number and not (path.is_dir() and not path.is_symlink()):
                for hidden in [other for other in shown if other.startswith(name + "/")]:
                    del shown[hidden]
            shown[name] = path
    return set(shown)


def enterable(entry: Entry) -> Entry:
    """An ordinary user's test has to look into every folder."""
    return entry._replace(mode=entry.mode | 0o700) if entry.kind == "d" else entry


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees(), trees(), trees())
def test_a_stack_shows_what_its_layers_make(tmp_path: Path, one: Tree, two: Tree, three: Tree) -> None:
    store = Store.open(tmp_path / "store")
    plain = [Tree(map(enterable, tree)) for tree in (one, two, three)]
    with store.transaction() as group:
        for body in (b"one", b"two", b""):
            group.add_bytes(body)
    layers, tree = [], Tree()
    for upper in plain:
        layers.append(difference(tree, upper))
        tree = apply(tree, layers[-1])
    with store.checkouts.lay_out(layers) as checkout:
        assert joined(checkout.lowers) == {entry.path for entry in plain[-1]}


def test_a_digest_stands_for_a_layer(store: Store) -> None:
    layers = [layer_of(store, {"a": b"1", "large": LARGE}), layer_of(store, {"b": b"2"}, gone=("a",))]
    digests = [layer.digest for layer in layers]
    with store.checkouts.lay_out(digests) as one, store.checkouts.lay_out(layers) as two:
        assert one == two


def test_what_is_laid_out_is_not_read_again(store: Store) -> None:
    layer = layer_of(store, {"a": b"1", "large": LARGE})
    with store.checkouts.lay_out([layer]) as first:
        inode = first.lowers[0].stat().st_ino
    for digest in list(store.blobs):
        store.blobs.path(digest).unlink()
    with store.checkouts.lay_out([layer.digest]) as second:
        assert second.lowers[0].stat().st_ino == inode


def test_missing_bytes_are_named(store: Store) -> None:
    layer = layer_of(store, {"a/b": b"1", "a/large": LARGE})
    for body in (b"1", LARGE):
        path = store.blobs.path(Digest.of(body))
        path.rename(store.root / "kept")
        with pytest.raises(MissingBlobError, match=str(Digest.of(body))), store.checkouts.lay_out([layer]):
            pass
        (store.root / "kept").rename(path)
    assert store.checkouts.names() == []
    assert os.listdir(store.tmp) == []


@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "large"])
def test_damaged_bytes_are_not_laid_out(store: Store, body: bytes) -> None:
    layer = layer_of(store, {"a": body})
    store.blobs.path(Digest.of(body)).write_bytes(body[:-1] + b"?")
    with pytest.raises(CheckFailedError, match=str(Digest.of(body))), store.checkouts.lay_out([layer]):
        pass
    assert store.checkouts.names() == []


@pytest.mark.parametrize("body", [b"small", LARGE], ids=["small", "large"])
def test_a_blob_that_was_only_touched_is_set_right(store: Store, body: bytes) -> None:
    layer = layer_of(store, {"a": body})
    path = store.blobs.path(Digest.of(body))
    path.chmod(0o600)
    os.utime(path)
    with store.checkouts.lay_out([layer]) as checkout:
        assert snapshot(checkout.lowers[0]) == {"a": b"644 " + body}
    assert (path.stat().st_mtime, stat.S_IMODE(path.stat().st_mode)) == (NORMAL_TIME, 0o644)


def test_a_write_through_a_link_is_noticed(store: Store) -> None:
    layer = layer_of(store, {"large": LARGE})
    with store.checkouts.lay_out([layer]) as checkout:
        place = checkout.lowers[0] / "large"
    with place.open("r+b") as opened:
        opened.write(b"?")
    with pytest.raises(CheckFailedError, match=str(Digest.of(LARGE))), store.checkouts.lay_out([layer]):
        pass


@pytest.mark.parametrize("how", ["replaced", "removed", "touched"])
def test_a_folder_whose_link_was_changed_is_made_again(store: Store, how: str) -> None:
    layer = layer_of(store, {"large": LARGE, "a": b"a"})
    with store.checkouts.lay_out([layer]) as checkout:
        place = checkout.lowers[0] / "large"
    if how == "touched":
        os.utime(place)
    else:
        place.unlink()
    if how == "replaced":
        place.write_bytes(b"?" * len(LARGE))
    assert not store.checkouts.is_intact(checkout.lowers[0].name)
    with store.checkouts.lay_out([layer.digest]) as again:
        assert snapshot(again.lowers[0]) == {"a": b"644 a", "large": b"644 " + LARGE}


@pytest.mark.parametrize("spoil", ["links", "stack"])
def test_notes_that_are_spoiled_are_made_again(store: Store, spoil: str) -> None:
    layer = layer_of(store, {"large": LARGE})
    with store.checkouts.lay_out([layer]) as checkout:
        name = checkout.lowers[0].name
    folder = Path(store.checkouts.folder)
    spoiled = [folder / f"{name}.links"] if spoil == "links" else list((folder / "stacks").iterdir())
    for data in (b"", b"\xff", b"nonsense\n", b"../../x\nend"):
        for path in spoiled:
            path.write_bytes(data)
        with store.checkouts.lay_out([layer]) as again:
            assert again == checkout
            assert snapshot(again.lowers[0]) == {"large": b"644 " + LARGE}


def test_threads_that_want_one_folder_make_it_once(store: Store) -> None:
    layer = layer_of(store, {f"{number}": b"%d" % number for number in range(200)})
    inodes: list[int] = []

    def use() -> None:
        with Store.open(store.root).checkouts.lay_out([layer]) as checkout:
            inodes.append(checkout.lowers[0].stat().st_ino)

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inodes) == 6
    assert len(set(inodes)) == 1


def test_folders_without_permissions_as_an_ordinary_user() -> None:
    """An image can hold what its owner may not enter; it is made, used and removed all the same."""
    with users_folder() as folder:

        def work() -> list[str]:
            store = Store.open(folder / "store")
            layer = layer_of(
                store,
                {"closed/inner/file": b"x", "closed/large": LARGE, "read-only/file": b"y"},
                directory("closed", 0),
                directory("closed/inner", 0o500),
                directory("read-only", 0o555),
                file("secret", Digest.of(b"x"), 1, 0),
            )
            with store.checkouts.lay_out([layer]) as checkout:
                (lower,) = checkout.lowers
                modes = [
                    f"{stat.S_IMODE((lower / name).stat().st_mode):o}"
                    for name in ("closed", "read-only", "secret")
                ]
                (lower / "closed").chmod(0o755)
                modes.append(f"{stat.S_IMODE((lower / 'closed' / 'inner').stat().st_mode):o}")
                (lower / "closed").chmod(0)
            store.checkouts.discard(lower.name)
            return [
                *modes,
                *store.checkouts.names(),
                *os.listdir(store.tmp),
            ]

        assert as_user(work) == ["0", "555", "0", "500"]


def test_a_deep_tree(store: Store) -> None:
    path = "/".join(f"{number:02}-{'d' * 40}" for number in range(60))
    layer = layer_of(store, {path + "/file": b"x"})
    with store.checkouts.lay_out([layer]) as checkout:
        assert (checkout.lowers[0] / path / "file").read_bytes() == b"x"
    shutil.rmtree(checkout.lowers[0])
