from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reprobuild import git, settings
from reprobuild.build.place import git as placing
from reprobuild.build.plan import missing_downloads
from reprobuild.build.project import Project
from reprobuild.build.realize import fetch
from reprobuild.derivation.derive import derive_step
from reprobuild.derivation.pins import Pin
from reprobuild.derivation.steps import Git
from reprobuild.digest import Digest
from reprobuild.errors import (
    CheckFailedError,
    DigestMismatchError,
    OfflineError,
    OutsideError,
    RecipeError,
    UpstreamError,
)
from reprobuild.events import Event, Note, Warned
from reprobuild.lock.git import resolve
from reprobuild.lock.resolver import Context
from reprobuild.store.store import Store
from reprobuild.tree import Tree
from tests.golden import assert_golden
from tests.projects import Project as CliProject
from tests.projects import require_sandbox
from tests.require import require
from tests.sites.git import IDENTITY, GitSite, repository
from tests.upstreams import Answer, Request, Upstreams, moved, page, upstreams

FILES = {"README.md": b"# model\n", "src/run.py": b"print(1)\n", "data/big.bin": bytes(range(256)) * 4096}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"


@dataclass
class Scene:
    """Hosts with repositories, and a store that begins empty."""

    folder: Path
    net: Upstreams
    store: Store
    events: list[Event] = field(default_factory=list)

    def settings(self, **flags: object) -> settings.Settings:
        hosts = tuple(sorted(self.net.sites))
        given = {"connect_to": tuple(self.net.connect_to()), "allow_private": hosts, **flags}
        return settings.load(given, {}, str(self.folder))

    def resolve(self, step: Git) -> Pin:
        context = Context(
            self.store, self.settings(), self.events.append, "linux/amd64", Tree(), self.folder / "recipe"
        )
        (pin,) = resolve(step, context)
        return pin

    def tree(self, pin: Pin) -> dict[str, tuple[str, int, bytes | str]]:
        """Give kind, mode and body or target of every path that a pin lists."""
        found: dict[str, tuple[str, int, bytes | str]] = {}
        for entry in Tree.parse(self.store.blobs.read(pin.sha256)):
            body = self.store.blobs.read(entry.digest) if entry.digest else entry.target
            found[entry.path] = entry.kind, entry.mode, body
        return found

    def bring(self, step: Git, pin: Pin, store: Store, **flags: object) -> int:
        """Fetch what a fresh store lacks of a pinned step; give how many downloads that were."""
        project = Project(self.settings(store=str(store.path), **flags), self.events.append)
        wanted = missing_downloads(project, derive_step(step, [pin]), self.folder / "recipe")
        fetch(project, wanted)
        return len(wanted)

    def notes(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Note)]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    require("git")
    (tmp_path / "recipe").mkdir()
    with upstreams(tmp_path) as net:
        net.add("git.test", GitSite(tmp_path / "served"))
        (tmp_path / "served").mkdir()
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(net.authority.path))
        monkeypatch.setenv("HOME", str(tmp_path))
        yield Scene(tmp_path, net, Store.open(tmp_path / "store"))


def in_git(at: Path, *arguments: str, input: bytes | None = None) -> str:
    environment = {"PATH": os.environ["PATH"], **IDENTITY, "GIT_ALLOW_PROTOCOL": "file"}
    done = subprocess.run(["git", *arguments], cwd=at, env=environment, input=input, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def made(repository: Path, items: Mapping[str, tuple[str, bytes | str]]) -> str:
    """Commit one flat tree of raw items, name → mode and blob or object name, as no work tree could."""
    if not repository.exists():
        in_git(repository.parent, "init", "--quiet", "--bare", "--initial-branch=main", str(repository))
    lines = b""
    for name, (mode, body) in sorted(items.items()):
        digits = (
            body if isinstance(body, str) else in_git(repository, "hash-object", "-w", "--stdin", input=body)
        )
        lines += f"{mode} {name}".encode(errors="surrogateescape") + b"\0" + bytes.fromhex(digits)
    tree = in_git(repository, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", input=lines)
    commit = in_git(repository, "commit-tree", tree, "-m", "made")
    in_git(repository, "update-ref", "refs/heads/main", commit)
    return commit


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


def with_submodule(scene: Scene, address: str) -> tuple[str, str]:
    inner = repository(scene.folder / "served/inner.git", {"inner.txt": b"inner\n"})
    modules = f'[submodule "i"]\n\tpath = inner\n\turl = {address}\n'.encode()
    outer = made(
        scene.folder / "served/outer.git",
        {".gitmodules": ("100644", modules), "inner": ("160000", inner), "a": ("100644", b"a")},
    )
    return outer, inner


@pytest.mark.parametrize(
    "address",
    ["https://git.test/inner.git", "../inner.git", "git@git.test:inner.git", "git://git.test/inner.git"],
)
def test_submodules_come_at_their_commit(scene: Scene, address: str) -> None:
    outer, _ = with_submodule(scene, address)
    repository(scene.folder / "served/inner.git", {"inner.txt": b"newer\n"}, message="newer")
    pin = scene.resolve(git("https://git.test/outer.git", outer, to="/m", submodules=True))
    found = scene.tree(pin)
    assert found["inner"][0] == "d"
    assert found["inner/inner.txt"][2] == b"inner\n"


def test_submodules_that_are_not_asked_for_are_empty_folders(scene: Scene) -> None:
    outer, _ = with_submodule(scene, "../inner.git")
    found = scene.tree(scene.resolve(git("https://git.test/outer.git", outer, to="/m")))
    assert found["inner"] == ("d", 0o755, "")
    assert [note for note in scene.notes() if "submodules=True" in note]


@pytest.mark.parametrize("address", ["file:///etc", "ext::sh -c id", "/etc", "--upload-pack=id"])
def test_submodules_are_reached_by_http_alone(scene: Scene, address: str) -> None:
    outer, _ = with_submodule(scene, address)
    with pytest.raises(UpstreamError):
        scene.resolve(git("https://git.test/outer.git", outer, to="/m", submodules=True))


class LargeFiles:
    """A server of Git LFS: its batch API, and objects at another host, behind a token."""

    def __init__(self, site: GitSite, objects: Mapping[str, bytes], **download: object) -> None:
        self.site = site
        self.objects = objects
        self.download = download
        """What is said of an object instead."""

    def __call__(self, request: Request) -> Answer:
        if not request.path.endswith("/info/lfs/objects/batch"):
            return self.site(request)
        asked = json.loads(request.body)["objects"]
        answers = [
            {
                **one,
                "actions": {
                    "download": {
                        "href": f"https://large.test/{one['oid']}?signature=s3cret",
                        "header": {"X-Token": "t0ken"},
                        **self.download,
                    }
                },
            }
            if one["oid"] in self.objects
            else {**one, "error": {"code": 404, "message": "no such object"}}
            for one in asked
        ]
        return Answer(json.dumps({"objects": answers}).encode(), 200, {"Content-Type": "application/json"})

    def large(self, request: Request) -> Answer:
        if request.headers.get("x-token") != "t0ken":
            return Answer(b"", 403)
        return Answer(self.objects[request.path.lstrip("/")])


def with_large_files(scene: Scene, body: bytes, served: bytes) -> str:
    digits = hashlib.sha256(body).hexdigest()
    site = LargeFiles(GitSite(scene.folder / "served"), {digits: served})
    scene.net.add("git.test", site)
    scene.net.add("large.test", site.large)
    pointer = POINTER.format(digits, len(body)).encode()
    return made(scene.folder / "served/lfs.git", {"model.bin": ("100755", pointer)})


def test_pointers_of_lfs_are_counted(scene: Scene) -> None:
    commit = with_large_files(scene, b"weights", b"weights")
    found = scene.tree(scene.resolve(git("https://git.test/lfs.git", commit, to="/m")))
    assert str(found["model.bin"][2]).startswith("b'version")
    assert [note for note in scene.notes() if "1 pointers of Git LFS" in note]


def test_large_files_come_with_lfs(scene: Scene) -> None:
    commit = with_large_files(scene, b"weights" * 1000, b"weights" * 1000)
    pin = scene.resolve(git("https://git.test/lfs.git", commit, to="/m", lfs=True))
    assert scene.tree(pin)["model.bin"] == ("f", 0o755, b"weights" * 1000)


def test_a_large_file_that_is_another_is_refused(scene: Scene) -> None:
    commit = with_large_files(scene, b"weights", b"wrights")
    with pytest.raises(DigestMismatchError, match=r"/model\.bin") as caught:
        scene.resolve(git("https://git.test/lfs.git", commit, to="/m", lfs=True))
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    "download",
    [
        {"href": "https://[1/x"},
        {"href": "https://large.test:99999/x"},
        {"header": {"X-Token": "a\r\nb"}},
        {"header": {"X Token": "a"}},
    ],
    ids=str,
)
def test_a_large_file_at_what_is_no_address_is_told(scene: Scene, download: dict[str, object]) -> None:
    commit = with_large_files(scene, b"weights", b"weights")
    digits = hashlib.sha256(b"weights").hexdigest()
    scene.net.add("git.test", LargeFiles(GitSite(scene.folder / "served"), {digits: b"weights"}, **download))
    with pytest.raises(UpstreamError, match="the answer is not one of a server of Git LFS"):
        scene.resolve(git("https://git.test/lfs.git", commit, to="/m", lfs=True))


def test_a_large_file_that_is_gone_is_named(scene: Scene) -> None:
    commit = with_large_files(scene, b"weights", b"weights")
    scene.net.add("git.test", LargeFiles(GitSite(scene.folder / "served"), {}))
    with pytest.raises(UpstreamError, match=r"/model\.bin: .*no such object"):
        scene.resolve(git("https://git.test/lfs.git", commit, to="/m", lfs=True))


RECIPE = """\
from reprobuild import git, image, recipe

@recipe(version="1.0")
def copier():
    mirrors = ["https://two.test/model.git"]
    return image(git("https://git.test/model.git", "{commit}", to="/opt/model", mirrors=mirrors))
"""


def project_of(scene: Scene, commit: str) -> CliProject:
    require_sandbox(scene.folder / "trial")
    folder = scene.folder / "project"
    (folder / "recipes/copier").mkdir(parents=True)
    (folder / "reprobuild.toml").write_text("")
    (folder / "recipes/copier/recipe.py").write_text(RECIPE.format(commit=commit))
    return CliProject(folder, folder / "store", scene.net.environment())


def test_a_recipe_is_locked_and_built_again_in_a_fresh_store(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    project = project_of(scene, commit)
    project.call("lock", "copier")
    image = project.call("realize", "copier", "--json").json["image_id"]
    scene.net.stop()
    assert project.call("realize", "copier", "--offline", "--json").json["image_id"] == image
    fresh = CliProject(project.folder, scene.folder / "fresh", project.environment)
    planned = fresh.call("realize", "copier", "--dry-run", "--json").json
    assert planned["fetch"] == [{"name": f"model-{commit[:12]}.tree", "size": None}]
    gone = fresh.call("realize", "copier", "--offline", check=False)
    assert gone.code == 5
    assert "https://git.test/model.git" in gone.err
    scene.net.start()
    scene.net.add("git.test", lambda request: page("gone", 410))
    scene.net.add("two.test", GitSite(scene.folder / "served"))
    other = CliProject(project.folder, scene.folder / "fresh", scene.net.environment())
    assert other.call("realize", "copier", "--json").json["image_id"] == image
    other.call("gc")
    assert other.call("realize", "copier", "--offline", "--json").json["image_id"] == image


def test_a_host_that_is_gone_is_exit_code_5(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    project = project_of(scene, commit)
    scene.net.stop()
    ended = project.call("lock", "copier", check=False)
    assert ended.code == 5
    assert "recipe.py:6" in ended.err
    assert "git.test" in ended.err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=lambda one: one.name)
def test_a_lock_that_is_killed_midway_leaves_nothing(scene: Scene, number: signal.Signals) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    reached, go_on = threading.Event(), threading.Event()
    site = GitSite(scene.folder / "served")

    def slow(request: Request) -> Answer:
        answer = site(request)
        if b"pack" not in bytes(request.body) or b"want" not in request.body:
            return answer
        assert isinstance(answer.body, bytes)

        def pieces(body: bytes) -> Iterator[bytes]:
            yield body[: len(body) // 2]
            reached.set()
            go_on.wait(60)
            yield body[len(body) // 2 :]

        return Answer(pieces(answer.body), answer.status, answer.headers)

    scene.net.add("git.test", slow)
    project = project_of(scene, commit)
    child = subprocess.Popen(
        project.argv("lock", "copier"),
        cwd=project.folder,
        env=project.full_environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        assert reached.wait(60)
        child.send_signal(number)
        child.wait(60)
    finally:
        child.kill()
        child.wait()
        go_on.set()
    assert not (project.folder / "recipes/copier/recipe.lock").exists()
    scene.net.add("git.test", site)
    project.call("lock", "copier")
    project.call("gc")
    assert not list((project.store / "tmp").glob("git-*"))


def test_exported_sources_are_enough_without_a_server(scene: Scene, tmp_path: Path) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    project = project_of(scene, commit)
    project.call("lock", "copier")
    image = project.call("realize", "copier", "--json").json["image_id"]
    project.call("export", "copier", "--sources", str(tmp_path / "sources"))
    scene.net.stop()
    fresh = CliProject(project.folder, scene.folder / "fresh", project.environment)
    fresh.call("import", str(tmp_path / "sources"))
    assert fresh.call("realize", "copier", "--offline", "--json").json["image_id"] == image


def test_nothing_differs_until_the_server_does(scene: Scene) -> None:
    commit = repository(scene.folder / "served/model.git", FILES)
    project = project_of(scene, commit)
    project.call("lock", "copier")
    repository(scene.folder / "served/model.git", {"README.md": b"changed"}, message="second")
    assert project.call("lock", "copier", "--check").code == 0
