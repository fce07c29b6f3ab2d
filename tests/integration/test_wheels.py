"""Wheels from an index to a tree: uv and real HTTP, with indexes on this machine and the configured one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from reprobuild.build.place import wheels as place_wheels
from reprobuild.build.plan import missing_downloads
from reprobuild.build.project import Project
from reprobuild.derivation.derive import derive_step
from reprobuild.derivation.steps import Wheels
from reprobuild.derivation.words import wheels
from reprobuild.digest import Digest
from reprobuild.errors import CheckFailedError, OfflineError, RecipeError, ReprobuildError, UpstreamError
from reprobuild.events import ignore
from reprobuild.fetch import wheels as fetch_wheels
from reprobuild.fetch.download import fetch_all
from reprobuild.lock import wheels as lock_wheels
from reprobuild.store.store import Store
from tests.debian import served
from tests.require import require
from tests.wheel_scene import APP, RESOLVED, context, image, names, resolve
from tests.wheels import Index, simple_index, wheel

pytestmark = pytest.mark.once


@pytest.fixture
def index() -> Iterator[Index]:
    with simple_index(APP) as served:
        yield served


def test_versions_and_wheels_are_those_for_the_image(store: Store, index: Index) -> None:
    pins = resolve(wheels("app"), store, index.url)
    assert names(pins) == RESOLVED
    assert pins[1].hashed == {"package": "dep", "version": "2.0"}
    assert [(pin.size, pin.sha256) for pin in pins] == [
        (len(APP[name]), Digest.of(APP[name])) for name in RESOLVED
    ]


def test_the_patch_level_of_the_image_s_python_counts(store: Store, index: Index) -> None:
    pins = resolve(wheels("app"), store, index.url, tree=image(store, version="3.11.9"))
    assert names(pins) == RESOLVED[:2]


def test_pins_name_no_index_and_any_mirror_serves_them(store: Store, index: Index) -> None:
    step = wheels("app")
    pins = resolve(step, store, index.url)
    assert "127.0.0.1" not in repr(pins)
    with simple_index(APP, is_json=False) as mirror:
        found = fetch_wheels.downloads(step, pins, context(store, mirror.url).settings)
        fetched = fetch_all(store, found, tell=ignore)
    assert [got.digest for got in fetched] == [pin.sha256 for pin in pins]
    assert all(mirror.url.removesuffix("/simple") in url for one in found for url in one.urls)


def test_what_was_fetched_is_placed(store: Store, index: Index) -> None:
    step, tree = wheels("app"), image(store)
    pins = resolve(step, store, index.url, tree=tree)
    fetch_all(store, fetch_wheels.downloads(step, pins, context(store, index.url).settings), tell=ignore)
    facts = place_wheels.facts(step, tree, store)
    with store.transaction() as group:
        placed = place_wheels.place(step, pins, facts, store, group)
    found = {entry.path: entry for entry in placed.entries}
    assert "usr/local/bin/app" in found
    dep = found["usr/local/lib/python3.11/dist-packages/dep.py"]
    assert dep.digest == Digest.of(b"X = 1\n")


@pytest.mark.parametrize("is_json", [True, False], ids=["json", "html"])
def test_an_index_without_sizes_and_digests_will_do(store: Store, is_json: bool) -> None:
    with simple_index(APP, is_json=is_json, has_digests=False) as served:
        pins = resolve(wheels("dep"), store, served.url)
    assert [(pin.size, pin.sha256) for pin in pins] == [(len(APP[RESOLVED[1]]), Digest.of(APP[RESOLVED[1]]))]


def folder_index(folder: Path, files: Mapping[str, bytes]) -> str:
    for name, body in files.items():
        project = folder / "simple" / name.partition("-")[0]
        project.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
        with open(project / "index.html", "a") as page:
            page.write(f'<a href="../../{name}#sha256={Digest.of(body).hex}">{name}</a>\n')
    return str(folder / "simple")


def test_a_folder_serves_without_the_network(store: Store, tmp_path: Path) -> None:
    place = folder_index(tmp_path / "index", APP)
    step = wheels("app")
    pins = resolve(step, store, place, offline=True)
    assert names(pins) == RESOLVED
    found = fetch_wheels.downloads(step, pins, context(store, place, offline=True).settings)
    assert [got.digest for got in fetch_all(store, found, tell=ignore, offline=True)] == [
        pin.sha256 for pin in pins
    ]


def test_a_build_fetches_from_a_folder_that_is_not_the_recipe_s(store: Store, tmp_path: Path) -> None:
    place, step = folder_index(tmp_path / "index", APP), wheels("app")
    pins = resolve(step, store, place)
    empty = Store.open(tmp_path / "empty")
    project = Project(context(empty, place).settings)
    wanted = missing_downloads(project, derive_step(step, pins), tmp_path / "recipe")
    assert [got.digest for got in fetch_all(empty, wanted, tell=ignore)] == [pin.sha256 for pin in pins]


SOURCE_ONLY = {"only-1.0.tar.gz": b"source", "only-0.9.tar.gz": b"source"}
OTHER_PYTHON = {
    "only-1.0-cp36-cp36m-manylinux1_x86_64.whl": wheel("only", "1.0", {"only.py": b""}),
    "only-1.0-cp39-cp39-manylinux1_x86_64.whl": wheel("only", "1.0", {"only.py": b""}),
    "only-2.0-py3-none-any.whl": wheel("only", "2.0", {"only.py": b""}),
}
OTHER_PLATFORM = {
    "only-1.0-py3-none-win_amd64.whl": wheel("only", "1.0", {"only.py": b""}),
    "only-1.0-py3-none-macosx_11_0_arm64.whl": wheel("only", "1.0", {"only.py": b""}),
}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (SOURCE_ONLY, "only 1.0 is there as a source archive only; no other version"),
        (
            OTHER_PYTHON,
            "only 1.0 has wheels for other Pythons only (cp36, cp39); "
            "the nearest version with a wheel that fits is 2.0",
        ),
        (OTHER_PLATFORM, "only 1.0 has wheels for other platforms only (macosx_11_0_arm64, win_amd64)"),
    ],
    ids=["source", "Python", "platform"],
)
def test_a_requirement_without_a_wheel_says_what_there_is(
    store: Store, files: Mapping[str, bytes], said: str
) -> None:
    with simple_index(files) as served, pytest.raises(RecipeError) as caught:
        resolve(wheels("only==1.0"), store, served.url)
    assert said in caught.value.message
    assert "test_wheels.py:" in caught.value.message and "Python 3.11" in caught.value.message
    assert "build=True" in caught.value.hint


def test_versions_at_odds_are_explained_by_uv(store: Store) -> None:
    files = {
        "one-1.0-py3-none-any.whl": wheel("one", "1.0", {"one.py": b""}, requires=["three<2"]),
        "two-1.0-py3-none-any.whl": wheel("two", "1.0", {"two.py": b""}, requires=["three>=2"]),
        "three-1.0-py3-none-any.whl": wheel("three", "1.0", {"three.py": b""}),
        "three-2.0-py3-none-any.whl": wheel("three", "2.0", {"three.py": b""}),
    }
    with simple_index(files) as served, pytest.raises(RecipeError) as caught:
        resolve(wheels("one", "two"), store, served.url)
    assert "no set of versions fits wheels one two" in caught.value.message
    assert "three<2" in caught.value.message and "three>=2" in caught.value.message


def test_a_package_that_is_nowhere_is_named(store: Store, index: Index) -> None:
    with pytest.raises(RecipeError, match="the Python index has no package nowhere"):
        resolve(wheels("nowhere"), store, index.url)


@pytest.mark.parametrize(
    ("step", "error", "said"),
    [
        (wheels("not a requirement"), RecipeError, "not a requirement"),
        (wheels("dep @ file:///tmp/dep-1.0-py3-none-any.whl"), RecipeError, "an address has to be"),
        (wheels("dep @ https://me:secret@host.example/dep-1.0-py3-none-any.whl"), RecipeError, "password"),
        (wheels("dep", python="3.9"), RecipeError, "the image has Python 3.11"),
    ],
    ids=["nonsense", "file", "password", "another Python"],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(
    store: Store, index: Index, step: Wheels, error: type[ReprobuildError], said: str
) -> None:
    with pytest.raises(error, match=said):
        resolve(step, store, index.url)
    assert index.asked == []


def test_an_address_of_a_wheel_is_kept_in_the_pin(store: Store, index: Index) -> None:
    address = index.url.replace("/simple", "/files/dep-1.0-py3-none-any.whl")
    step = wheels(f"dep @ {address}")
    [pin] = resolve(step, store, index.url)
    assert pin.found == {"url": address} and pin.sha256 == Digest.of(APP["dep-1.0-py3-none-any.whl"])
    [download] = fetch_wheels.downloads(step, [pin], context(store, "/nowhere").settings)
    assert download.urls == (address,)


def test_without_the_network_it_is_an_error_that_names_what_is_needed(store: Store, index: Index) -> None:
    step = wheels("app")
    pins = resolve(step, store, index.url)
    before = len(index.asked)
    with pytest.raises(OfflineError):
        resolve(step, store, index.url, offline=True)
    with pytest.raises(OfflineError) as caught:
        fetch_wheels.downloads(step, pins, context(store, index.url, offline=True).settings)
    assert all(name in caught.value.message for name in RESOLVED)
    assert len(index.asked) == before


def test_an_index_that_lost_a_file_or_has_another_is_an_error(store: Store, index: Index) -> None:
    step = wheels("dep")
    pins = resolve(step, store, index.url)
    given = context(store, index.url).settings
    index.files[RESOLVED[1]] = b"something else"
    with pytest.raises(CheckFailedError, match=r"another file under the name dep-2\.0"):
        fetch_wheels.downloads(step, pins, given)
    del index.files[RESOLVED[1]]
    with pytest.raises(UpstreamError, match=r"has no file dep-2\.0"):
        fetch_wheels.downloads(step, pins, given)


def test_mirrors_of_the_step_serve_what_the_index_lost(store: Store, index: Index, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    for name in RESOLVED:
        (tmp_path / "mirror" / name).write_bytes(APP[name])
    pins = resolve(wheels("app"), store, index.url)
    index.files.clear()
    index.files[RESOLVED[0]] = b"something else"
    with served(tmp_path / "mirror") as (url, asked):
        step = wheels("app", mirrors=[url])
        found = fetch_wheels.downloads(step, pins, context(store, index.url).settings)
        assert [got.digest for got in fetch_all(store, found, tell=ignore)] == [pin.sha256 for pin in pins]
    assert sorted(asked) == sorted(f"/{name}" for name in RESOLVED)


def test_mirrors_of_the_step_serve_while_the_index_is_silent(
    store: Store, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = resolve(wheels("dep"), store, index.url)
    with simple_index({}) as silent:
        address = silent.url
    step = wheels("dep", mirrors=["https://mirror.test/wheels/"])
    (found,) = fetch_wheels.downloads(step, pins, context(store, address).settings)
    assert found.urls == (f"https://mirror.test/wheels/{RESOLVED[1]}",)


def test_an_index_that_does_not_answer_is_an_error_from_outside(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with simple_index({}) as served:
        address = served.url
    with pytest.raises(UpstreamError, match="the Python index does not answer"):
        resolve(wheels("dep"), store, address)


def test_uv_writes_nowhere_but_to_scratch(
    store: Store, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
    resolve(wheels("app"), store, index.url)
    assert list(home.iterdir()) == []
    left = [path for path in (store.root / "tmp").rglob("*") if "uv" in path.name or "cache" in path.name]
    assert left == []


def test_the_configured_index_serves(store: Store) -> None:
    from reprobuild.fetch.http import is_network_cut

    given = context(store, "")
    step = wheels("six==1.16.0")
    try:
        pins = lock_wheels.resolve(step, given)
        found = fetch_wheels.downloads(step, pins, given.settings)
    except (OfflineError, UpstreamError) as error:
        require("python-index", "there is no network" if is_network_cut() else error.message)
        raise
    assert names(pins) == ["six-1.16.0-py2.py3-none-any.whl"]
    assert pins[0].sha256.hex == "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"
    assert pins[0].found == {}
    [got] = fetch_all(store, found, tell=ignore)
    assert (got.digest, got.size) == (pins[0].sha256, pins[0].size)
