"""Files that git repositories hold as pointers of Git LFS."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from reprobuild import git
from reprobuild.errors import DigestMismatchError, UpstreamError
from tests.git_scene import Scene, made, make_scene
from tests.sites.git import GitSite
from tests.upstreams import Answer, Request

pytestmark = pytest.mark.once

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    with make_scene(tmp_path, monkeypatch) as scene:
        yield scene


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


def test_an_answer_of_git_lfs_without_end_is_told(scene: Scene) -> None:
    commit = with_large_files(scene, b"weights", b"weights")
    site = GitSite(scene.folder / "served")
    deep = Answer(b'{"objects":' + b"[" * 100_000)
    scene.net.add("git.test", lambda one: deep if one.path.endswith("/objects/batch") else site(one))
    with pytest.raises(UpstreamError, match=r"is not one of a server of Git LFS.*it is nested too deeply"):
        scene.resolve(git("https://git.test/lfs.git", commit, to="/m", lfs=True))


def test_a_large_file_that_is_gone_is_named(scene: Scene) -> None:
    commit = with_large_files(scene, b"weights", b"weights")
    scene.net.add("git.test", LargeFiles(GitSite(scene.folder / "served"), {}))
    with pytest.raises(UpstreamError, match=r"/model\.bin: .*no such object"):
        scene.resolve(git("https://git.test/lfs.git", commit, to="/m", lfs=True))
