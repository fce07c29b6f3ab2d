"""Commits of git repositories: what is pinned of them, and how they come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reprobuild import git
from reprobuild.build.place import git as placing
from reprobuild.derivation.pins import Pin
from reprobuild.digest import Digest
from reprobuild.errors import (
    CheckFailedError,
    DigestMismatchError,
    OfflineError,
    OutsideError,
    RecipeError,
    UpstreamError,
)
from reprobuild.events import Warned
from reprobuild.store.store import Store
from tests.git_scene import FILES, Scene, in_git, made, make_scene
from tests.golden import assert_golden
from tests.sites.git import GitSite, repository
from tests.upstreams import Answer, Request, moved, page

pytestmark = pytest.mark.once


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with make_scene(tmp_path, monkeypatch) as scene:
        yield scene


def test_a_commit_comes_to_one_pin_and_all_of_its_files(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    pin = scene.resolve(git("https://git.test/model.git", commit, to="/opt/model"))
    assert pin.name == f"model-{commit[:12]}.tree"
    assert {path: body for path, (_, _, body) in scene.tree(pin).items() if body} == FILES
    assert set(scene.tree(pin)) == {*FILES, "src", "data"}
    assert scene.store.blobs.has(Digest.of(FILES["data/big.bin"]))
    assert not list((scene.folder / "store/tmp").glob("git-*"))


def test_a_placement_is_below_its_folder(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    step = git("https://git.test/model.git", commit, to="/opt/model/")
    pin = scene.resolve(step)
    with scene.store.transaction() as group:
        placed = placing.place(step, [pin], {}, scene.store, group)
    listing = [[entry.path, entry.kind, f"{entry.mode:o}", str(entry.digest)] for entry in placed.entries]
    assert_golden("place/git", {"commit": commit, "pin": str(pin.sha256), "entries": listing})


def test_an_older_commit_is_taken_as_it_was(scene: Scene) -> None:
    first = repository(scene.folder / "served/model.git", FILES)
    repository(scene.folder / "served/model.git", {"README.md": b"changed"}, message="second")
    pin = scene.resolve(git("https://git.test/model.git", first, to="/m"))
    assert scene.tree(pin)["README.md"][2] == FILES["README.md"]


def test_neither_filters_nor_attributes_nor_line_ends_count(scene: Scene) -> None:
    texts = {
        ".gitattributes": b"* text=auto eol=crlf ident export-subst\nsecret export-ignore\n",
        "a.txt": b"one\ntwo $Id$ $Format:%H$\n",
        "secret": b"s\n",
    }
    commit = made(scene.folder / "served/raw.git", {name: ("100644", body) for name, body in texts.items()})
    pin = scene.resolve(git("https://git.test/raw.git", commit, to="/m"))
    assert {path: body for path, (_, _, body) in scene.tree(pin).items()} == texts


def test_links_stay_links_and_modes_are_two(scene: Scene) -> None:
    items: dict[str, tuple[str, bytes | str]] = {
        "run": ("100755", b"#!/bin/sh\n"),
        "old": ("100664", b"x"),
        "link": ("120000", b"../elsewhere"),
    }
    commit = made(scene.folder / "served/raw.git", items)
    found = scene.tree(scene.resolve(git("https://git.test/raw.git", commit, to="/m")))
    assert found == {
        "run": ("f", 0o755, b"#!/bin/sh\n"),
        "old": ("f", 0o644, b"x"),
        "link": ("l", 0o777, "../elsewhere"),
    }


@pytest.mark.parametrize(
    ("items", "named"),
    [
        pytest.param({"..": ("100644", b"x")}, r"/\.\.", id="above"),
        pytest.param({".git": ("100644", b"x")}, r"/\.git", id="git"),
        pytest.param({".GIT": ("100644", b"x")}, r"/\.GIT", id="git-in-capitals"),
        pytest.param({"a\\b": ("100644", b"x")}, r"a\\\\b", id="backslash"),
        pytest.param({"a\nb": ("100644", b"x")}, r"a\\nb", id="line-feed"),
        pytest.param({".wh.a": ("100644", b"x")}, r"\.wh\.a", id="whiteout"),
        pytest.param({"\udcff": ("100644", b"x")}, r"xff", id="no-utf-8"),
        pytest.param({"a": ("120000", b"b\0c")}, "link", id="link-with-nul"),
    ],
)
def test_what_no_file_system_should_be_given_is_named(
    scene: Scene, items: dict[str, tuple[str, bytes | str]], named: str
) -> None:
    commit = made(scene.folder / "served/bad.git", items)
    with pytest.raises((CheckFailedError, UpstreamError)) as caught:
        scene.resolve(git("https://git.test/bad.git", commit, to="/m"))
    if isinstance(caught.value, CheckFailedError):
        assert caught.match(named)
    else:
        assert caught.match("fsck|hasDot|object")
    assert not list((scene.folder / "store/realisations").iterdir())


def test_a_fresh_store_gets_the_same_tree_again(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    step = git("https://git.test/model.git", commit, to="/m")
    pin = scene.resolve(step)
    fresh = Store.open(scene.folder / "fresh")
    assert scene.bring(step, pin, fresh) == 1
    assert fresh.blobs.read(Digest.of(FILES["data/big.bin"])) == FILES["data/big.bin"]
    assert scene.bring(step, pin, fresh) == 0


def test_a_body_that_is_gone_is_missed(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    step = git("https://git.test/model.git", commit, to="/m")
    pin = scene.resolve(step)
    scene.store.blobs.path(Digest.of(FILES["README.md"])).unlink()
    assert scene.bring(step, pin, scene.store) == 1
    assert scene.store.blobs.has(Digest.of(FILES["README.md"]))


def test_offline_names_what_is_needed_from_where(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    step = git("https://git.test/model.git", commit, to="/m")
    pin = scene.resolve(step)
    with pytest.raises(OfflineError, match=r"model-.*\.tree from https://git\.test/model\.git"):
        scene.bring(step, pin, Store.open(scene.folder / "fresh"), offline=True)


def test_a_tree_that_is_not_the_pinned_one_is_refused(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    step = git("https://git.test/model.git", commit, to="/m")
    pin = Pin("model.tree", 7, Digest.of(b"another"))
    with pytest.raises(DigestMismatchError, match="the tree is not the pinned one"):
        scene.bring(step, pin, Store.open(scene.folder / "fresh"))


def test_a_mirror_counts_where_the_address_is_gone(scene: Scene) -> None:
    scene.net.add("gone.test", lambda request: page("gone", 404))
    commit = repository(scene.folder / "served/model.git", FILES)
    step = git("https://gone.test/model", commit, to="/m", mirrors=["https://git.test/model.git"])
    pin = scene.resolve(step)
    assert scene.tree(pin)["README.md"][2] == FILES["README.md"]
    assert any(isinstance(event, Warned) and "404" in event.text for event in scene.events)


def test_a_redirect_is_followed(scene: Scene) -> None:
    scene.net.add("old.test", lambda request: moved(f"https://git.test{request.target}", 301))
    commit = repository(scene.folder / "served/model.git", FILES)
    pin = scene.resolve(git("https://old.test/model.git", commit, to="/m"))
    assert scene.tree(pin)["README.md"][2] == FILES["README.md"]


def test_a_page_to_log_in_is_no_repository(scene: Scene) -> None:
    scene.net.add("shut.test", lambda request: moved("https://shut.test/login"))
    with pytest.raises(UpstreamError, match="which is no repository") as caught:
        scene.resolve(git("https://shut.test/model.git", "0" * 40, to="/m"))
    assert "netrc" in caught.value.hint


def test_a_redirect_to_what_is_no_address_is_told(scene: Scene) -> None:
    scene.net.add("shut.test", lambda request: moved("https://[1/info/refs"))
    with pytest.raises(UpstreamError, match=r"shut\.test/model\.git redirects to what is no address"):
        scene.resolve(git("https://shut.test/model.git", "0" * 40, to="/m"))


def test_a_commit_that_is_not_there_is_named(scene: Scene) -> None:
    repository(scene.folder / "served/model.git", FILES)
    with pytest.raises(UpstreamError, match="has no commit 1111"):
        scene.resolve(git("https://git.test/model.git", "1" * 40, to="/m"))


def test_a_tag_is_no_commit(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    served = scene.folder / "served/model.git"
    in_git(served, "tag", "--annotate", "--message", "m", "release", commit)
    with pytest.raises(RecipeError, match="is a tag") as caught:
        scene.resolve(git("https://git.test/model.git", in_git(served, "rev-parse", "release"), to="/m"))
    assert commit in caught.value.hint


class Reluctant:
    """A host that gives what it advertises alone, by the older protocol."""

    def __init__(self, site: GitSite) -> None:
        self.site = site

    def __call__(self, request: Request) -> Answer:
        headers = {name: value for name, value in request.headers.items() if name != "git-protocol"}
        older = Request(request.scheme, request.method, request.host, request.target, headers, request.body)
        return self.site(older)


def test_a_server_that_gives_only_what_it_advertises(scene: Scene) -> None:
    first = repository(scene.folder / "served/model.git", FILES)
    repository(scene.folder / "served/model.git", {"README.md": b"changed"}, message="second")
    served = scene.folder / "served/model.git"
    in_git(served, "tag", "-d", "v1")
    in_git(served, "config", "uploadpack.allowAnySHA1InWant", "false")
    scene.net.add("git.test", Reluctant(GitSite(scene.folder / "served", any_commit=False)))
    pin = scene.resolve(git("https://git.test/model.git", first, to="/m"))
    assert scene.tree(pin)["README.md"][2] == FILES["README.md"]


def test_a_plain_file_server_will_do(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    served = scene.folder / "served"
    in_git(served / "model.git", "update-server-info")

    def site(request: Request) -> Answer:
        path = served / request.path.lstrip("/")
        return Answer(path.read_bytes()) if path.is_file() else page("nothing", 404)

    scene.net.add("files.test", site)
    pin = scene.resolve(git("https://files.test/model.git", commit, to="/m"))
    assert scene.tree(pin)["README.md"][2] == FILES["README.md"]


def test_an_address_that_is_not_public_is_refused(scene: Scene) -> None:
    step = git("https://127.0.0.1/model.git", "0" * 40, to="/m")
    with pytest.raises(UpstreamError, match="not public") as caught:
        scene.resolve(step)
    assert "--allow-private" in caught.value.hint


def test_credentials_are_those_of_netrc_and_go_to_their_host(scene: Scene) -> None:
    site = GitSite(scene.folder / "served")
    commit = repository(scene.folder / "served/model.git", FILES)

    def guarded(request: Request) -> Answer:
        if "authorization" not in request.headers:
            return Answer(b"who are you?", 401, {"WWW-Authenticate": 'Basic realm="x"'})
        return site(request)

    scene.net.add("git.test", guarded)
    step = git("https://git.test/model.git", commit, to="/m")
    with pytest.raises(UpstreamError, match="401") as caught:
        scene.resolve(step)
    assert "netrc" in caught.value.hint
    (scene.folder / ".netrc").write_text("machine git.test login me password s3cret-word\n")
    (scene.folder / ".netrc").chmod(0o600)
    assert scene.tree(scene.resolve(step))["README.md"][2] == FILES["README.md"]
    kept = [path for path in (scene.folder / "store").rglob("*") if path.is_file()]
    assert not [path for path in kept if b"s3cret-word" in path.read_bytes()]


def test_git_that_is_not_installed_is_said(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(scene.folder))
    with pytest.raises(OutsideError, match="git is not installed"):
        scene.resolve(git("https://git.test/model.git", "0" * 40, to="/m"))


def test_the_users_own_settings_do_not_count(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    evil = '[core]\n\tgitProxy = /bin/false\n[url "https://nowhere.test/"]\n\tinsteadOf = http://\n'
    (scene.folder / ".gitconfig").write_text(evil)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'http.proxy=http://nowhere.test'")
    pin = scene.resolve(git("https://git.test/model.git", commit, to="/m"))
    assert scene.tree(pin)["README.md"][2] == FILES["README.md"]


def test_a_bundle_of_the_recipes_folder(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    bundle = scene.folder / "recipe/model.bundle"
    in_git(scene.folder / "served/model.git", "bundle", "create", str(bundle), "--all")
    pin = scene.resolve(git("file:model.bundle", commit, to="/m"))
    assert scene.tree(pin)["README.md"][2] == FILES["README.md"]
    assert pin.sha256 == scene.resolve(git("https://git.test/model.git", commit, to="/m")).sha256


def test_what_is_no_bundle_is_said(scene: Scene) -> None:
    (scene.folder / "recipe/model.git").write_text("gitdir: /nowhere\n")
    with pytest.raises(UpstreamError, match="no bundle"):
        scene.resolve(git("file:model.git", "0" * 40, to="/m"))
    with pytest.raises(RecipeError, match="outside the recipe's folder"):
        scene.resolve(git("file:../served", "0" * 40, to="/m"))
